//! Feeds the member machine of a node and performs what it decides, one thing after the other, as
//! `repl/io/driver/director` does: outputs in order, inputs they cause before the next news, and
//! standing still while the record is written or the gate closes.

use super::change::show;
use super::node::{Barrier, Busy, NAMES, News, Question};
use super::resync::TargetRun;
use super::world::{Local, World};
use super::{Msg, WIRE};
use tandem_repl::ids::Id128;
use tandem_repl::logic::member::{Input, Output, ResyncOrder};
use tandem_repl::wire::{Control, Hello};

impl World {
    /// News for the director.
    pub fn news(&mut self, n: usize, news: News) {
        if let Some(daemon) = self.nodes[n].daemon.as_mut() {
            daemon.inbox.push_back(news);
            self.direct(n);
        }
    }

    pub fn tell(&mut self, n: usize, input: Input) {
        self.news(n, News::Input(input));
    }

    /// Goes on as far as possible. Not entered again from what it does: that is done on the way.
    pub fn direct(&mut self, n: usize) {
        if self.directing[n] {
            return;
        }
        self.directing[n] = true;
        while self.direct_once(n) {}
        self.directing[n] = false;
    }

    fn direct_once(&mut self, n: usize) -> bool {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return false;
        };
        if daemon.busy.is_some() || daemon.is_exiting {
            return false;
        }
        if let Some(output) = daemon.outputs.pop_front() {
            self.perform(n, output);
        } else if let Some(input) = daemon.inputs.pop_front() {
            self.handle(n, input);
        } else if let Some(news) = daemon.inbox.pop_front() {
            self.on_news(n, news);
        } else {
            return false;
        }
        self.violation.is_none()
    }

    fn handle(&mut self, n: usize, input: Input) {
        let (now, fresh) = (self.clock(n), self.fresh(n));
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let quiet = matches!(input, Input::Tick | Input::Pressure(_));
        let shown = (self.tracing && !quiet).then(|| format!("{input:?}"));
        let before = (daemon.member.state(), daemon.member.readiness());
        let outputs = daemon.member.handle(now, fresh, input);
        let after = (daemon.member.state(), daemon.member.readiness());
        daemon.outputs.extend(outputs);
        daemon.applying = daemon.member.applies();
        if !daemon.applying && daemon.is_applying_now {
            // Who applies an operation of the peer now finishes it before anything else happens.
            daemon.busy = Some(Busy::Applying);
        }
        if let Some(shown) = shown {
            self.trace(|| format!("{} < {shown}", NAMES[n]));
        }
        if before != after {
            let why = self.nodes[n].daemon.as_ref().map(|d| d.member.why());
            let code = why.and_then(|w| w.first().map(|w| w.code.clone()));
            self.trace(|| {
                let code = code.unwrap_or_default();
                format!("{} is {:?} {:?} {code}", NAMES[n], after.0, after.1)
            });
        }
    }

    fn on_news(&mut self, n: usize, news: News) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let current = daemon.session;
        match news {
            News::Down(session, why) => {
                if current == Some(session) {
                    daemon.session = None;
                    daemon.inputs.push_back(Input::SessionDown(why));
                }
            }
            News::Control(session, control) => self.on_control(n, session, *control),
            News::PeerFailed(session, errno) => {
                if current == Some(session) {
                    daemon.inputs.push_back(Input::PeerFailed { errno });
                }
            }
            News::ApplyFailed(session, what) => {
                if current == Some(session) {
                    daemon.inputs.push_back(Input::ApplyFailed { what });
                }
            }
            News::Input(input) => daemon.inputs.push_back(input),
        }
    }

    fn on_control(&mut self, n: usize, session: u64, control: Control) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        if daemon.end.conn != Some(session) {
            return;
        }
        match control {
            Control::Hello(hello) if daemon.session != Some(session) => {
                if daemon.session.take().is_some() {
                    let why = "the peer began a new session".to_string();
                    daemon.inputs.push_back(Input::SessionDown(why));
                }
                daemon.session = Some(session);
                self.judge_meeting(n, &hello);
                let Some(daemon) = self.nodes[n].daemon.as_mut() else {
                    return;
                };
                daemon.inputs.push_back(Input::SessionUp(hello));
            }
            _ if daemon.session != Some(session) => {
                self.close(n, "the first message was not a greeting");
            }
            control => daemon.inputs.push_back(Input::Control(control)),
        }
    }

    /// The greeting of a new session.
    pub fn hello(&mut self, n: usize) {
        let Some(daemon) = self.nodes[n].daemon.as_ref() else {
            return;
        };
        let hello = Hello {
            wire_min: WIRE,
            wire_max: WIRE,
            cluster: "sim".into(),
            module: "sim".into(),
            node: NAMES[n].into(),
            digest: [0; 32],
            record: daemon.member.record().clone(),
            state: daemon.member.state(),
        };
        self.send(n, Msg::Control(Box::new(Control::Hello(Box::new(hello)))));
    }

    fn perform(&mut self, n: usize, output: Output) {
        let quiet = matches!(
            output,
            Output::Send(Control::LeaseAsk(_) | Control::LeaseGrant(_))
        );
        if self.tracing && !quiet {
            let text = format!("{output:?}");
            self.trace(|| format!("{} > {text}", NAMES[n]));
        }
        match output {
            Output::Send(control) => {
                if matches!(control, Control::ToldStale { .. }) {
                    self.checks.acked.told(n);
                }
                self.send(n, Msg::Control(Box::new(control)));
            }
            Output::CloseSession(why) => self.close(n, &why),
            Output::Persist(record) => {
                let node = &mut self.nodes[n];
                node.record.begin(*record);
                let time = node.disk_time(1000, 10_000);
                if let Some(daemon) = node.daemon.as_mut() {
                    daemon.busy = Some(Busy::Persisting);
                }
                self.after(n, time, Local::Persisted);
            }
            Output::Gate(gate) => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                    daemon.busy = Some(Busy::Gating(gate));
                }
                self.gate_moves(n);
            }
            Output::CompleteAll => self.end_waiting(n, Ok(())),
            Output::FailAll => self.end_waiting(n, Err(super::tree::EIO)),
            Output::Complete(seqs) => {
                for seq in seqs {
                    self.peer_done(n, seq, false);
                }
            }
            Output::Flush(round) => {
                let token = self.nodes[n].tree().begin_sync();
                let time = self.nodes[n].disk_time(2000, 20_000);
                self.after(n, time, Local::Flushed(round, token));
            }
            Output::AskWitness { round, list, new } => {
                self.ask(n, round, Question::Ask(list, new));
            }
            Output::TellWitness {
                round,
                record,
                force,
            } => self.ask(n, round, Question::Tell(record, force)),
            Output::Resync(order) => self.on_order(n, order),
            Output::PrepareTarget { round, keep_aside } => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                    daemon.target = Some(TargetRun::new(round, keep_aside));
                }
                self.later(n, 100, 2000, Local::Prepared(round));
            }
            Output::EndTarget { round } => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut()
                    && daemon.target.as_ref().is_some_and(|t| t.round == round)
                {
                    daemon.target = None;
                }
            }
            Output::BeginCheckpoint(round) => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                    daemon.barriers.push(Barrier::Checkpoint(round));
                }
                self.gate_moves(n);
            }
            Output::DropMarks { round, warm } => self.drop_marks(n, round, warm),
            Output::Resolve { token, result } => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                    daemon.waiters.remove(&token);
                }
                self.resolved(n, token, &result);
            }
            Output::Exit => self.exit(n),
        }
    }

    fn on_order(&mut self, n: usize, order: ResyncOrder) {
        match order {
            ResyncOrder::Start {
                round,
                copy,
                peer_keeps_aside,
            } => self.start_source(n, round, copy, peer_keeps_aside),
            ResyncOrder::Finish { round } => self.finish_source(n, round),
            ResyncOrder::Resume { round } => self.resume_source(n, round),
            ResyncOrder::Abort { round } => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut()
                    && daemon.source.as_ref().is_some_and(|s| s.round == round)
                {
                    daemon.source = None;
                    daemon.barriers.retain(|b| !matches!(b, Barrier::Resync(_)));
                }
                self.let_in(n);
            }
        }
    }

    /// The record is written, or could not be.
    pub fn on_persisted(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let fails = node.ills.record_fails;
        if fails {
            node.record.interrupted(&mut node.rng);
        } else {
            node.record.finish();
        }
        let record = node.record.read();
        let Some(daemon) = node.daemon.as_mut() else {
            return;
        };
        daemon.busy = None;
        daemon.inputs.push_back(Input::Persisted(if fails {
            Err("no space left on device".into())
        } else {
            Ok(())
        }));
        if !fails {
            self.judge_record(n, &record);
        }
        self.direct(n);
    }

    /// Answers every operation that waits for the peer.
    fn end_waiting(&mut self, n: usize, result: Result<(), i32>) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        daemon.member.acks.drain();
        let seqs: Vec<_> = daemon.completions.keys().copied().collect();
        for seq in seqs {
            if result.is_ok() {
                self.peer_done(n, seq, true);
            } else if let Some(daemon) = self.nodes[n].daemon.as_mut()
                && let Some(id) = daemon.completions.remove(&seq)
            {
                self.answer(n, id, result);
            }
        }
    }

    fn drop_marks(&mut self, n: usize, round: u64, warm: bool) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        match daemon.checkpoint {
            Some((begun, generation)) if begun == round => {
                daemon.map.drop_before(generation, warm);
            }
            _ => {
                let what = "no checkpoint of that number began".to_string();
                return self.tell(n, Input::MarksDropped(round, Err(what)));
            }
        }
        let (records, seq) = daemon.map.snapshot();
        daemon.journal.replace = Some((records, seq, round));
        self.flush_journal(n);
    }

    /// Two fresh ids.
    fn fresh(&mut self, n: usize) -> [Id128; 2] {
        let mut ids = [Id128::default(); 2];
        for id in &mut ids {
            id.0[..8].copy_from_slice(&self.nodes[n].rng.next_u64().to_le_bytes());
            id.0[8..].copy_from_slice(&self.nodes[n].rng.next_u64().to_le_bytes());
        }
        ids
    }

    /// What is shown when a run fails.
    pub fn describe(&self, n: usize) -> String {
        let node = &self.nodes[n];
        let record = node.record.read();
        let member = node.daemon.as_ref().map(|d| {
            let why: Vec<_> = d.member.why().into_iter().map(|w| w.code).collect();
            let marks = d.map.marks();
            format!(
                "{:?} {:?} gate {:?} session {:?} waiting {} jobs {} why {why:?}, marks: \
                 everything {} births {:?} files {:?} directories {:?}",
                d.member.state(),
                d.member.readiness(),
                d.gate,
                d.session,
                d.completions.len(),
                d.jobs.len(),
                marks.everything,
                marks.births,
                marks
                    .files
                    .iter()
                    .map(|f| (show(f.uid), f.ranges.clone()))
                    .collect::<Vec<_>>(),
                marks
                    .dirs
                    .iter()
                    .map(|d| (show(d.uid), d.names.len(), d.all, d.deep))
                    .collect::<Vec<_>>(),
            )
        });
        format!(
            "{}: powered {} paused {:?} hung {:?} addresses {} {:?} {}\n   record {record:?}",
            NAMES[n],
            node.is_powered,
            node.paused,
            node.hung,
            node.seat.addresses,
            node.seat.app,
            member.unwrap_or_else(|| "no daemon".into()),
        )
    }
}
