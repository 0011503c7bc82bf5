//! The clock of leases and deadlines: it never jumps, and it goes on while the machine sleeps or a
//! guest is paused by its host (`CLOCK_BOOTTIME`), so that a node that wakes up knows that its
//! lease is over (I13). The wall clock is read for no decision (I11).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Now, as an [`Instant`] that counts boot time. Comparable only with others from here.
pub fn now() -> Instant {
    static BASE: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (base, boot) = BASE.get_or_init(|| (Instant::now(), boot_time()));
    *base + boot_time().saturating_sub(*boot)
}

fn boot_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is valid for writes.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(result, 0, "every supported kernel has the boot-time clock");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_at_the_pace_of_time() {
        let (a, wall) = (now(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (b, elapsed) = (now(), wall.elapsed());
        assert!(b - a >= Duration::from_millis(20));
        assert!(b - a <= elapsed + Duration::from_millis(20));
    }
}
