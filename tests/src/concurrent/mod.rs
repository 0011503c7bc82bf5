//! Several clients at once. Each case has an oracle of its own for what must hold in the directory;
//! on a cluster both replicas are compared afterwards, too, which sees what the case cannot.
//!
//! The clients are threads with descriptors of their own: to a file system that is what several
//! processes are.

mod data;
mod names;
pub mod oracle;

use crate::rng::{Rng, setting};
use crate::scratch::Place;
use crate::sys::{self, Errno, Sys};
use std::thread;

/// A case: runs in an empty directory that is the working directory.
pub struct Case {
    pub name: &'static str,
    run: fn(u64) -> Result<(), String>,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        name: "append_by_several",
        run: data::append_by_several,
    },
    Case {
        name: "overlapping_buffered_writes",
        run: data::overlapping_buffered_writes,
    },
    Case {
        name: "overlapping_direct_writes",
        run: data::overlapping_direct_writes,
    },
    Case {
        name: "unaligned_overlapping_writes",
        run: data::unaligned_overlapping_writes,
    },
    Case {
        name: "writes_against_truncates",
        run: data::writes_against_truncates,
    },
    Case {
        name: "stores_and_writes",
        run: data::stores_and_writes,
    },
    Case {
        name: "fsync_storm",
        run: data::fsync_storm,
    },
    Case {
        name: "rename_above_a_writer",
        run: names::rename_above_a_writer,
    },
    Case {
        name: "unlink_below_a_writer",
        run: names::unlink_below_a_writer,
    },
    Case {
        name: "names_of_one_directory",
        run: names::names_of_one_directory,
    },
    Case {
        name: "moves_between_directories",
        run: names::moves_between_directories,
    },
    Case {
        name: "exchanged_directories",
        run: names::exchanged_directories,
    },
    Case {
        name: "attributes_of_the_same_files",
        run: names::attributes_of_the_same_files,
    },
    Case {
        name: "spool",
        run: names::spool,
    },
];

/// Runs one case in a fresh directory of the place.
pub fn run(place: &Place, case: &Case, seed: u64) -> Result<(), String> {
    place.inside(|| {
        let dir = format!("{}-{seed}", case.name);
        sys::mkdir(&dir, 0o777).map_err(|error| format!("mkdir {dir}: {error}"))?;
        sys::chdir(&dir).map_err(|error| format!("chdir {dir}: {error}"))?;
        (case.run)(seed).map_err(|what| format!("{}: {what}", case.name))
    })
}

/// How many rounds each client makes; `TANDEM_ROUNDS` multiplies it for longer runs.
fn rounds(normal: u64) -> u64 {
    normal * setting("TANDEM_ROUNDS", 1)
}

/// Runs `clients` threads at once, each with its number and a random generator of its own, and
/// gives the first failure.
fn together<F>(clients: u64, seed: u64, client: F) -> Result<(), String>
where
    F: Fn(u64, Rng) -> Result<(), String> + Sync,
{
    thread::scope(|scope| {
        let start = |number: u64| {
            let client = &client;
            let rng = Rng::new(seed ^ (number + 1).wrapping_mul(0x9e37_79b9));
            scope.spawn(move || client(number, rng))
        };
        let handles: Vec<_> = (0..clients).map(start).collect();
        let ended = handles.into_iter().map(|handle| {
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// A system call that must succeed, with what it was for.
fn must<T>(what: &str, answer: Sys<T>) -> Result<T, String> {
    answer.map_err(|error| format!("{what}: {error}"))
}

/// A system call that may fail with these errors, because somebody else was faster.
fn may(what: &str, allowed: &[i32], answer: Sys<()>) -> Result<bool, String> {
    match answer {
        Ok(()) => Ok(true),
        Err(Errno(number)) if allowed.contains(&number) => Ok(false),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
