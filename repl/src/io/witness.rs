//! The witness as a node's daemon asks it: the application must go on without a manager, so the
//! daemon asks by itself.
//!
//! A question is repeated until it is answered or its time is over; then the answer is
//! [`WitnessAnswer::Silent`]. Repeating is safe: what was granted is granted again. A later
//! question of the same sort takes an earlier one's place. What a node wants (ask) and what it
//! reports (tell) have a thread each, so that a report under way delays no question on which an
//! application waits.

mod etcd;
mod tandem;

use super::clock;
use super::tls::{Pem, TlsError};
use crate::control::WitnessStatus;
use crate::ids::Id128;
use crate::logic::member::WitnessAnswer;
use crate::logic::witness::Question;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Pause between attempts.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest attempt to reach one address: a host that is off says nothing at all.
const CONNECT: Duration = Duration::from_millis(300);
/// No attempt is shorter, unless the time is over.
const SHORTEST: Duration = Duration::from_millis(250);

/// Which witness, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessConfig {
    /// `tandem witness`.
    Tandem {
        addresses: Vec<SocketAddr>,
        /// What its certificate must carry.
        name: String,
        /// PEM of the authority that issued its certificate; `None`: the cluster's.
        ca_pem: Option<String>,
    },
    /// An etcd cluster, over its JSON gateway.
    Etcd {
        /// `http://HOST:PORT` or `https://HOST:PORT`.
        endpoints: Vec<String>,
        /// Begins every key.
        prefix: String,
        /// PEM of the authority that issued its certificates; the public ones are not trusted.
        ca_pem: Option<String>,
        /// PEM of certificate and key this node shows to it.
        identity: Option<(String, String)>,
    },
}

/// Who asks.
pub struct Asker<'a> {
    pub cluster: &'a str,
    pub node: &'a str,
    pub pem: Pem<'a>,
}

