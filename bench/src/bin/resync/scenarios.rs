//! What is measured.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Line;
use crate::lab::{Lab, MOUNT};
use crate::trees;

const LONG: Duration = Duration::from_secs(1800);
const MIB: f64 = 1024.0 * 1024.0;

/// How much of everything.
pub(crate) struct Scale {
    pub(crate) small_tree: u64,
    pub(crate) large_tree: u64,
    pub(crate) megabytes: u64,
    pub(crate) small_files: u64,
    /// Megabytes of the file that is written at random.
    pub(crate) random_file: u64,
}

type Scenario = fn(&Scale) -> Result<Vec<Line>>;

pub(crate) const ALL: [(&str, Scenario); 6] = [
    ("hundred", hundred),
    ("large", large),
    ("small", small),
    ("crash", crash),
    ("marks", marks),
    ("latency", latency),
];

fn line(what: impl Into<String>, figure: impl Into<String>) -> Line {
    Line {
        what: what.into(),
        figure: figure.into(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / MIB)
}

/// A hundred changes while the peer is away, in a small tree and in a large one.
fn hundred(scale: &Scale) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut figures = Vec::new();
    for files in [scale.small_tree, scale.large_tree] {
        let lab = Lab::up("16GiB", &[])?;
        trees::many(&lab.replica("node1"), files, 100)?;
        lab.tandem("node1", &["prim"])?;
        let (first, _) = lab.follow(LONG)?;
        lines.push(line(
            format!("{files} files: first synchronisation"),
            format!(
                "{}, {:.0} files/s",
                seconds(first),
                files as f64 / first.as_secs_f64()
            ),
        ));
        lab.lab("kill", &["node2"])?;
        lab.wait_for("node1", "ALONE", LONG)?;
        let changes: String = (0..100)
            .map(|n| format!("echo {n} >>{MOUNT}/{};", trees::path(n * files / 100)))
            .collect();
        lab.sh("node1", &changes)?;
        lab.lab("start", &["node2"])?;
        let (took, bytes) = lab.follow(LONG)?;
        figures.push((took.as_secs_f64(), bytes as f64));
        lines.push(line(
            format!("{files} files: 100 changes"),
            format!("{}, {} travelled", seconds(took), mebibytes(bytes)),
        ));
        let rss = (lab.rss("node1")?, lab.rss("node2")?);
        lines.push(line(
            format!("{files} files: memory of source and target"),
            format!("{}, {}", mebibytes(rss.0), mebibytes(rss.1)),
        ));
    }
    let (small, large) = (figures[0], figures[1]);
    lines.push(line(
        "large tree against small one (goal: at most 1.5)",
        format!(
            "time {:.2}, bytes {:.2}",
            large.0 / small.0,
            large.1 / small.1
        ),
    ));
    Ok(lines)
}

/// One large file to an empty node, against the disk and against rsync.
fn large(scale: &Scale) -> Result<Vec<Line>> {
    let lab = Lab::up("16GiB", &[])?;
    let file = lab.replica("node1").join("large");
    trees::large(&file, scale.megabytes)?;
    lab.settle()?;
    let disk = disk_rate(&lab, &file, scale.megabytes)?;
    let rsync = rsync(&lab, "node1")?;
    lab.tandem("node1", &["prim"])?;
    let (took, bytes) = lab.follow(LONG)?;
    let rate = scale.megabytes as f64 / took.as_secs_f64();
    let rsync = scale.megabytes as f64 / rsync.as_secs_f64();
    Ok(vec![
        line(
            "disk of the target, written and synced",
            format!("{disk:.0} MiB/s"),
        ),
        line("rsync -a over the link", format!("{rsync:.0} MiB/s")),
        line(
            "resync",
            format!("{rate:.0} MiB/s, {} travelled", mebibytes(bytes)),
        ),
        line(
            "resync against the disk (goal: 0.9)",
            format!("{:.2}", rate / disk),
        ),
    ])
}

/// Copies on the target's own disk: reads from memory, so that the writing counts.
fn disk_rate(lab: &Lab, file: &Path, megabytes: u64) -> Result<f64> {
    let to = lab.beside("node2");
    fs::create_dir_all(&to)?;
    let copy = to.join("copy");
    let start = Instant::now();
    fs::copy(file, &copy)?;
    fs::File::open(&copy)?.sync_all()?;
    let took = start.elapsed();
    fs::remove_file(&copy)?;
    Ok(megabytes as f64 / took.as_secs_f64())
}

/// The same tree by `rsync -a` between the nodes, to a directory beside the replica.
fn rsync(lab: &Lab, node: &str) -> Result<Duration> {
    let found = std::process::Command::new("rsync")
        .arg("--version")
        .output();
    ensure!(found.is_ok(), "rsync is missing: apt-get install rsync");
    let config =
        "use chroot = no\n[to]\npath = /mnt/disk/beside\nread only = no\nuid = 0\ngid = 0\n";
    lab.sh(
        "node2",
        &format!(
            "mkdir -p /mnt/disk/beside && printf '{config}' >/mnt/disk/rsyncd.conf && \
             rsync --daemon --config=/mnt/disk/rsyncd.conf"
        ),
    )?;
    let address = lab.sh(
        "node2",
        "ip -4 -o addr show scope global | awk '{print $4}'",
    )?;
    let address = address
        .trim()
        .split('/')
        .next()
        .unwrap_or_default()
        .to_string();
    let start = Instant::now();
    lab.sh(node, &format!("rsync -a {MOUNT}/ rsync://{address}/to/"))?;
    lab.sh("node2", "sync /mnt/disk/beside")?;
    let took = start.elapsed();
    lab.sh("node2", "rm -rf /mnt/disk/beside")?;
    Ok(took)
}

