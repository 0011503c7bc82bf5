//! What the daemon tells of itself.

use super::Daemon;
use crate::io::mount;
use std::sync::atomic::Ordering;
use tandem_repl::control::{Counters, DirectoryStatus, ResyncStatus, State, Status};
use tandem_repl::io::clock;
use tandem_repl::io::driver::Standing;
use tandem_repl::logic::resync::progress::Phase;

impl Daemon {
    pub(crate) fn status(&self) -> Status {
        let driver = self.driver.status();
        let alone = self.service.alone.load(Ordering::Relaxed);
        let (rss_bytes, cpu_us) = usage();
        // Alone there is nobody they wait for.
        let times = match driver.state {
            State::Prim => self.service.times_waiting(),
            _ => 0,
        };
        let directories = self.config.directories.iter().map(|d| DirectoryStatus {
            path: d.path.display().to_string(),
            mounted: mount::is_mounted(&d.path),
        });
        let record = driver.record;
        Status {
            module: self.config.module.clone(),
            node: self.config.local.name.clone(),
            state: driver.state,
            readiness: driver.readiness,
            reason: driver.reason,
            pid: std::process::id(),
            epoch: record.epoch.as_ref().map(|e| (e.number, e.id.to_string())),
            in_sync: record.set().to_vec(),
            peer: driver.peer,
            directories: directories.collect(),
            counters: Counters {
                acknowledged: driver.counters.acknowledged + alone,
                in_flight: driver.counters.in_flight + times,
                rss_bytes,
                cpu_us,
                ..driver.counters
            },
            why: driver.why,
            marks: self.service.marks.status(),
            resync: self.driver.resync().map(resync_status),
            verify: self.service.verify.status(),
            version: driver.version,
            served: record.served,
            held_ms: driver.held.map(|time| time.as_millis() as u64),
            serves_until_ms: driver.serves_until.map(clock::boot_ms),
            lost: record.lost,
            stale: record.stale,
            left: record.left,
            witness: driver.witness,
        }
    }
}

fn resync_status(standing: Standing) -> ResyncStatus {
    let Standing {
        progress,
        runs,
        effort,
        stuck,
    } = standing;
    let phase = match progress.phase {
        Phase::Start => "beginning",
        Phase::Look => "looking",
        Phase::Place => "placing",
        Phase::Fill => "filling",
        Phase::Flush => "flushing",
        Phase::Wait => "waiting",
        Phase::Last => "last pass",
        Phase::Done => "done",
    };
    let rate = (progress.done as f64 / runs.as_secs_f64().max(0.001)) as u64;
    let left = progress.total.saturating_sub(progress.done);
    ResyncStatus {
        phase: format!("pass {}, {phase}", progress.pass),
        done_bytes: progress.done,
        total_bytes: progress.total,
        sent_bytes: progress.sent,
        files: progress.files,
        bytes_per_second: rate,
        eta_s: left.checked_div(rate),
        stuck,
        share_percent: effort.share.map(percent),
        latency_percent: effort.ratio.map(percent),
        change_delay_us: effort.delay.as_micros() as u64,
    }
}

fn percent(share: f64) -> u64 {
    (share * 100.0).round() as u64
}

/// Resident memory and processor time of this process.
fn usage() -> (u64, u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    // SAFETY: `rusage` is plain data for which zero is a value; the kernel fills it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid for writes.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let micros =
        |t: libc::timeval| t.tv_sec.cast_unsigned() * 1_000_000 + t.tv_usec.cast_unsigned();
    // SAFETY: takes a number only.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.cast_unsigned();
    (
        pages * page,
        micros(usage.ru_utime) + micros(usage.ru_stime),
    )
}
