//! Times, sizes and shares with their unit in the text, so that no reader has to know whether a
//! bare 3 means seconds.

use std::time::Duration;

/// What [`parse_duration`] reads, for messages.
pub(crate) const DURATION_FORM: &str =
    "a number with its unit, such as \"500ms\", \"3s\" or \"2m\"";

/// Reads `500ms`, `3s`, `2m`, `1h` or `7d`.
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
        "d" => 86_400_000,
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
    for (unit_ms, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        if ms != 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

/// What [`parse_percent`] reads, for messages.
pub(crate) const PERCENT_FORM: &str = "a share such as \"30%\"";

/// Reads `30%`.
///
/// # Errors
/// What is expected instead, ready for a message.
pub(crate) fn parse_percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').and_then(|n| n.parse().ok());
    number.ok_or_else(|| format!("found `{text}`, expected {PERCENT_FORM}"))
}

/// What [`parse_size`] reads, for messages.
pub(crate) const SIZE_FORM: &str =
    "a number with its unit, such as \"512MiB\", \"1GiB\" or \"2TiB\"";

const SIZES: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Reads `64KiB`, `512MiB`, `1GiB` or `2TiB`, as bytes.
///
/// # Errors
/// What is expected instead, ready for a message.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || format!("found `{text}`, expected {SIZE_FORM}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let size = SIZES.iter().find(|(name, _)| *name == unit);
    let (_, bytes) = size.ok_or_else(expected)?;
    number.checked_mul(*bytes).ok_or_else(expected)
}

/// Writes a size in the largest unit that needs no fraction; [`parse_size`] reads it back if it is
/// at least a KiB.
pub(crate) fn show_size(size: u64) -> String {
    let whole = |(_, bytes): &&(&str, u64)| size != 0 && size.is_multiple_of(*bytes);
    match SIZES.iter().find(whole) {
        Some((unit, bytes)) => format!("{}{unit}", size / bytes),
        None => format!("{size} bytes"),
    }
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
    fn sizes_are_read_and_written() {
        for (text, size) in [
            ("64KiB", 64 << 10),
            ("512MiB", 512 << 20),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(size));
            assert_eq!(show_size(size), text);
        }
        for text in [
            "",
            "1",
            "GiB",
            "1GB",
            "1 GiB",
            "1.5GiB",
            "-1GiB",
            "99999999999TiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
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
