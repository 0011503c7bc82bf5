//! The marks on their way to the disk.

use super::super::node::{JournalWork, Stage};
use super::super::world::{Local, World};
use super::Job;
use tandem_repl::logic::member::Input;

impl World {
    /// Starts the next work on the journal, if there is any and none runs.
    pub fn flush_journal(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(daemon) = node.daemon.as_mut() else {
            return;
        };
        if daemon.journal.running.is_some() {
            return;
        }
        if let Some((records, seq, round)) = daemon.journal.replace.take() {
            daemon.journal.running = Some(JournalWork::Replace(records, seq, round));
        } else {
            let (records, seq) = daemon.map.take_pending();
            let waits = |job: &Job| matches!(job.stage, Stage::Marking(_));
            if records.is_empty() && !daemon.jobs.values().any(waits) {
                return;
            }
            node.journal.append(records);
            daemon.journal.running = Some(JournalWork::Flush(node.journal.len(), seq));
        }
        let time = node.disk_time(500, 5000);
        self.after(n, time, Local::Journaled);
    }

    pub fn on_journaled(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(daemon) = node.daemon.as_mut() else {
            return;
        };
        match daemon.journal.running.take() {
            Some(JournalWork::Flush(len, seq)) => {
                node.journal.flushed(len);
                daemon.map.flushed(seq);
                daemon.map_flushed = daemon.map_flushed.max(seq);
            }
            Some(JournalWork::Replace(records, seq, round)) => {
                node.journal.replace(records);
                daemon.map.flushed(seq);
                daemon.map_flushed = daemon.map_flushed.max(seq);
                if round != 0 {
                    self.tell(n, Input::MarksDropped(round, Ok(())));
                }
                self.look_at_marks("marks were dropped");
            }
            None => {}
        }
        self.go_on_marked(n);
        self.flush_journal(n);
    }

    /// Changes whose marks are durable now go on.
    fn go_on_marked(&mut self, n: usize) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let flushed = daemon.map_flushed;
        let mut ready = Vec::new();
        for (id, job) in &mut daemon.jobs {
            if let Stage::Marking(needs) = job.stage
                && needs <= flushed
            {
                job.stage = Stage::Applying;
                ready.push(*id);
            }
        }
        for id in ready {
            self.later(n, 20, 200, Local::Applied(id));
        }
    }
}
