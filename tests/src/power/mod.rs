//! Power cuts: two real guests with Tandem and applications, switched off without warning.
//!
//! Each guest is a User-Mode Linux: Debian's kernel 6.1 as an ordinary process, which needs neither
//! a hypervisor nor an image (the guest's root is the root of this machine, read-only) and is
//! killed as a power cut would. Its disks are served by this process ([`drive`]) and have a
//! volatile write cache ([`disk`]): what was not flushed is lost. The device mapper's
//! dm-log-writes and dm-flakey were not taken for that: the first writes its log a moment after it
//! has answered the flush, so that a cut in this moment loses a flush that was acknowledged; the
//! second decides before the cut what is lost.
//!
//! What the applications were promised is noted outside the guests ([`told`], [`promises`]). After
//! the cut it is looked for on the node that serves next, and what was synced on the disk of each
//! node that lost its power, before Tandem runs there.
//!
//! Guests that are shut down in order, and come back by themselves, are run by systemd ([`boot`]).

pub mod available;
pub mod boot;
pub mod command;
pub mod disk;
pub mod drive;
pub mod engine;
pub mod initramfs;
pub mod inside;
pub mod loads;
pub mod machine;
pub mod network;
pub mod options;
pub mod pair;
pub mod patience;
pub mod postgresql;
pub mod promises;
pub mod remote;
pub mod round;
pub mod self_test;
pub mod setup;
pub mod told;

use crate::rng::Rng;
use anyhow::{Result, bail};
use network::Between;
use options::Options;
use pair::Pair;
use round::Round;
use std::time::Instant;

/// In a guest: the directory of the run.
pub const HOST: &str = "/mnt/host";
/// In a guest: the file system of the data disk, and the replicated directory on it.
pub const DISK: &str = "/mnt/disk";
pub const DATA: &str = "/mnt/disk/data";
/// In a guest: the tree below the replicated directory; the bind mount it is seen through.
pub const BELOW: &str = "/mnt/below";
pub const BELOW_DATA: &str = "/mnt/below/data";
/// In a guest: the file system of the state disk.
pub const STATE: &str = "/mnt/state";
/// In a guest: where a copy of PostgreSQL's data is looked at.
pub const PG_ASIDE: &str = "/mnt/disk/aside";
/// The module.
pub const MODULE: &str = "power";

/// The program outside the guests.
pub fn outside(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let mut scratch = setup::Scratch::new(options.engine, Between::Cable, options.keep)?;
    let result = if options.self_test {
        self_test::run(&scratch)
    } else {
        rounds(&options, &scratch)
    };
    if result.is_err() {
        scratch.failed();
    }
    result
}

fn rounds(options: &Options, scratch: &setup::Scratch) -> Result<()> {
    let started = Instant::now();
    let mut rng = Rng::new(options.seed);
    let mut pair = Pair::set_up(scratch)?;
    pair.begin()?;
    println!(
        "both guests in order after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    for number in 1..=options.rounds {
        // A generator for each round: what one draws does not change the next one's plan.
        let mut rng = Rng::new(rng.next_u64());
        let round = Round::plan(number, &mut rng, &pair);
        let began = Instant::now();
        let played = round.play(&mut pair, &mut rng);
        let took = began.elapsed().as_secs_f64();
        match played {
            Ok(report) => println!("round {number}: {round}: {report} ({took:.1} s)"),
            Err(error) => {
                println!("round {number}: {round}: FAILED ({took:.1} s)\n{error:#}");
                println!("{}", pair.last_words());
                let (rounds, seed) = (options.rounds, options.seed);
                bail!("round {number} failed; --rounds {rounds} --seed {seed} plans the same");
            }
        }
    }
    pair.end()?;
    println!("{} rounds, all in order", options.rounds);
    Ok(())
}