/// Why the witness cannot be asked at all.
#[derive(Debug, Error)]
pub enum WitnessError {
    #[error("witness: {0}")]
    Tls(#[from] TlsError),
    #[error("witness: {what} `{value}` is not usable: {why}; correct `witness` in cluster.ron")]
    Bad {
        what: &'static str,
        value: String,
        why: String,
    },
    #[error("thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A way to the register.
trait Register: Send + Sync {
    /// Puts one question, once.
    ///
    /// # Errors
    /// Why there is no answer to rely on: nothing came in time, or nonsense.
    fn put(
        &self,
        volume: Id128,
        question: &Question,
        limit: Duration,
    ) -> Result<WitnessAnswer, String>;
}

/// Asks a witness in the background.
pub struct Witness {
    ask: Arc<Desk>,
    tell: Arc<Desk>,
    met: Arc<Mutex<Met>>,
    kind: &'static str,
    /// For each question.
    limit: Duration,
}

/// How the witness was met last.
#[derive(Default)]
struct Met {
    answered: Option<Instant>,
    error: Option<String>,
}

/// Where the latest question waits.
#[derive(Default)]
struct Desk {
    state: Mutex<(Option<Asked>, bool)>,
    changed: Condvar,
}

struct Asked {
    round: u64,
    volume: Id128,
    question: Question,
    until: Instant,
}

impl Witness {
    /// Starts the threads. Answers go to `answer` with the number of their question; every question
    /// that no later one replaces gets one within `limit`, or soon after.
    ///
    /// # Errors
    /// Addresses or key material that cannot be used.
    pub fn start(
        config: &WitnessConfig,
        asker: &Asker<'_>,
        limit: Duration,
        answer: impl Fn(u64, WitnessAnswer) + Send + Sync + 'static,
    ) -> Result<Self, WitnessError> {
        let (register, kind): (Arc<dyn Register>, _) = match config {
            WitnessConfig::Tandem {
                addresses,
                name,
                ca_pem,
            } => {
                let ca = ca_pem.as_deref();
                (
                    Arc::new(tandem::Tandem::new(addresses, name, ca, asker)?),
                    "tandem",
                )
            }
            WitnessConfig::Etcd {
                endpoints,
                prefix,
                ca_pem,
                identity,
            } => {
                let key = format!("{prefix}{}/", asker.cluster);
                let pem = (ca_pem.as_deref(), identity.as_ref());
                (Arc::new(etcd::Etcd::new(endpoints, key, pem)?), "etcd")
            }
        };
        Self::with(register, kind, limit, answer)
    }

    fn with(
        register: Arc<dyn Register>,
        kind: &'static str,
        limit: Duration,
        answer: impl Fn(u64, WitnessAnswer) + Send + Sync + 'static,
    ) -> Result<Self, WitnessError> {
        let witness = Self {
            ask: Arc::default(),
            tell: Arc::default(),
            met: Arc::default(),
            kind,
            limit,
        };
        let answer = Arc::new(answer);
        for (name, desk) in [
            ("witness-ask", &witness.ask),
            ("witness-tell", &witness.tell),
        ] {
            let (desk, met) = (desk.clone(), witness.met.clone());
            let (register, answer) = (register.clone(), answer.clone());
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || desk.serve(&*register, &met, &*answer))?;
        }
        Ok(witness)
    }

    /// Puts a question; its answer comes with this number.
    pub fn put(&self, round: u64, volume: Id128, question: Question) {
        let desk = match question {
            Question::Ask { .. } => &self.ask,
            Question::Tell { .. } => &self.tell,
        };
        let until = clock::now() + self.limit;
        desk.lock().0 = Some(Asked {
            round,
            volume,
            question,
            until,
        });
        desk.changed.notify_all();
    }

    pub fn status(&self) -> WitnessStatus {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let ago = |at| clock::now().saturating_duration_since(at).as_millis() as u64;
        WitnessStatus {
            kind: self.kind.into(),
            answered_ago_ms: met.answered.map(ago),
            last_error: met.error.clone(),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        for desk in [&self.ask, &self.tell] {
            desk.lock().1 = true;
            desk.changed.notify_all();
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, (Option<Asked>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next question; `None` at the end.
    fn next(&self) -> Option<Asked> {
        let mut state = self.lock();
        loop {
            match &mut *state {
                (_, true) => return None,
                (asked @ Some(_), false) => return asked.take(),
                (None, false) => {}
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the question at hand is still the latest, after a pause.
    fn goes_on(&self, pause: Duration) -> bool {
        let state = self.lock();
        let waiting = |state: &mut (Option<Asked>, bool)| state.0.is_none() && !state.1;
        let woken = self.changed.wait_timeout_while(state, pause, waiting);
        let (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        state.0.is_none() && !state.1
    }

    fn serve(
        &self,
        register: &dyn Register,
        met: &Mutex<Met>,
        answer: &dyn Fn(u64, WitnessAnswer),
    ) {
        while let Some(asked) = self.next() {
            if let Some(said) = self.repeat(register, met, &asked) {
                answer(asked.round, said);
            }
        }
    }

    /// Puts the question until there is an answer, its time is over, or another takes its place.
    fn repeat(
        &self,
        register: &dyn Register,
        met: &Mutex<Met>,
        asked: &Asked,
    ) -> Option<WitnessAnswer> {
        loop {
            let rest = asked.until.saturating_duration_since(clock::now());
            if rest.is_zero() {
                return Some(WitnessAnswer::Silent);
            }
            // One lost in a network that has just come back must leave time for another.
            let limit = (rest / 2).max(SHORTEST).min(rest);
            let result = register.put(asked.volume, &asked.question, limit);
            let now = clock::now();
            let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(said) if now < asked.until => {
                    met.answered = Some(now);
                    met.error = None;
                    return Some(said);
                }
                // Too late to count, and still a sign of life.
                Ok(_) => met.answered = Some(now),
                Err(why) => {
                    if met.error.as_ref() != Some(&why) {
                        tracing::warn!("witness: {why}");
                    }
                    met.error = Some(why);
                }
            }
            drop(met);
            let rest = asked.until.saturating_duration_since(now);
            if !self.goes_on(AGAIN.min(rest)) {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
