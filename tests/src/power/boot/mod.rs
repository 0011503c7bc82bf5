//! Two servers as an operator has them: systemd starts the failover manager by the unit that is
//! delivered, and ends it at a shutdown (acceptance rows M08, M23, M24, M30).
//!
//! The guests are those of the power cuts; in these systemd is the first process, with D-Bus. They
//! have a network of the cluster that is a unit as well, so that it goes away during a shutdown.
//! Two modules run there, one by a unit and one by scripts, each with an address that is asked
//! without end from outside.

pub mod asker;
pub mod installed;
pub mod leaving;
pub mod manager;
pub mod rebooting;
pub mod stuck;
pub mod world;

use super::engine;
use super::network::Between;
use super::setup::Scratch;
use anyhow::{Result, bail};
use installed::Module;
use std::time::Instant;
use world::World;

/// A story: its name, the modules it is about, and what happens.
type Story = (
    &'static str,
    &'static [Module],
    fn(&mut World) -> Result<()>,
);

const STORIES: [Story; 4] = [
    ("shutdown", &installed::SERVED, leaving::shutdown),
    ("reboot", &installed::ALL, rebooting::reboot),
    ("manager", &installed::SERVED, manager::dies_and_hangs),
    ("watchdog", &installed::SERVED, stuck::resets),
];

/// Plays one of them: `STORY [--keep]`.
///
/// # Errors
/// What was not as it must be, with the last words of both guests.
pub fn outside(words: &[&str]) -> Result<()> {
    let names = STORIES.map(|(name, ..)| name);
    let (name, keep) = match words {
        [name] => (name, false),
        [name, "--keep"] => (name, true),
        _ => bail!("usage: power boot {} [--keep]", names.join("|")),
    };
    let story = STORIES.iter().find(|(known, ..)| known == name);
    let Some((_, modules, play)) = story else {
        bail!("no story {name:?}; there are {}", names.join(", "));
    };
    let began = Instant::now();
    let mut scratch = Scratch::new(engine::Kind::UserModeLinux, Between::Switch, keep)?;
    let result = World::begin(&scratch, modules).and_then(|mut world| {
        println!("both serve after {:.1} s", began.elapsed().as_secs_f64());
        let played = play(&mut world).and_then(|()| world.ends_well());
        played.inspect_err(|_| println!("{}", world.last_words()))
    });
    if result.is_err() {
        scratch.failed();
    }
    println!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    result
}
