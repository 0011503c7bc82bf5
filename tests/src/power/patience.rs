//! Limits of waiting that are longer on a busy machine: time counts by the share of it that a
//! program could have had.

use std::time::{Duration, Instant};

/// How often something is looked at while it is waited for.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Time that is used up while something is waited for.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    used: Duration,
    asked: Instant,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            used: Duration::ZERO,
            asked: Instant::now(),
        }
    }

    /// Whether it is used up; to be asked often, as how busy the machine is changes.
    pub fn is_over(&mut self) -> bool {
        let passed = self.asked.elapsed();
        self.asked += passed;
        self.pass(passed, crowd())
    }

    fn pass(&mut self, passed: Duration, crowd: f64) -> bool {
        self.used += passed.div_f64(crowd);
        self.used > self.limit
    }

    /// Something went on: it begins anew.
    pub fn renew(&mut self) {
        self.used = Duration::ZERO;
        self.asked = Instant::now();
    }
}

/// How many programs share a processor just now, at least one.
fn crowd() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    runnable(&load).map_or(1.0, |running| (running / processors as f64).max(1.0))
}

/// Programs that run or could run, of `0.61 0.70 1.19 2/107 4711`.
fn runnable(load: &str) -> Option<f64> {
    let (running, _) = load.split_ascii_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_less_where_many_share_it() {
        let mut patience = Patience::new(Duration::from_secs(10));
        assert!(!patience.pass(Duration::from_secs(6), 1.0));
        assert!(!patience.pass(Duration::from_secs(15), 4.0));
        assert!(patience.pass(Duration::from_secs(2), 1.5));
        patience.renew();
        assert!(!patience.pass(Duration::from_secs(9), 1.0));
    }

    #[test]
    fn the_number_of_runnable_programs_is_read() {
        assert_eq!(runnable("0.61 0.70 1.19 2/107 4711\n"), Some(2.0));
        assert_eq!(runnable("0.61 0.70"), None);
        assert!(crowd() >= 1.0);
    }
}
