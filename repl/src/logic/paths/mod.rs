//! Which network the replication link sends on, when the nodes share more than one.
//!
//! A path is the pair of both nodes' addresses in one network. Both nodes send a small probe on
//! every path all the time; every probe reports what its sender has last heard on each path. So a
//! node learns which of its own probes arrived, path by path, whichever way the report came, and
//! a path that carries in one direction only is used in that direction only.
//!
//! * A path on which probes stay out that are heard elsewhere is left at once; likewise one that
//!   loses many more than another. What is late because the peer does not keep up with reading is
//!   told apart: then it says so.
//! * Where nothing is heard at all, and before anything is known, everything is sent on all paths:
//!   QUIC drops duplicates.
//! * The first path of the configuration is taken again once it has been faultless for a while,
//!   later each time it did not keep its promise.

mod choice;
mod heard;
#[cfg(test)]
mod tests;

use heard::Heard;
use std::time::{Duration, Instant};

/// Paths that are used; more networks than this nobody lays between two servers.
pub const MAX_PATHS: usize = 8;
/// Probes over which loss is counted.
const WINDOW: u8 = 64;
/// How many probes fit the time after which a silent path is not trusted.
const PROBES: u32 = 5;
const LONGEST_SILENCE: Duration = Duration::from_millis(200);
/// A path counts as faultless after this time without a doubt.
const STEADY: Duration = Duration::from_secs(2);

/// What one node has heard on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// [`Probe::sent`] of the newest probe heard; 0: none.
    pub echo: u64,
    /// Microseconds since then.
    pub held: u32,
    /// How many of the last [`Report::of`] probes stayed out.
    pub lost: u8,
    pub of: u8,
    /// What arrived there is not all read yet, so silence proves nothing.
    pub behind: bool,
}

/// Sent on every path, all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub path: u8,
    /// Rises by one from probe to probe of a path.
    pub number: u64,
    /// Microseconds of the sender's own clock, never 0.
    pub sent: u64,
    /// One for each path.
    pub reports: Vec<Report>,
}

/// Where to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    One(usize),
    All,
}

/// How a path is doing, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is sent now goes there.
    pub current: bool,
    /// What this node sends on it arrives.
    pub alive: bool,
    pub round_trip: Option<Duration>,
    /// The worse of both directions.
    pub loss_percent: u8,
}

/// Time scales.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From probe to probe.
    pub interval: Duration,
    /// A path without proof for this long is not trusted.
    pub silence: Duration,
    /// A better path must be faultless for this long before it is taken again.
    pub steady: Duration,
}

impl Pace {
    /// Far below the lease, which is two thirds of the stall limit: an application must not notice
    /// more than a pause.
    pub fn of(stall_limit: Duration) -> Self {
        let silence = (stall_limit / 5).min(LONGEST_SILENCE);
        Self {
            interval: silence / PROBES,
            silence,
            steady: STEADY,
        }
    }
}

/// One path as the sender knows it.
#[derive(Clone, Debug, Default)]
struct Path {
    /// Of the last probe sent.
    number: u64,
    /// When the newest probe was sent that the peer is known to have heard; 0: none in this
    /// session.
    proven: u64,
    /// Probes of the last `of` that the peer did not hear.
    lost: u8,
    of: u8,
    round_trip: Option<Duration>,
    /// No doubt since.
    faultless: Option<Instant>,
    /// When it was last taken again, and how often it then failed soon.
    retaken: Option<Instant>,
    relapses: u32,
    /// What arrived from the peer.
    heard: Heard,
}

/// The decision of one node, for one peer.
#[derive(Debug)]
pub struct Paths {
    pace: Pace,
    /// Zero of this node's clock.
    base: Instant,
    paths: Vec<Path>,
    /// When the session began; none: there is no session.
    began: Option<Instant>,
    /// Sent at the newest report that was heard, by the peer's clock.
    newest: u64,
    next_probe: Instant,
    chosen: Option<usize>,
    way: Way,
    /// This node does not keep up with reading, so it cannot judge silence.
    behind: bool,
}

