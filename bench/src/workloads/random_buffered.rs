//! W3: small random overwrites without any sync. A bare file system only fills its page cache; here
//! each write waits for the peer, so this row shows the cost of one round trip of a process.

use super::random_sync::single;
use super::{Floor, PLAIN, Spec, files};
use crate::random::Random;
use crate::tools::Tool;

pub(super) static W3: Spec = Spec {
    id: "W3",
    what: "4 KiB random write, no sync, 1 process",
    group: "random",
    floor: Floor::Without(Tool::Fio, 0.045),
    prepare: |context| files::lay_out(&single(context), context.sizes.random_file),
    run: |context| {
        let file = files::open(&single(context), 0)?;
        let (span, limit) = (0..context.sizes.random_file, context.sizes.run);
        files::overwrite(&file, span, limit, Random::new(context.round, 3), false)
    },
    check: |context, _| files::check_length(&single(context), context.sizes.random_file),
    ..PLAIN
};
