//! F1 to F6: what W1 to W6 do, by fio, if it is installed. fio spends some microseconds of its own
//! on each call, which count on both sides, so its ratios are higher where calls are cheap. The
//! floors were measured with it and hold for these rows.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fio_report::{self, Counted};
use super::{Context, Floor, Needs, PLAIN, Spec, Tally, files, sequential_read};
use crate::sys;
use crate::tools::Tool;

/// What all of them have in common. SIZE, RUNTIME and DIR are filled in.
const COMMON: &str = "--group_reporting --output-format=json --fallocate=none --ioengine=psync \
                      --directory=DIR";
const JOBS: u64 = 8;

const RANDOM: Spec = Spec {
    group: "fio random",
    needs: Needs::Fio,
    prepare: |context| files::lay_out(&random(context), context.sizes.random_file),
    check: |context, _| files::check_length(&random(context), context.sizes.random_file),
    ..PLAIN
};

const SEQUENTIAL: Spec = Spec {
    unit: "MiB/s",
    group: "fio sequential",
    needs: Needs::Fio,
    prepare: |context| files::lay_out(&sequential(context), context.sizes.sequential_file),
    check: |context, _| files::check_length(&sequential(context), context.sizes.sequential_file),
    ..PLAIN
};

pub(super) static F1: Spec = Spec {
    id: "F1",
    what: "fio: 4 KiB random write + fsync, 1 process",
    floor: Floor::With(Tool::Fio, 0.30),
    run: |context| {
        let line = "--rw=randwrite --bs=4k --size=SIZE --filename=rnd --fsync=1 --overwrite=1 \
                    --time_based --runtime=RUNTIME";
        fio(context, line, context.sizes.random_file, Counted::Syncs(1))
    },
    ..RANDOM
};

pub(super) static F2: Spec = Spec {
    id: "F2",
    what: "fio: the same, 8 processes, own files",
    floor: Floor::With(Tool::Fio, 0.20),
    prepare: |context| {
        let size = context.sizes.job_file;
        (0..JOBS).try_for_each(|job| files::lay_out(&of(context, job), size))
    },
    run: |context| {
        let line = "--rw=randwrite --bs=4k --size=SIZE --filename_format=rnd8.$jobnum --numjobs=8 \
                    --fsync=1 --overwrite=1 --time_based --runtime=RUNTIME";
        fio(context, line, context.sizes.job_file, Counted::Syncs(JOBS))
    },
    check: |context, _| {
        let size = context.sizes.job_file;
        (0..JOBS).try_for_each(|job| files::check_length(&of(context, job), size))
    },
    ..RANDOM
};

pub(super) static F3: Spec = Spec {
    id: "F3",
    what: "fio: 4 KiB random write, no sync, 1 process",
    floor: Floor::With(Tool::Fio, 0.045),
    run: |context| {
        let line = "--rw=randwrite --bs=4k --size=SIZE --filename=rnd --overwrite=1 --time_based \
                    --runtime=RUNTIME";
        fio(context, line, context.sizes.random_file, Counted::Writes)
    },
    ..RANDOM
};

pub(super) static F4: Spec = Spec {
    id: "F4",
    what: "fio: 1 MiB sequential write, one fsync at the end",
    floor: Floor::With(Tool::Fio, 0.15),
    run: |context| {
        let line = "--rw=write --bs=1m --size=SIZE --filename=seq --end_fsync=1 --unlink=0";
        let size = context.sizes.sequential_file;
        let tally = fio(context, line, size, Counted::Writes)?;
        measurable(tally)
    },
    ..SEQUENTIAL
};

pub(super) static F5: Spec = Spec {
    id: "F5",
    what: "fio: 1 MiB sequential read, cached",
    floor: Floor::With(Tool::Fio, 0.65),
    prepare: |context| {
        (SEQUENTIAL.prepare)(context)?;
        let file = files::open(&sequential(context), 0)?;
        sequential_read::read_all(&file, context.sizes.sequential_file)
    },
    run: read_again_and_again,
    ..SEQUENTIAL
};

