//! Feeds the member machine and performs what it decides, one thing after the other.

use super::super::clock;
use super::super::random::fresh;
use super::super::record::RecordStore;
use super::source::Reached;
use super::{Command, Event, Shared, Tree};
use crate::control::{Refusal, State};
use crate::ids::OpSeq;
use crate::logic::dirty::Generation;
use crate::logic::member::{Input, Output};
use crate::logic::witness::Question;
use crate::wire::Control;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the machine is told that time passes.
const TICK: Duration = Duration::from_millis(100);

pub(super) fn spawn(
    shared: &Arc<Shared>,
    store: RecordStore,
    inbox: Receiver<Event>,
    done: Sender<()>,
) -> io::Result<()> {
    let mut director = Director {
        shared: shared.clone(),
        store,
        session: None,
        waiters: HashMap::new(),
        next_token: 1,
        done,
        checkpoint: None,
        reached: Arc::default(),
    };
    let run = move || {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(wait) {
                Ok(event) => director.on_event(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Not only when it is quiet: deadlines hold under load too.
            if Instant::now() >= next_tick {
                let pressure = director.shared.tree.pressure();
                director.run(Input::Pressure(pressure));
                director.run(Input::Tick);
                director.watch();
                next_tick = Instant::now() + TICK;
            }
            director.shared.note_news();
            if director.shared.exit.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("director".into())
        .spawn(run)?;
    Ok(())
}

pub(super) struct Director {
    pub(super) shared: Arc<Shared>,
    store: RecordStore,
    /// The session the machine knows of; the link may already be at a later one.
    pub(super) session: Option<u64>,
    waiters: HashMap<u64, Sender<Result<(), Refusal>>>,
    next_token: u64,
    done: Sender<()>,
    /// Round and generation of the checkpoint under way.
    checkpoint: Option<(u64, Generation)>,
    pub(super) reached: Arc<Mutex<Option<Reached>>>,
}

impl Director {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Down(session, why) => {
                if self.session == Some(session) {
                    self.session_down(why);
                }
            }
            Event::Control(session, control) => self.on_control(session, *control),
            Event::PeerFailed(session, errno) => {
                if self.session == Some(session) {
                    self.run(Input::PeerFailed { errno });
                }
            }
            Event::ApplyFailed(session, what) => {
                if self.session == Some(session) {
                    self.run(Input::ApplyFailed { what });
                }
            }
            Event::Input(input) => self.run(input),
            Event::Command(Command::Fenced, waiter) => {
                // The one who asked may have gone.
                let _ = waiter.send(self.fenced());
            }
            Event::Command(command, waiter) => {
                let token = self.next_token;
                self.next_token += 1;
                self.waiters.insert(token, waiter);
                self.run(match command {
                    Command::Prim { force } => Input::Prim { token, force },
                    Command::Second => Input::Second { token },
                    Command::Stop => Input::Stop { token },
                    Command::Swap => Input::Swap { token },
                    Command::Resync { everything } => Input::Resync { token, everything },
                    Command::Fenced => return,
                });
            }
        }
    }

    /// The fence command's result counts only while the peer does not answer: it may be of before.
    fn fenced(&mut self) -> Result<(), Refusal> {
        if self.session.is_some() {
            let peer = &self.shared.hello.peer;
            return Err(Refusal::new(
                "peer-answers",
                format!("{peer} answers, so it is not off"),
                format!("leave {peer} as it is, or find out what the fence command switched off"),
            ));
        }
        self.run(Input::Fenced);
        Ok(())
    }

    fn session_down(&mut self, why: String) {
        if self.session.take().is_some() {
            self.run(Input::SessionDown(why));
        }
    }

    fn on_control(&mut self, session: u64, control: Control) {
        let greeted = {
            let core = self.shared.lock();
            if core.session != session {
                return;
            }
            core.greeted
        };
        match control {
            Control::Hello(hello) if !greeted => {
                self.session_down("the peer began a new session".into());
                self.on_hello(session, *hello);
            }
            Control::Reject(reject) => {
                let why = format!("{} refuses: {}", self.shared.hello.peer, reject.reason);
                self.close(&why);
            }
            _ if !greeted => self.close("the first message was not a greeting"),
            control => self.run(Input::Control(control)),
        }
    }

    /// Ends the session and tells the machine.
    pub(super) fn close(&mut self, why: &str) {
        {
            let mut core = self.shared.lock();
            core.link.close(Instant::now(), why);
            core.greeted = false;
            core.rx.clear();
        }
        self.session_down(why.to_string());
    }

    pub(super) fn run(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            let outputs = {
                let mut core = self.shared.lock();
                let before = (core.member.state(), core.member.readiness());
                let outputs = core.member.handle(clock::now(), fresh(), input);
                let after = (core.member.state(), core.member.readiness());
                if before != after {
                    let reason = core.member.reason().map(ToString::to_string);
                    tracing::info!(
                        "{:?} {:?} -> {:?} {:?}{}",
                        before.0,
                        before.1,
                        after.0,
                        after.1,
                        reason.map(|r| format!(": {r}")).unwrap_or_default()
                    );
                }
                self.shared
                    .applying
                    .store(core.member.applies(), Ordering::Release);
                outputs
            };
            if self.session.is_none() {
                self.end_run();
            }
            if !self.shared.applying.load(Ordering::Acquire) {
                // Who applies an operation of the peer now finishes it before anything else
                // happens.
                drop(self.shared.apply_lock());
            }
            for output in outputs {
                self.perform(output, &mut queue);
            }
        }
    }

    fn perform(&mut self, output: Output, queue: &mut VecDeque<Input>) {
        match output {
            Output::Send(control) => {
                self.shared.send_control(&mut self.shared.lock(), &control);
            }
            Output::CloseSession(why) => {
                let mut core = self.shared.lock();
                core.link.close(Instant::now(), &why);
                core.greeted = false;
                core.rx.clear();
                drop(core);
                if self.session.take().is_some() {
                    queue.push_back(Input::SessionDown(why));
                }
            }
            Output::Persist(record) => {
                let result = self.store.write(&record).map_err(|e| e.to_string());
                queue.push_back(Input::Persisted(result));
            }
            Output::Gate(gate) => {
                self.shared.tree.set_gate(gate);
                queue.push_back(Input::Gated);
            }
            Output::CompleteAll => self.end_waiting(Ok(())),
            Output::FailAll => self.end_waiting(Err(libc::EIO)),
            Output::Complete(seqs) => self.end_some(&seqs),
            Output::Flush(round) => {
                let follows = self.shared.lock().member.state() == State::Second;
                let claims = follows && self.checkpoint.is_some();
                let flush = move |tree: &dyn Tree| {
                    tree.flush()?;
                    if claims {
                        tree.claim_checkpoint()
                    } else {
                        Ok(())
                    }
                };
                self.aside(
                    "flush",
                    move |tree| Input::Flushed(round, flush(tree)),
                    move |e| Input::Flushed(round, Err(e)),
                );
            }
            Output::Resolve { token, result } => {
                if let Some(waiter) = self.waiters.remove(&token) {
                    // The one who asked may have gone.
                    let _ = waiter.send(result);
                }
            }
            Output::AskWitness { round, list, new } => {
                let volume = self.shared.lock().member.record().volume;
                let question = Question::Ask { list, new };
                queue.extend(self.shared.ask_third(round, volume, Some(question)));
            }
            Output::TellWitness {
                round,
                record,
                force,
            } => {
                let question = Question::tell(&record, force);
                queue.extend(self.shared.ask_third(round, record.volume, question));
            }
            Output::Resync(order) => self.resync(&order, queue),
            Output::PrepareTarget { round, keep_aside } => {
                let result = self.shared.tree.target(keep_aside).map(|requests| {
                    self.shared.desk.open(self.session.unwrap_or(0), requests);
                });
                queue.push_back(Input::TargetPrepared(round, result));
            }
            Output::EndTarget { .. } => self.shared.desk.close(),
            Output::BeginCheckpoint(round) => {
                self.checkpoint = Some((round, self.shared.tree.begin_generation()));
                let last = self.shared.lock().member.acks.last();
                queue.push_back(Input::Generation(round, last));
            }
            Output::DropMarks { round, warm } => {
                let generation = self.checkpoint.take().filter(|(r, _)| *r == round);
                let result = match generation {
                    Some((_, generation)) => {
                        self.shared.keep_aside.store(false, Ordering::Relaxed);
                        self.shared.tree.drop_marks(generation, warm)
                    }
                    None => Err("that checkpoint is over".into()),
                };
                queue.push_back(Input::MarksDropped(round, result));
            }
            Output::Exit => {
                self.shared.exit.store(true, Ordering::Relaxed);
                let _ = self.done.send(());
            }
        }
    }

    /// Answers every operation that waits for the peer.
    fn end_waiting(&self, result: Result<(), i32>) {
        let completions = {
            let mut core = self.shared.lock();
            core.member.acks.drain();
            core.fetches.clear();
            std::mem::take(&mut core.completions)
        };
        let count = completions.len() as u64;
        for done in completions.into_values() {
            done(result);
        }
        if result.is_ok() {
            self.shared
                .metrics
                .acknowledged
                .fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Answers operations that the peer acknowledged before this node might answer.
    fn end_some(&self, seqs: &[OpSeq]) {
        let mut core = self.shared.lock();
        let done = seqs.iter().filter_map(|seq| core.completions.remove(seq));
        let done: Vec<_> = done.collect();
        drop(core);
        let acknowledged = &self.shared.metrics.acknowledged;
        acknowledged.fetch_add(done.len() as u64, Ordering::Relaxed);
        for done in done {
            done(Ok(()));
        }
    }

    /// Something that takes long, in a thread of its own; its result comes back as an input.
    fn aside(
        &self,
        name: &str,
        work: impl FnOnce(&dyn Tree) -> Input + Send + 'static,
        failed: impl FnOnce(String) -> Input,
    ) {
        let shared = self.shared.clone();
        let run = move || {
            let input = work(&*shared.tree);
            shared.tell(Event::Input(input));
        };
        if let Err(e) = std::thread::Builder::new().name(name.into()).spawn(run) {
            self.shared
                .tell(Event::Input(failed(format!("thread {name}: {e}"))));
        }
    }
}
