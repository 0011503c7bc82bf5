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

/// Milliseconds since the machine booted at that moment, which every process of it understands.
pub fn boot_ms(at: Instant) -> u64 {
    let (now, boot) = (now(), boot_time());
    let at = match now.checked_duration_since(at) {
        Some(ago) => boot.saturating_sub(ago),
        None => boot + at.saturating_duration_since(now),
    };
    at.as_millis() as u64
}

/// The moment so many milliseconds after the machine booted.
pub fn at_boot_ms(ms: u64) -> Instant {
    let (now, boot, at) = (now(), boot_time(), Duration::from_millis(ms));
    match at.checked_sub(boot) {
        Some(ahead) => now.checked_add(ahead).unwrap_or(now),
        None => now.checked_sub(boot - at).unwrap_or(now),
    }
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
    fn a_moment_is_the_same_after_it_was_told_to_another_process() {
        for at in [now(), now() + Duration::from_secs(7)] {
            let again = at_boot_ms(boot_ms(at));
            let off = at.max(again) - at.min(again);
            assert!(off <= Duration::from_millis(20), "{off:?}");
        }
    }

    #[test]
    fn it_goes_forward_at_the_pace_of_time() {
        let (a, wall) = (now(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (b, elapsed) = (now(), wall.elapsed());
        assert!(b - a >= Duration::from_millis(20));
        assert!(b - a <= elapsed + Duration::from_millis(20));
    }
}
