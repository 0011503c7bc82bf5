//! What replication costs: workloads on a replicated directory and on a bare one on the same disk,
//! in the same rounds, and the ratio of the two.

mod args;
mod delay;
mod histogram;
mod lab;
mod links;
mod measure;
mod random;
mod report;
mod round_trip;
mod runner;
mod subject;
mod sys;
mod table;
mod tools;
mod usage;
mod workloads;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::Serialize;

use args::Args;
use delay::Delay;
use measure::Measurement;
use report::{Row, Summary};
use round_trip::RoundTrip;
use runner::Interrupted;
use subject::Subject;
use tools::Tool;
use workloads::Spec;

/// As shells have it for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;
const EXIT_FAILED: u8 = 1;
const EXIT_BELOW_FLOOR: u8 = 2;

/// How often the delay is measured and corrected.
const CORRECTIONS: u32 = 2;

/// Everything, for `--json`.
#[derive(Serialize)]
struct Report {
    arguments: Vec<String>,
    kernel: String,
    processors: usize,
    /// Processes that wanted to run when the bench began: a busy machine measures itself.
    load: String,
    /// Whose floors are where depends on them.
    fio: Option<&'static str>,
    find: Option<&'static str>,
    network: Option<Network>,
    /// The network that was made slower.
    delayed_network: Option<Network>,
    rows: Vec<Summary>,
}

/// Round trips between the nodes.
#[derive(Serialize)]
struct Network {
    p50_us: u128,
    p99_us: u128,
}

impl From<RoundTrip> for Network {
    fn from(RoundTrip { p50, p99 }: RoundTrip) -> Self {
        Self {
            p50_us: p50.as_micros(),
            p99_us: p99.as_micros(),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem-bench: {error:#}");
            ExitCode::from(if error.is::<Interrupted>() {
                EXIT_INTERRUPTED
            } else {
                EXIT_FAILED
            })
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    args.check()?;
    let specs = args.selected()?;
    if args.list {
        for spec in specs {
            println!("{:<12} {}", spec.id, spec.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    sys::catch_stop_signals();
    sys::adopt_orphans().context("become the parent of orphans")?;
    let report = measure(args, &specs)?;
    print(&report);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    let failed = report.rows.iter().any(|row| row.error.is_some());
    let below = report.rows.iter().any(|row| row.reached == Some(false));
    Ok(match (failed, below && args.strict) {
        (true, _) => ExitCode::from(EXIT_FAILED),
        (false, true) => ExitCode::from(EXIT_BELOW_FLOOR),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn measure(args: &Args, specs: &[&'static Spec]) -> Result<Report> {
    let load = fs::read_to_string("/proc/loadavg").context("read the load")?;
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let subject = Subject::new(args)?;
    let round_trip = round_trip(&subject).transpose()?;
    let mut measurement = Measurement {
        args,
        subject: &subject,
        delayed: false,
    };
    let mut rows = measurement.run(specs)?;
    let mut delayed_round_trip = None;
    let slow: Vec<_> = specs
        .iter()
        .copied()
        .filter(|spec| spec.also_delayed)
        .collect();
    if let (Some(added), Some(usual), false) = (args.delay(), round_trip, slow.is_empty()) {
        let (delay, measured) = insert_delay(&subject, usual, added)?;
        delayed_round_trip = Some(measured);
        measurement.delayed = true;
        rows.extend(measurement.run(&slow)?);
        drop(delay);
    }
    Ok(Report {
        arguments: std::env::args().collect(),
        load,
        fio: Tool::Fio.version(),
        find: Tool::Find.version(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        processors: std::thread::available_parallelism()?.get(),
        network: round_trip.map(Network::from),
        delayed_network: delayed_round_trip.map(Network::from),
        rows: rows.iter().map(Row::summary).collect(),
    })
}

/// Between the nodes, if there are two.
fn round_trip(subject: &Subject) -> Option<Result<RoundTrip>> {
    node_processes(subject).map(|(one, other)| round_trip::measure(one, other))
}

fn node_processes(subject: &Subject) -> Option<(u32, u32)> {
    match subject.nodes().as_slice() {
        [one, other] => one.pid.zip(other.pid),
        _ => None,
    }
}

/// Makes the network slower by `added`, as measured: forwarding itself takes time too.
fn insert_delay(
    subject: &Subject,
    usual: RoundTrip,
    added: Duration,
) -> Result<(Delay, RoundTrip)> {
    let Some((one, other)) = node_processes(subject) else {
        bail!("no two nodes")
    };
    let wanted = usual.p50 + added;
    let mut hold = added / 2;
    let mut delay = Delay::insert(one, other, hold)?;
    for _ in 0..CORRECTIONS {
        let found = round_trip::measure(one, other)?.p50;
        hold = (hold + wanted / 2).saturating_sub(found / 2);
        delay.set_hold(hold)?;
    }
    let measured = round_trip::measure(one, other)?;
    subject.wait_ready()?;
    Ok((delay, measured))
}

fn print(report: &Report) {
    let Report {
        kernel,
        processors,
        load,
        fio,
        find,
        network,
        delayed_network,
        ..
    } = report;
    println!("kernel {kernel}, {processors} processors, load {load} at the start");
    match fio {
        Some(version) => println!("{version}: the floors of W1 to W6 are those of F1 to F6"),
        None => println!(
            "note: fio is not installed, so F1 to F6 are left out and their floors are beside W1 \
             to W6, where they are harder to reach"
        ),
    }
    if find.is_none() {
        println!("note: findutils is not installed: W9 walks by itself and has no floor");
    }
    let show = |what: &str, found: &Option<Network>| {
        if let Some(Network { p50_us, p99_us }) = found {
            println!("{what}: p50 {p50_us} us, p99 {p99_us} us");
        }
    };
    show("round trip between the nodes", network);
    show("round trip with delay", delayed_network);
    println!();
    print!("{}", table::render(&report.rows));
}
