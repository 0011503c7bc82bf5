//! Reading fio's JSON report.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Deserializer, Value};

use super::Tally;
use crate::histogram::Histogram;

/// Which of fio's figures are a row's.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    Reads,
    Writes,
    /// Writes, each of them synced by one of so many jobs; latency is that of the syncs.
    Syncs(u64),
}

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

/// With `--group_reporting` all jobs together.
#[derive(Deserialize)]
struct Job {
    error: i64,
    read: Direction,
    write: Direction,
    sync: Syncs,
}

#[derive(Deserialize)]
struct Direction {
    total_ios: u64,
    short_ios: u64,
    iops: f64,
    /// KiB per second.
    bw: f64,
    /// Milliseconds.
    runtime: u64,
    clat_ns: Latency,
}

#[derive(Deserialize)]
struct Syncs {
    total_ios: u64,
    lat_ns: Latency,
}

#[derive(Deserialize)]
struct Latency {
    /// By per cent, as text.
    #[serde(default)]
    percentile: serde_json::Map<String, Value>,
}

/// What fio did, if it did it without error.
pub(super) fn parse(text: &str, counted: Counted) -> Result<Tally> {
    // Warnings come before the report, and may come after it.
    let start = text.find("{\n").context("is missing")?;
    let mut values = Deserializer::from_str(&text[start..]).into_iter::<Report>();
    let report = values.next().context("is empty")??;
    ensure!(report.jobs.len() == 1, "is of {} groups", report.jobs.len());
    let job = &report.jobs[0];
    ensure!(job.error == 0, "has error {}", job.error);
    let (found, latency) = match counted {
        Counted::Reads => (&job.read, &job.read.clat_ns),
        Counted::Writes => (&job.write, &job.write.clat_ns),
        Counted::Syncs(jobs) => {
            let (writes, syncs) = (job.write.total_ios, job.sync.total_ios);
            // The end of the time may come between a write and its sync.
            ensure!(
                syncs + jobs >= writes,
                "has {syncs} syncs of {writes} writes"
            );
            (&job.write, &job.sync.lat_ns)
        }
    };
    ensure!(found.total_ios > 0, "has no operation");
    ensure!(found.short_ios == 0, "has {} short ones", found.short_ios);
    let operations = found.total_ios;
    // The rate is of the same two numbers; together they show that we read the right ones.
    let elapsed = Duration::from_millis(found.runtime);
    let rate = operations as f64 / elapsed.as_secs_f64();
    ensure!(
        found.runtime == 0 || (found.iops / rate - 1.0).abs() < 0.01,
        "has {} per second ({} KiB), not {rate}",
        found.iops,
        found.bw,
    );
    Ok(Tally {
        operations,
        elapsed,
        latency: spread(&latency.percentile, operations).context("has no percentiles")?,
    })
}

/// As many latencies as there were operations, with fio's percentiles: between two of them all are
/// as the greater one.
fn spread(percentiles: &serde_json::Map<String, Value>, operations: u64) -> Option<Histogram> {
    let point = |(percent, nanos): (&String, &Value)| {
        let share = percent.parse::<f64>().ok()? / 100.0;
        Some((share, Duration::from_nanos(nanos.as_u64()?)))
    };
    let mut points = percentiles
        .iter()
        .map(point)
        .collect::<Option<Vec<_>>>()
        .filter(|points| !points.is_empty())?;
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    // What lies beyond the last percentile is at least as long.
    points.push((1.0, points.last()?.1));
    let mut histogram = Histogram::default();
    let mut seen = 0;
    for (share, latency) in points {
        let below = (operations as f64 * share).ceil() as u64;
        histogram.record_many(latency, below.saturating_sub(seen));
        seen = seen.max(below);
    }
    Some(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of fio 3.33, without what is not read.
    const TEXT: &str = r#"fio: a warning
{
  "fio version" : "fio-3.33",
  "jobs" : [
    {
      "jobname" : "check",
      "error" : 0,
      "read" : { "total_ios" : 0, "short_ios" : 0, "iops" : 0.0, "bw" : 0, "runtime" : 0,
        "clat_ns" : { "min" : 0, "N" : 0 } },
      "write" : { "total_ios" : 1433, "short_ios" : 0, "iops" : 1430.139721, "bw" : 5720,
        "runtime" : 1002, "clat_ns" : { "N" : 1433, "percentile" : {
          "1.000000" : 3152, "50.000000" : 3696, "99.000000" : 23680, "99.990000" : 31872 } } },
      "sync" : { "total_ios" : 1433, "lat_ns" : { "N" : 1433, "percentile" : {
          "1.000000" : 76288, "50.000000" : 119296, "99.000000" : 4816896,
          "99.990000" : 36438016 } } }
    }
  ]
}
"#;

    fn near(found: Option<Duration>, nanos: f64) -> bool {
        found.is_some_and(|found| (found.as_nanos() as f64 / nanos - 1.0).abs() < 0.04)
    }

    #[test]
    fn reads_rates_and_latencies() {
        let tally = parse(TEXT, Counted::Writes).unwrap();
        assert_eq!(tally.operations, 1433);
        assert!((tally.rate() - 1430.14).abs() < 0.01);
        assert!(near(tally.latency.quantile(0.5), 3696.0));
        assert!(near(tally.latency.quantile(0.99), 23680.0));
        let synced = parse(TEXT, Counted::Syncs(1)).unwrap();
        assert_eq!(synced.operations, 1433);
        assert!(near(synced.latency.quantile(0.5), 119_296.0));
        assert!(near(synced.latency.quantile(0.99), 4_816_896.0));
    }

    #[test]
    fn refuses_what_is_no_success() {
        let refused = |from: &str, to: &str, counted| {
            assert!(TEXT.contains(from));
            parse(&TEXT.replace(from, to), counted).is_err()
        };
        assert!(refused("\"error\" : 0", "\"error\" : 5", Counted::Writes));
        assert!(refused(
            "\"iops\" : 1430",
            "\"iops\" : 430",
            Counted::Writes
        ));
        let few = "\"sync\" : { \"total_ios\" : 1431";
        let all = "\"sync\" : { \"total_ios\" : 1433";
        assert!(refused(all, few, Counted::Syncs(1)));
        assert!(!refused(all, few, Counted::Syncs(2)));
        assert!(parse(TEXT, Counted::Reads).is_err());
        assert!(parse("fio: no such file", Counted::Reads).is_err());
    }
}
