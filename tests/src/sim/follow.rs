//! What arrives from the other node: connections, greetings, operations in their order, answers,
//! and the requests of a resync.

use super::change::Change;
use super::net::{LinkEvent, Packet};
use super::node::{Busy, Incoming, NAMES, News};
use super::serve::sync;
use super::tree::{EIO, ENOSPC};
use super::world::{Event, Local, World};
use super::{Msg, Time};
use tandem_repl::ids::OpSeq;
use tandem_repl::logic::member::Input;
use tandem_repl::wire::Control;

impl World {
    /// Puts a message on the node's connection; without one it is gone.
    pub fn send(&mut self, n: usize, message: Msg) {
        let conn = self.nodes[n].daemon.as_ref().and_then(|d| d.end.conn);
        let Some(conn) = conn else { return };
        if self.options.overtakes && is_flush(&message) {
            let packet = Packet::Data(conn, message);
            return self.push(self.now + 50, Event::Packet { to: 1 - n, packet });
        }
        self.post(n, Packet::Data(conn, message));
    }

    /// Puts a packet on the wire.
    pub fn post(&mut self, from: usize, packet: Packet<Msg>) {
        let to = 1 - from;
        let at = self.lanes[from].arrival(self.now, &mut self.rng_net);
        self.push(at, Event::Packet { to, packet });
    }

    /// A packet comes to the end of its way, if the way is open.
    pub fn on_packet(&mut self, to: usize, packet: Packet<Msg>) {
        let from = 1 - to;
        let lane = &mut self.lanes[from];
        if !lane.is_open || !lane.waiting.is_empty() {
            lane.waiting.push_back(packet);
            return;
        }
        self.receive(to, packet);
    }

    /// The way is open again: what was stopped is sent once more, in order.
    pub fn open_lane(&mut self, from: usize) {
        self.lanes[from].is_open = true;
        let waiting = std::mem::take(&mut self.lanes[from].waiting);
        for packet in waiting {
            self.post(from, packet);
        }
    }

