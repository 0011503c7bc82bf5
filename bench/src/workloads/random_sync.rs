//! W1 and W2: small random writes, each followed by fsync, as databases and mail servers do.

use std::path::PathBuf;

use anyhow::Result;

use super::{Context, Floor, PLAIN, Spec, files, gang};
use crate::random::Random;
use crate::tools::Tool;

const JOBS: u64 = 8;

pub(super) static W1: Spec = Spec {
    id: "W1",
    what: "4 KiB random write + fsync, 1 process",
    group: "random",
    floor: Floor::Without(Tool::Fio, 0.30),
    prepare: |context| files::lay_out(&single(context), context.sizes.random_file),
    run: |context| {
        let file = files::open(&single(context), 0)?;
        let (span, limit) = (0..context.sizes.random_file, context.sizes.run);
        files::overwrite(&file, span, limit, Random::new(context.round, 0), true)
    },
    check: |context, _| files::check_length(&single(context), context.sizes.random_file),
    ..PLAIN
};

pub(super) static W2: Spec = Spec {
    id: "W2",
    what: "4 KiB random write + fsync, 8 processes, own files",
    group: "random",
    floor: Floor::Without(Tool::Fio, 0.20),
    prepare: |context| each_job(|job| files::lay_out(&of(context, job), context.sizes.job_file)),
    run: |context| {
        gang::run(JOBS, |job| {
            let file = files::open(&of(context, job), 0)?;
            let (span, limit) = (0..context.sizes.job_file, context.sizes.run);
            let random = Random::new(context.round, job);
            Ok(move || files::overwrite(&file, span, limit, random, true))
        })
    },
    check: |context, _| {
        each_job(|job| files::check_length(&of(context, job), context.sizes.job_file))
    },
    ..PLAIN
};

/// The file of all workloads of one process in this group.
pub(super) fn single(context: &Context) -> PathBuf {
    context.dir.join("random")
}

fn of(context: &Context, job: u64) -> PathBuf {
    context.dir.join(format!("random.{job}"))
}

fn each_job(work: impl FnMut(u64) -> Result<()>) -> Result<()> {
    (0..JOBS).try_for_each(work)
}