pub(super) static F6: Spec = Spec {
    id: "F6",
    what: "fio: 4 KiB random read, cached",
    floor: Floor::With(Tool::Fio, 0.95),
    prepare: |context| {
        (RANDOM.prepare)(context)?;
        let file = files::open(&random(context), 0)?;
        sequential_read::read_all(&file, context.sizes.random_file)
    },
    run: |context| {
        let line = "--rw=randread --bs=4k --size=SIZE --filename=rnd --invalidate=0 --time_based \
                    --runtime=RUNTIME";
        fio(context, line, context.sizes.random_file, Counted::Reads)
    },
    ..RANDOM
};

fn random(context: &Context) -> PathBuf {
    context.dir.join("rnd")
}

fn of(context: &Context, job: u64) -> PathBuf {
    context.dir.join(format!("rnd8.{job}"))
}

fn sequential(context: &Context) -> PathBuf {
    context.dir.join("seq")
}

/// F5: one pass takes a fraction of a second, which fio knows to the millisecond. So passes are
/// repeated, and added up, for as long as other runs take.
fn read_again_and_again(context: &Context) -> Result<Tally> {
    let line = "--rw=read --bs=1m --size=SIZE --filename=seq --invalidate=0";
    let size = context.sizes.sequential_file;
    let mut sum = Tally::default();
    let start = Instant::now();
    while sum.operations == 0 || start.elapsed() < context.sizes.run {
        let pass = fio(context, line, size, Counted::Reads)?;
        ensure!(
            pass.operations == size >> 20,
            "fio read {} MiB of {size} bytes",
            pass.operations
        );
        sum.append(&pass);
    }
    measurable(sum)
}

/// What was too short for fio's milliseconds has no rate.
fn measurable(tally: Tally) -> Result<Tally> {
    ensure!(!tally.elapsed.is_zero(), "too short for fio to be timed");
    Ok(tally)
}

/// Runs fio to its end; `line` as in the README.
fn fio(context: &Context, line: &str, size: u64, counted: Counted) -> Result<Tally> {
    let mut command = Command::new(Tool::Fio.name());
    command
        .arg("--name=bench")
        .args(arguments(context, line, size)?)
        .current_dir("/")
        .stdin(Stdio::null());
    // To a file: fio says that it was stopped, and must not be killed by that for lack of a reader.
    let log = context.scratch.join("fio.log");
    let file = File::create(&log).with_context(|| format!("{}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    // Its jobs are in no group of ours, and end when fio is asked to end, not when it is killed.
    command.process_group(0);
    sys::signal_with_parent(&mut command, libc::SIGTERM);
    let status = command.status().context("start fio")?;
    let text = fs::read(&log).with_context(|| format!("{}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    ensure!(status.success(), "fio: {status}: {}", said(&text));
    fio_report::parse(&text, counted).with_context(|| format!("fio's report ({})", said(&text)))
}

fn arguments(context: &Context, line: &str, size: u64) -> Result<Vec<String>> {
    let dir = context.dir.to_str().context("fio needs a readable path")?;
    // Colons separate directories.
    let dir = dir.replace(':', "\\:");
    let (size, runtime) = (mebibytes(size), seconds(context.sizes.run));
    let words = COMMON.split(' ').chain(line.split(' '));
    let filled = words.map(|word| match word.split_once('=') {
        Some((name, "DIR")) => format!("{name}={dir}"),
        Some((name, "SIZE")) => format!("{name}={size}"),
        Some((name, "RUNTIME")) => format!("{name}={runtime}"),
        _ => word.to_owned(),
    });
    Ok(filled.collect())
}

fn mebibytes(size: u64) -> String {
    format!("{}m", size >> 20)
}

fn seconds(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        time.as_secs().to_string()
    } else {
        format!("{}ms", time.as_millis())
    }
}

/// What fio says before its report, which is of no use in a message.
fn said(text: &str) -> &str {
    text.find("{\n").map_or(text, |at| &text[..at]).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_as_fio_reads_them() {
        assert_eq!(seconds(Duration::from_secs(3)), "3");
        assert_eq!(seconds(Duration::from_millis(500)), "500ms");
        assert_eq!(mebibytes(256 << 20), "256m");
    }

    #[test]
    fn messages_are_without_the_report() {
        assert_eq!(said("fio: bad\n{\n  \"jobs\": []\n}\n"), "fio: bad");
        assert_eq!(said("fio: bad\n"), "fio: bad");
    }
}