/// Many small files to an empty node, against rsync.
fn small(scale: &Scale) -> Result<Vec<Line>> {
    let lab = Lab::up("16GiB", &[])?;
    trees::many(&lab.replica("node1"), scale.small_files, 4096)?;
    lab.settle()?;
    let rsync = rsync(&lab, "node1")?;
    lab.settle()?;
    lab.tandem("node1", &["prim"])?;
    let (took, _) = lab.follow(LONG)?;
    let rate = |time: Duration| scale.small_files as f64 / time.as_secs_f64();
    Ok(vec![
        line(
            "rsync -a over the link",
            format!("{:.0} files/s", rate(rsync)),
        ),
        line("resync", format!("{:.0} files/s", rate(took))),
        line(
            "resync against rsync (goal: 5)",
            format!("{:.2}", rate(took) / rate(rsync)),
        ),
    ])
}

/// Both nodes lost under random writing.
fn crash(scale: &Scale) -> Result<Vec<Line>> {
    let lab = Lab::up("16GiB", &[])?;
    trees::many(&lab.replica("node1"), scale.small_tree, 100)?;
    lab.tandem("node1", &["prim"])?;
    lab.follow(LONG)?;
    let mut load = lab.start_sh("node1", &fio(scale.random_file, 3600, "randwrite"))?;
    std::thread::sleep(Duration::from_secs(15));
    lab.lab("kill", &["node1"])?;
    lab.lab("kill", &["node2"])?;
    load.wait()?;
    lab.lab("start", &["node1"])?;
    lab.lab("start", &["node2"])?;
    lab.tandem("node1", &["prim"])?;
    let (took, bytes) = lab.follow(LONG)?;
    Ok(vec![
        line(
            "both killed under random writing: in sync again",
            seconds(took),
        ),
        line("travelled (hot limit: 1 GiB)", mebibytes(bytes)),
    ])
}

fn fio(megabytes: u64, seconds: u64, rw: &str) -> String {
    format!(
        "fio --name=j --directory={MOUNT} --filename=random --rw={rw} --bs=4k --size={megabytes}m \
         --ioengine=psync --fallocate=none --overwrite=1 --time_based --runtime={seconds} \
         --output-format=json"
    )
}

/// Random writing in steady state, with marks and without, in turns.
fn marks(scale: &Scale) -> Result<Vec<Line>> {
    let mut with = Vec::new();
    let mut without = Vec::new();
    for _ in 0..3 {
        with.push(random_writes(scale, &[])?);
        without.push(random_writes(
            scale,
            &[("TANDEM_MEASURE_WITHOUT_MARKS", "1")],
        )?);
    }
    let middle = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let (with, without) = (middle(with), middle(without));
    Ok(vec![
        line(
            "random writes without marks",
            format!("{without:.0} a second"),
        ),
        line("with", format!("{with:.0} a second")),
        line(
            "loss (goal: at most 5 %)",
            format!("{:.1} %", (1.0 - with / without) * 100.0),
        ),
    ])
}

fn random_writes(scale: &Scale, env: &[(&str, &str)]) -> Result<f64> {
    let lab = Lab::up("16GiB", env)?;
    lab.tandem("node1", &["prim"])?;
    lab.follow(LONG)?;
    // Lays the file out and warms the marks.
    lab.sh("node1", &fio(scale.random_file, 20, "randwrite"))?;
    let text = lab.sh("node1", &fio(scale.random_file, 10, "randwrite"))?;
    Ok(job(&text)?["write"]["iops"].as_f64().unwrap_or(0.0))
}

fn job(text: &str) -> Result<Value> {
    let start = text.find('{').context("fio printed no JSON")?;
    let parsed: Value = serde_json::from_str(&text[start..])?;
    Ok(parsed["jobs"][0].clone())
}

/// The application's latency while a node is brought up.
fn latency(scale: &Scale) -> Result<Vec<Line>> {
    let lab = Lab::up("16GiB", &[])?;
    trees::large(&lab.replica("node1").join("large"), scale.megabytes)?;
    lab.tandem("node1", &["prim"])?;
    let percentile = |text: &str| -> Result<f64> {
        let job = job(text)?;
        let p95 = &job["sync"]["lat_ns"]["percentile"]["95.000000"];
        Ok(p95.as_f64().unwrap_or(0.0) / 1000.0)
    };
    let load = |seconds| format!("{} --fsync=1 --size=64m", fio(64, seconds, "randwrite"));
    lab.sh("node1", &load(2))?;
    let quiet = percentile(&lab.sh("node1", &load(5))?)?;
    let mut running = lab.start_sh("node1", &load(8))?;
    std::thread::sleep(Duration::from_secs(1));
    let (took, _) = lab.follow(LONG)?;
    let mut text = String::new();
    if let Some(out) = &mut running.stdout {
        out.read_to_string(&mut text)?;
    }
    running.wait()?;
    let busy = percentile(&text)?;
    Ok(vec![
        line("fsync p95 alone, undisturbed", format!("{quiet:.0} us")),
        line(
            format!("p95 over 8 s with a resync of {}", seconds(took)),
            format!("{busy:.0} us"),
        ),
        line("ratio (goal: at most 1.3)", format!("{:.2}", busy / quiet)),
    ])
}