impl Paths {
    pub fn new(count: usize, pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            base: now,
            paths: vec![Path::default(); count.clamp(1, MAX_PATHS)],
            began: None,
            newest: 0,
            next_probe: now,
            chosen: None,
            way: Way::All,
            behind: false,
        }
    }

    pub fn way(&self) -> Way {
        self.way
    }

    /// A session stands: what was known of an earlier one is void.
    pub fn begin(&mut self, now: Instant) {
        for path in &mut self.paths {
            *path = Path {
                number: path.number,
                relapses: path.relapses,
                ..Path::default()
            };
        }
        self.began = Some(now);
        self.newest = 0;
        self.next_probe = now;
        self.chosen = None;
        self.way = Way::All;
    }

    /// There is no session any more: who looks for the peer looks everywhere.
    pub fn end(&mut self) {
        self.began = None;
        self.chosen = None;
        self.way = Way::All;
    }

    /// When the next probes are to be sent.
    pub fn next_probe(&self) -> Option<Instant> {
        self.began.map(|_| self.next_probe)
    }

    /// The probes to be sent now, one for each path, or none. `behind`: on which paths more has
    /// arrived than was read.
    pub fn probes(&mut self, now: Instant, behind: &[bool]) -> Vec<Probe> {
        if self.began.is_none() || now < self.next_probe {
            return Vec::new();
        }
        self.next_probe = now + self.pace.interval;
        self.behind = behind.contains(&true);
        let of_path = |n: usize| behind.get(n).copied().unwrap_or(false);
        let reports = self.paths.iter_mut().enumerate();
        let reports: Vec<_> = reports
            .map(|(n, path)| path.heard.report(now, of_path(n)))
            .collect();
        let sent = self.micros(now);
        let paths = self.paths.iter_mut().enumerate();
        let probe = |(n, path): (usize, &mut Path)| {
            path.number += 1;
            Probe {
                path: n as u8,
                number: path.number,
                sent,
                reports: reports.clone(),
            }
        };
        paths.map(probe).collect()
    }

    /// A probe of the peer arrived on a path. Returns whether [`Self::way`] changed.
    pub fn heard(&mut self, now: Instant, on: usize, probe: &Probe) -> bool {
        let expected = usize::from(probe.path) == on && probe.reports.len() == self.paths.len();
        let Some(path) = self.paths.get_mut(on).filter(|_| expected) else {
            return false;
        };
        if self.began.is_none() || !path.heard.arrived(now, probe.number, probe.sent) {
            return false;
        }
        self.learn(now, probe);
        self.decide(now)
    }

    /// Time passed. Returns whether [`Self::way`] changed.
    pub fn tick(&mut self, now: Instant) -> bool {
        self.decide(now)
    }

    /// How each path is doing.
    pub fn health(&self, now: Instant) -> Vec<Health> {
        let chosen = |n| match self.way {
            Way::One(one) => one == n,
            Way::All => true,
        };
        let one = |(n, path): (usize, &Path)| {
            let alive = self.is_alive(n, now);
            let (lost, of) = (path.lost, path.of);
            let sent = percent(lost, of);
            let received = path.heard.loss_percent();
            Health {
                current: chosen(n),
                alive,
                round_trip: path.round_trip.filter(|_| alive),
                loss_percent: if alive { sent.max(received) } else { 100 },
            }
        };
        self.paths.iter().enumerate().map(one).collect()
    }

    /// Takes from a probe what the peer reports.
    fn learn(&mut self, now: Instant, probe: &Probe) {
        let own = self.micros(now);
        let began = self.began.map_or(u64::MAX, |began| self.micros(began));
        let newest = probe.sent > self.newest;
        self.newest = self.newest.max(probe.sent);
        // A report of what was never sent, or in an earlier session, is none.
        let fits = |echo: u64| (began..=own).contains(&echo);
        for (n, (path, report)) in self.paths.iter_mut().zip(&probe.reports).enumerate() {
            if fits(report.echo) {
                // What waits there unread came through.
                let proven = if report.behind { own } else { report.echo };
                path.proven = path.proven.max(proven);
                // There and back on the same path.
                if n == usize::from(probe.path) {
                    let took = (own - report.echo).saturating_sub(u64::from(report.held));
                    path.round_trip = Some(smooth(path.round_trip, took));
                }
            }
            if newest {
                (path.lost, path.of) = (report.lost.min(report.of), report.of);
            }
        }
    }

    /// This node's clock as probes carry it.
    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_micros() as u64 + 1
    }
}

fn percent(lost: u8, of: u8) -> u8 {
    (u32::from(lost) * 100 / u32::from(of).max(1)) as u8
}

/// A round trip with an eighth of the new one in it.
fn smooth(before: Option<Duration>, took: u64) -> Duration {
    let took = Duration::from_micros(took);
    before.map_or(took, |before| (before * 7 + took) / 8)
}