    fn receive(&mut self, n: usize, packet: Packet<Msg>) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let daemon = node.daemon.as_mut().filter(|_| node.is_powered);
        let Some(daemon) = daemon else {
            // The kernel of a running machine says that nobody listens; QUIC does not believe it.
            return;
        };
        let mut replies = Vec::new();
        let conn = daemon.end.conn;
        let events = daemon.end.take(now, packet, &mut replies);
        for reply in replies {
            self.post(n, reply);
        }
        let mut session = conn;
        for event in events {
            match event {
                LinkEvent::Down(why) => self.link_down(n, session.unwrap_or(0), why),
                LinkEvent::Up => {
                    session = self.nodes[n].daemon.as_ref().and_then(|d| d.end.conn);
                    let apart = self.options.rules.sessions_apart;
                    if let Some(daemon) = self.nodes[n].daemon.as_mut().filter(|_| apart) {
                        daemon.incoming.clear();
                    }
                    self.hello(n);
                }
                LinkEvent::Data(message) => {
                    if let Some(session) = session
                        && let Some(daemon) = self.nodes[n].daemon.as_mut()
                    {
                        let first = self.options.overtakes && is_flush(&message);
                        let incoming = Incoming { session, message };
                        if first {
                            daemon.incoming.push_front(incoming);
                        } else {
                            daemon.incoming.push_back(incoming);
                        }
                        self.work(n);
                    }
                }
            }
        }
    }

    fn link_down(&mut self, n: usize, session: u64, why: String) {
        self.trace(|| format!("{} link down: {why}", NAMES[n]));
        self.pipe_gone(n);
        self.news(n, News::Down(session, why));
    }

    /// This node ends the connection.
    pub fn close(&mut self, n: usize, why: &str) {
        let Some(daemon) = self.nodes[n].daemon.as_mut() else {
            return;
        };
        let conn = daemon.end.conn.take();
        if daemon.session.take().is_some() {
            let input = tandem_repl::logic::member::Input::SessionDown(why.to_string());
            daemon.inputs.push_back(input);
        }
        if let Some(conn) = conn {
            self.pipe_gone(n);
            self.post(n, Packet::Close(conn, why.to_string()));
        }
    }

    /// Takes what has arrived, in order; an operation takes its time.
    pub fn work(&mut self, n: usize) {
        loop {
            let Some(daemon) = self.nodes[n].daemon.as_mut() else {
                return;
            };
            if daemon.is_applying_now {
                return;
            }
            let Some(next) = daemon.incoming.pop_front() else {
                return;
            };
            let session = match daemon.end.conn {
                Some(conn) if conn == next.session || !self.options.rules.sessions_apart => conn,
                _ => continue,
            };
            match next.message {
                Msg::Control(control) => self.news(n, News::Control(session, control)),
                Msg::Ack(seq, errno) => self.on_ack(n, session, seq, errno),
                Msg::Reply(number, reply) => self.on_reply(n, number, *reply),
                Msg::Op(seq, id, change) => {
                    if daemon.applying {
                        daemon.is_applying_now = true;
                        let job = (session, seq, id, change);
                        self.later(n, 10, 150, Local::Apply(Box::new(job)));
                    }
                }
                Msg::Request(number, request) => {
                    daemon.is_applying_now = true;
                    let local = Local::Requested(session, number, request);
                    self.later(n, 20, 300, local);
                }
            }
        }
    }

    /// An operation of the peer is done here.
    pub fn on_apply(&mut self, n: usize, (session, seq, id, change): (u64, OpSeq, u64, Change)) {
        let node = &mut self.nodes[n];
        let tree = node.tree.clone();
        let mut tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = if node.ills.is_full && change.grows() {
            Err(ENOSPC)
        } else {
            change.apply(&mut tree)
        };
        if node.rng.chance(3) {
            tree.write_back_some(&mut node.rng);
        }
        drop(tree);
        self.trace(|| format!("{} applies {id} for its peer: {result:?}", NAMES[n]));
        match result {
            Ok(()) if change.is_sync() => {
                let time: Time = self.nodes[n].disk_time(1000, 8000);
                self.after(n, time, Local::PeerSynced(session, seq, Box::new(change)));
            }
            Ok(()) => {
                self.checks.held.applied(n, id);
                self.send_in(n, session, Msg::Ack(seq, 0));
            }
            Err(errno) => {
                if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                    daemon.applying = false;
                }
                if errno == ENOSPC {
                    self.checks.acked.disk_failed(n);
                }
                let what = format!("operation {id}: errno {errno}");
                self.news(n, News::ApplyFailed(session, what));
                self.send_in(n, session, Msg::Ack(seq, errno));
            }
        }
        self.applied_one(n);
    }

    /// Whoever waits for the end of an application goes on.
    pub fn applied_one(&mut self, n: usize) {
        if let Some(daemon) = self.nodes[n].daemon.as_mut() {
            daemon.is_applying_now = false;
            if daemon.busy == Some(Busy::Applying) {
                daemon.busy = None;
            }
        }
        self.direct(n);
        self.work(n);
    }

    fn send_in(&mut self, n: usize, session: u64, message: Msg) {
        let conn = self.nodes[n].daemon.as_ref().and_then(|d| d.end.conn);
        if conn == Some(session) {
            self.send(n, message);
        }
    }

    /// A sync of the peer's reached this node's disk.
    pub fn on_peer_synced(&mut self, n: usize, session: u64, seq: OpSeq, change: &Change) {
        let node = &mut self.nodes[n];
        let tree = node.tree.clone();
        let mut tree = tree
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let errno = if node.ills.sync_fails {
            tree.sync_fails(&mut node.rng);
            EIO
        } else {
            sync(&mut tree, change);
            0
        };
        drop(tree);
        if errno != 0 {
            if let Some(daemon) = self.nodes[n].daemon.as_mut() {
                daemon.applying = false;
            }
            self.checks.acked.sync_failed(n);
            let what = format!("fsync: errno {errno}");
            // Whatever became of the session.
            self.tell(n, Input::LocalFailed { what });
        }
        self.send_in(n, session, Msg::Ack(seq, errno));
    }
}

fn is_flush(message: &Msg) -> bool {
    matches!(message, Msg::Control(control) if matches!(**control, Control::CheckpointFlush(_)))
}
