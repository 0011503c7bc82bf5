//! The command line of the bench.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Parser;

use crate::workloads::{self, Spec};

/// Measures a replicated directory against a bare one on the same disk, in the same rounds
#[derive(Debug, Parser)]
#[command(name = "tandem-bench", version)]
pub(crate) struct Args {
    /// Only these workloads, such as W1,W3 (F, W, PW and W9 stand for all that begin so)
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub(crate) only: Vec<String>,
    /// How often each workload runs on each directory
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Length of each timed run (pgbench: three times that)
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// Small files, half a second for each run: shows that everything works, not how fast
    #[arg(long)]
    quick: bool,
    /// Writes everything measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measure this directory instead of a lab's mount
    #[arg(long, value_name = "DIR")]
    pub(crate) dir_subject: Option<PathBuf>,
    /// The directory to compare --dir-subject with; on the same disk
    #[arg(
        long,
        value_name = "DIR",
        requires = "dir_subject",
        conflicts_with = "mount_only"
    )]
    pub(crate) dir_bare: Option<PathBuf>,
    /// Only the subject, without a comparison: for profiling
    #[arg(long)]
    pub(crate) mount_only: bool,
    /// Acknowledgement mode of the lab: written or durable
    #[arg(long, value_name = "MODE", conflicts_with = "dir_subject")]
    pub(crate) ack: Option<String>,
    /// Where the lab keeps its disks: a new or empty directory, not on a file system in memory
    /// [default: below /var/tmp]
    #[arg(long, value_name = "DIR", conflicts_with = "dir_subject")]
    pub(crate) lab_dir: Option<PathBuf>,
    /// Round trip added between the nodes for the second half of PW, in microseconds; 0: none
    #[arg(long, value_name = "US", default_value_t = 500)]
    delay_us: u64,
    /// Exit with 2 if a floor is not reached
    #[arg(long)]
    pub(crate) strict: bool,
    /// Lists the workloads
    #[arg(long)]
    pub(crate) list: bool,
}

/// How much each workload does.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// Length of a timed run.
    pub(crate) run: Duration,
    pub(crate) pgbench_run: Duration,
    pub(crate) pgbench_scale: u32,
    /// Length of the file of random writes and reads by one process.
    pub(crate) random_file: u64,
    /// The same for each of eight processes.
    pub(crate) job_file: u64,
    pub(crate) sequential_file: u64,
    pub(crate) tree_files: u64,
    pub(crate) created_files: u64,
}

const MIB: u64 = 1 << 20;

impl Args {
    /// Everything that can be found wrong before something is started.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            (0.05..=600.0).contains(&self.seconds),
            "--seconds {}: give 0.05 to 600",
            self.seconds
        );
        ensure!(
            self.delay_us <= 100_000,
            "--delay-us {}: at most 100000",
            self.delay_us
        );
        ensure!(
            self.dir_subject.is_none() || self.dir_bare.is_some() || self.mount_only,
            "--dir-subject needs --dir-bare (or --mount-only)"
        );
        self.selected().map(drop)
    }

    pub(crate) fn sizes(&self) -> Sizes {
        if self.quick {
            return Sizes {
                run: Duration::from_millis(500),
                pgbench_run: Duration::from_secs(2),
                pgbench_scale: 2,
                random_file: 32 * MIB,
                job_file: 8 * MIB,
                sequential_file: 64 * MIB,
                tree_files: 300,
                created_files: 400,
            };
        }
        let run = Duration::from_secs_f64(self.seconds);
        Sizes {
            run,
            pgbench_run: Duration::from_secs((run * 3).as_secs().max(1)),
            pgbench_scale: 20,
            random_file: 256 * MIB,
            job_file: 32 * MIB,
            sequential_file: 512 * MIB,
            tree_files: 2_000,
            created_files: 6_000,
        }
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        (self.delay_us > 0).then(|| Duration::from_micros(self.delay_us))
    }

    /// The chosen workloads, in the order in which they run.
    pub(crate) fn selected(&self) -> Result<Vec<&'static Spec>> {
        let all = workloads::all();
        let wanted = |spec: &Spec, id: &String| {
            let known = spec.id.to_ascii_lowercase();
            match known.strip_prefix(&id.to_ascii_lowercase()) {
                Some(rest) if id.chars().all(char::is_alphabetic) => {
                    rest.starts_with(|next: char| next == '-' || next.is_ascii_digit())
                }
                Some(rest) => rest.is_empty() || rest.starts_with('-'),
                None => false,
            }
        };
        for id in &self.only {
            if !all.iter().any(|spec| wanted(spec, id)) {
                let known: Vec<_> = all.iter().map(|spec| spec.id).collect();
                bail!(
                    "--only {id}: no such workload; there are {}",
                    known.join(", ")
                );
            }
        }
        let chosen =
            |spec: &&Spec| self.only.is_empty() || self.only.iter().any(|id| wanted(spec, id));
        Ok(all.iter().copied().filter(chosen).collect())
    }
}
