//! The serving node's walk through its tree.

use super::super::super::nodes::Node;
use super::super::super::{names, sys};
use super::super::{Service, Volume};
use super::{HIDDEN_NAME, PATIENCE, print};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tandem_repl::ids::FileId;
use tandem_repl::limits::{MAX_CHECK, MAX_DATA};
use tandem_repl::logic::member::Gate;
use tandem_repl::op::{Checked, DIFFERS, Op};

/// Questions on their way at once.
const WINDOW: usize = 16;
/// Paths listed in the status; the rest is only counted.
const LISTED: usize = 100;
/// Differences remembered until the walk is over.
const MAX_FOUND: usize = 100_000;

/// Why a walk ends before its end.
pub(super) enum Stop {
    /// The peer is not in the set any more.
    NotReplicated,
    Failed(String),
}

/// A question under way.
struct Asked {
    answer: Receiver<Result<(), i32>>,
    node: Arc<Node>,
    what: Checked,
    path: Vec<u8>,
}

/// One walk.
pub(super) struct Walk<'a> {
    service: &'a Arc<Service>,
    volume: &'a Arc<Volume>,
    asked: VecDeque<Asked>,
    buf: Vec<u8>,
    /// Bytes a second; `None`: as fast as it goes.
    pace: Option<u64>,
    began: Instant,
    bytes: u64,
    pub(super) differs: bool,
    found: Vec<(Arc<Node>, Checked)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        service: &'a Arc<Service>,
        volume: &'a Arc<Volume>,
        pace: Option<u64>,
    ) -> Self {
        Self {
            service,
            volume,
            asked: VecDeque::new(),
            buf: Vec::new(),
            pace,
            began: Instant::now(),
            bytes: 0,
            differs: false,
            found: Vec::new(),
        }
    }

    pub(super) fn run(&mut self) -> Result<(), Stop> {
        let root = self.volume.nodes.expect(FileId::ROOT);
        let root = root.map_err(|e| Stop::Failed(e.to_string()))?;
        // Depth first with a list of our own: directories may nest deeper than a stack.
        let mut todo = vec![(root, Vec::new())];
        let mut result = Ok(());
        while let Some((dir, path)) = todo.pop() {
            if result.is_ok() {
                result = self.directory(&dir, &path, &mut todo);
            }
            self.let_go(&dir);
        }
        while let Some(asked) = self.asked.pop_front() {
            result = result.and(self.answered(&asked));
            self.let_go(&asked.node);
        }
        result
    }

    fn directory(
        &mut self,
        dir: &Arc<Node>,
        path: &[u8],
        todo: &mut Vec<(Arc<Node>, Vec<u8>)>,
    ) -> Result<(), Stop> {
        self.ask(dir, Checked::Names, path)?;
        self.ask_attributes(dir, path)?;
        for name in self.names(dir, path)? {
            // Gone since: another walk will see what is there then.
            let Ok((node, stat)) = self.volume.look_up(dir.id, &name) else {
                continue;
            };
            let mut below = path.to_vec();
            below.push(b'/');
            below.extend_from_slice(&name);
            if node.is_dir() {
                todo.push((node, below));
                continue;
            }
            let result = self.file(&node, stat.st_size.cast_unsigned(), &below);
            self.let_go(&node);
            result?;
        }
        Ok(())
    }

    fn names(&self, dir: &Arc<Node>, path: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        let read = || -> io::Result<Vec<Vec<u8>>> {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            let fd = sys::open_handle(self.volume.nodes.mount_fd(), &dir.handle, flags)?;
            let mut names = Vec::new();
            let mut buf = vec![0u8; 32 * 1024];
            loop {
                let n = sys::getdents(fd.as_raw_fd(), &mut buf)?;
                if n == 0 {
                    return Ok(names);
                }
                let found = sys::dirents(&buf[..n]).map(|e| e.name.to_bytes().to_vec());
                names.extend(found.filter(|n| {
                    let own = dir.id == FileId::ROOT && n.as_slice() == HIDDEN_NAME;
                    !own && n.as_slice() != b"." && n.as_slice() != b".."
                }));
            }
        };
        read().or_else(|e| match e.raw_os_error() {
            // Removed since.
            Some(libc::ESTALE | libc::ENOENT) => Ok(Vec::new()),
            _ => Err(Stop::Failed(format!("{}: {e}", shown(path)))),
        })
    }

    fn file(&mut self, node: &Arc<Node>, size: u64, path: &[u8]) -> Result<(), Stop> {
        self.ask_attributes(node, path)?;
        if node.is_file() {
            let mut offset = 0;
            while offset < size {
                let len = MAX_CHECK as u32;
                self.ask(node, Checked::Data { offset, len }, path)?;
                offset += u64::from(len);
                self.keep_pace();
            }
        }
        self.service.verify.update(|s| s.files += 1);
        Ok(())
    }

    /// Times that are still to be sent are not compared.
    fn ask_attributes(&mut self, node: &Arc<Node>, path: &[u8]) -> Result<(), Stop> {
        self.ask(node, Checked::Attrs { times: true }, path)
    }

    fn keep_pace(&mut self) {
        if let Some(pace) = self.pace {
            let due = Duration::from_secs_f64(self.bytes as f64 / pace as f64);
            std::thread::sleep(due.saturating_sub(self.began.elapsed()).min(PATIENCE));
        }
    }

    /// Takes the fingerprint and puts it on the stream, as one step of the file's order.
    fn ask(&mut self, node: &Arc<Node>, what: Checked, path: &[u8]) -> Result<(), Stop> {
        if self.asked.len() >= WINDOW
            && let Some(asked) = self.asked.pop_front()
        {
            let result = self.answered(&asked);
            self.let_go(&asked.node);
            result?;
        }
        let service = self.service;
        if self.pace.is_some() && service.verify.wanted.load(Ordering::Acquire) {
            return Err(Stop::Failed("somebody asked for one".into()));
        }
        let gate = service.gate();
        if *gate != Gate::Replicated {
            return Err(Stop::NotReplicated);
        }
        let Some(driver) = service.driver.get() else {
            return Err(Stop::NotReplicated);
        };
        let order = node.lock_order();
        let what = match what {
            Checked::Attrs { .. } => Checked::Attrs {
                times: !node.touched.load(Ordering::Acquire),
            },
            other => other,
        };
        let taken = self
            .volume
            .nodes
            .fd(node)
            .and_then(|fd| print(fd.as_raw_fd(), node.id, what, &mut self.buf));
        let hash = match taken {
            Ok(hash) => hash,
            // Removed since; a directory that is open still says the second.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => {
                return Ok(());
            }
            Err(e) => {
                // The walk goes on: the rest is worth knowing, too.
                drop(order);
                drop(gate);
                self.unreadable(node, what, path, &e);
                return Ok(());
            }
        };
        let (sender, answer) = channel();
        let op = Op::Check {
            id: node.id,
            what,
            hash,
        };
        let volume = self.volume;
        driver.ship(
            0,
            |shipment| {
                let none = names::Entries::default();
                if node.orphan() || !names::bind_for(shipment, volume, &op, &none) {
                    return false;
                }
                shipment.op(volume.id, &op);
                true
            },
            Box::new(move |result| {
                // The walk may have ended.
                let _ = sender.send(result);
            }),
        );
        if let Checked::Data { len, .. } = what {
            self.bytes += u64::from(len);
            service.verify.update(|s| s.bytes += u64::from(len));
        }
        node.state().lookups += 1;
        self.asked.push_back(Asked {
            answer,
            node: node.clone(),
            what,
            path: path.to_vec(),
        });
        Ok(())
    }

    fn answered(&mut self, asked: &Asked) -> Result<(), Stop> {
        match asked.answer.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(DIFFERS)) => {
                self.note(&asked.node, asked.what, &asked.path);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(Stop::NotReplicated),
        }
    }

    fn unreadable(&mut self, node: &Arc<Node>, what: Checked, path: &[u8], error: &io::Error) {
        tracing::error!("{} cannot be read here: {error}", shown(path));
        if let Checked::Data { offset, len } = what {
            for part in (0..u64::from(len)).step_by(MAX_DATA) {
                let _ = self
                    .service
                    .repair(self.volume, node.id, offset + part, MAX_DATA as u32);
            }
        }
        self.note(node, what, path);
    }

    /// Something differs: it is listed, and marked so that the follower is brought up there.
    fn note(&mut self, node: &Arc<Node>, what: Checked, path: &[u8]) {
        let what_differs = match what {
            Checked::Data { offset, .. } => format!("content near {offset}"),
            Checked::Attrs { .. } => "attributes".into(),
            Checked::Names => "names".into(),
        };
        let line = format!("{} ({what_differs})", shown(path));
        tracing::error!("the replicas differ: {line}");
        self.differs = true;
        // Marked at the end, together with the follower's leaving the set: a checkpoint in between
        // would drop the mark.
        if self.found.len() < MAX_FOUND {
            node.state().lookups += 1;
            self.found.push((node.clone(), what));
        }
        self.service.verify.update(|s| {
            s.differences += 1;
            if s.differing.len() < LISTED {
                s.differing.push(line);
            }
        });
    }

    /// Marks what differs; everything, if that is too much to be remembered.
    pub(super) fn mark(&mut self) {
        if self.found.len() >= MAX_FOUND {
            // Who cannot mark any more is told by the journal's failure.
            let _ = self.service.marks.mark_everything();
        }
        for (node, what) in std::mem::take(&mut self.found) {
            self.service.mark_different(self.volume, &node, what);
            self.let_go(&node);
        }
    }

    /// Gives back the reference a look-up took.
    fn let_go(&self, node: &Arc<Node>) {
        if let Some(gone) = self.volume.nodes.forget(node.id, 1) {
            self.service.unbind(self.volume, &gone);
        }
    }
}

fn shown(path: &[u8]) -> String {
    match path {
        b"" => "/".into(),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}
