//! Times with their unit in the text, so that no reader has to know whether a bare 3 means seconds.

use std::time::Duration;

/// What [`parse_duration`] reads, for messages.
pub(crate) const DURATION_FORM: &str =
    "a number with its unit, such as \"500ms\", \"3s\" or \"2m\"";

/// Reads `500ms`, `3s`, `2m` or `1h`.
///
/// # Errors
/// What is expected instead, ready for a message.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("found `{text}`, expected {DURATION_FORM}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(expected)
}

/// Writes a duration in the largest unit that needs no fraction; [`parse_duration`] reads it back.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms != 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [
            ("500ms", 500),
            ("3s", 3_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(text), Ok(duration));
            assert_eq!(show_duration(duration), text);
        }
        assert_eq!(show_duration(Duration::ZERO), "0ms");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "3",
            "s",
            "3 s",
            "-3s",
            "3.5s",
            "3S",
            "3sec",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
