//! The printed table.

use crate::report::{Side, Spread, Summary};

const TITLES: [&str; 12] = [
    "",
    "workload",
    "unit",
    "base",
    "measured",
    "ratio (min-max)",
    "floor",
    "",
    "base p50/p99",
    "p50/p99 us",
    "CPU us/op",
    "RSS MiB",
];
/// These are words; all others are numbers.
const LEFT: [usize; 3] = [0, 1, 2];

/// All rows, with their columns aligned.
pub(crate) fn render(rows: &[Summary]) -> String {
    let mut lines = vec![TITLES.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<_> = (0..TITLES.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| width(line, column))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            let cell = if LEFT.contains(&column) || line.len() < TITLES.len() {
                format!("{cell:<width$}  ")
            } else {
                format!("{cell:>width$}  ")
            };
            out.push_str(&cell);
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

/// A line that ends early (with a reason instead of numbers) does not widen its last column.
fn width(line: &[String], column: usize) -> usize {
    let counts = line.len() == TITLES.len() || column + 1 < line.len();
    line.get(column)
        .filter(|_| counts)
        .map_or(0, |cell| cell.chars().count())
}

fn cells(row: &Summary) -> Vec<String> {
    let mut line = vec![row.id.clone(), row.what.into()];
    let reason = match (&row.error, row.skipped) {
        (Some(error), _) => Some(format!("FAILED: {error}")),
        (None, Some(reason)) => Some(format!("skipped: {reason}")),
        (None, None) => None,
    };
    if let Some(reason) = reason {
        line.push(reason.replace('\n', "; "));
        return line;
    }
    let rate = |side: &Option<Side>| {
        side.as_ref()
            .map_or_else(String::new, |side| number(side.rate.median))
    };
    let latency = |side: &Option<Side>| {
        let found = side.as_ref().and_then(|side| side.p50_us.zip(side.p99_us));
        found.map_or_else(String::new, |(p50, p99)| {
            format!("{}/{}", number(p50), number(p99))
        })
    };
    let verdict = match row.reached {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "",
    };
    let join = |values: Vec<String>| values.join("+");
    line.extend([
        row.unit.into(),
        rate(&row.base),
        rate(&row.subject),
        row.ratio.map_or_else(String::new, ratio),
        row.floor
            .map_or_else(String::new, |floor| format!("{floor}")),
        verdict.into(),
        latency(&row.base),
        latency(&row.subject),
        join(
            row.cpu_us_per_operation
                .iter()
                .copied()
                .map(number)
                .collect(),
        ),
        join(
            row.rss_kib
                .iter()
                .map(|kib| kib.div_ceil(1024).to_string())
                .collect(),
        ),
    ]);
    line
}

fn ratio(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{} ({}-{})", short(median), short(min), short(max))
}

/// Enough digits for a ratio below 0.1.
fn short(ratio: f64) -> String {
    if ratio < 0.0995 {
        format!("{ratio:.3}")
    } else {
        format!("{ratio:.2}")
    }
}

fn number(value: f64) -> String {
    if value < 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Row;

    #[test]
    fn a_failure_shows_its_reason_and_does_not_disturb_the_columns() {
        let spec = crate::workloads::all()[0];
        let mut failed = Row::new(spec, None, Some("bare"), false);
        failed.error = Some("first\nsecond ".repeat(20));
        let text = render(&[failed.summary()]);
        assert!(text.contains("FAILED: first; second"), "{text}");
        assert!(text.lines().next().unwrap().chars().count() < 200, "{text}");
    }

    #[test]
    fn digits() {
        assert_eq!(
            [short(0.0412), short(0.0999), short(7.6)],
            ["0.041", "0.10", "7.60"]
        );
        assert_eq!(
            [number(3.21), number(9.96), number(4609.4)],
            ["3.2", "10", "4609"]
        );
    }
}
