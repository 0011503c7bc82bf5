//! PW: eight writers of one file against one writer, each in a part of its own. What counts is
//! whether their round trips to the peer overlap: the more the slower the network is.
//!
//! Three ways to open the file: plainly (then the kernel lets one cached write at a time into a
//! FUSE file, so that no more than 1.0 can be expected, and there is no floor), plainly but
//! matching one of the module's `direct` patterns, and with O_DIRECT.

use std::path::PathBuf;

use anyhow::Result;

use super::{Base, Context, Floor, Needs, PLAIN, Spec, Tally, files, gang};
use crate::random::Random;

const WRITERS: u64 = 8;
/// Part of the file that belongs to one writer.
const PART: u64 = 4 << 20;
const FLOOR: Floor = Floor::Always(4.0);

const PARALLEL: Spec = Spec {
    group: "one file",
    floor: FLOOR,
    also_delayed: true,
    ..PLAIN
};

pub(super) static BUFFERED: Spec = Spec {
    id: "PW-buffered",
    what: "8 writers of one file / 1 writer, buffered",
    floor: Floor::None,
    base: Base::Subject("1 writer", |context| write(context, PLAINLY, 1)),
    prepare: |context| files::lay_out(&path(context, PLAINLY), WRITERS * PART),
    run: |context| write(context, PLAINLY, WRITERS),
    check: |context, _| files::check_length(&path(context, PLAINLY), WRITERS * PART),
    ..PARALLEL
};

pub(super) static PATTERN: Spec = Spec {
    id: "PW-pattern",
    what: "the same, file matches a direct pattern",
    needs: Needs::Lab,
    base: Base::Subject("1 writer", |context| write(context, BY_PATTERN, 1)),
    prepare: |context| files::lay_out(&path(context, BY_PATTERN), WRITERS * PART),
    run: |context| write(context, BY_PATTERN, WRITERS),
    check: |context, _| files::check_length(&path(context, BY_PATTERN), WRITERS * PART),
    ..PARALLEL
};

pub(super) static O_DIRECT: Spec = Spec {
    id: "PW-odirect",
    what: "the same, O_DIRECT",
    base: Base::Subject("1 writer", |context| write(context, WITH_O_DIRECT, 1)),
    prepare: |context| files::lay_out(&path(context, WITH_O_DIRECT), WRITERS * PART),
    run: |context| write(context, WITH_O_DIRECT, WRITERS),
    check: |context, _| files::check_length(&path(context, WITH_O_DIRECT), WRITERS * PART),
    ..PARALLEL
};

/// How the file is opened.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    flags: i32,
}

const PLAINLY: Way = Way {
    name: "one",
    flags: 0,
};
/// Matches [`super::DIRECT_PATTERN`].
const BY_PATTERN: Way = Way {
    name: "one.direct",
    flags: 0,
};
const WITH_O_DIRECT: Way = Way {
    name: "one.odirect",
    flags: libc::O_DIRECT,
};

fn path(context: &Context, way: Way) -> PathBuf {
    context.dir.join(way.name)
}

fn write(context: &Context, way: Way, writers: u64) -> Result<Tally> {
    gang::run(writers, |writer| {
        let file = files::open(&path(context, way), way.flags)?;
        let span = writer * PART..(writer + 1) * PART;
        let (limit, random) = (context.sizes.run, Random::new(context.round, writer));
        Ok(move || files::overwrite(&file, span, limit, random, false))
    })
}
