//! What happens in a series of failovers.

use super::STUCK;
use crate::managed_world::World;
use crate::rng::Rng;
use crate::sys;
use anyhow::{Context, Result, bail};
use std::thread;
use std::time::Duration;

/// One kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The serving node loses power.
    Power,
    /// The following node loses power.
    PowerSecond,
    /// The serving node is cut off from everybody.
    Cut,
    /// The two do not reach each other; both reach the witness.
    CutLink,
    /// Every process of the serving node stands still until the other serves.
    Freeze,
    /// The same for a moment.
    Hiccup,
    Stop,
    Swap,
    /// The serving file system daemon is killed.
    KillDaemon,
    /// The serving node's manager is killed.
    KillManager,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Power,
        Self::PowerSecond,
        Self::Cut,
        Self::CutLink,
        Self::Freeze,
        Self::Hiccup,
        Self::Stop,
        Self::Swap,
        Self::KillDaemon,
        Self::KillManager,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::PowerSecond => "power-second",
            Self::Cut => "cut",
            Self::CutLink => "cut-link",
            Self::Freeze => "freeze",
            Self::Hiccup => "hiccup",
            Self::Stop => "stop",
            Self::Swap => "swap",
            Self::KillDaemon => "kill-daemon",
            Self::KillManager => "kill-manager",
        }
    }

    pub(super) fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        let all = Self::ALL.map(Self::name).join(", ");
        found.with_context(|| format!("{name} is none of {all}"))
    }

    /// Whether a node may have the address without having been asked to give it up.
    pub(super) fn freezes(self) -> bool {
        matches!(self, Self::Freeze | Self::Hiccup)
    }

    /// Does it, and what it takes for the nodes to be one again. When a frozen node was woken.
    pub(super) fn happens(
        self,
        world: &World,
        (serving, following): (&str, &str),
        rng: &mut Rng,
    ) -> Result<Option<u64>> {
        let mut pass = |from: u64, to: u64| {
            thread::sleep(Duration::from_millis(from + rng.below(to - from)));
        };
        match self {
            Self::Power => {
                world.power_off(serving)?;
                world.is_answered_by(following, STUCK)?;
                pass(0, 1000);
                world.power_on(serving)?;
            }
            Self::PowerSecond => {
                world.power_off(following)?;
                pass(0, 4000);
                world.power_on(following)?;
            }
            Self::Cut => {
                world.lab("cut", &[serving])?;
                world.is_answered_by(following, STUCK)?;
                pass(0, 1000);
                world.lab("heal", &[])?;
            }
            Self::CutLink => {
                world.lab("cut", &[serving, following])?;
                pass(0, 6000);
                world.lab("heal", &[])?;
            }
            Self::Freeze | Self::Hiccup => {
                world.signal_all(serving, libc::SIGSTOP)?;
                if self == Self::Freeze {
                    world.is_answered_by(following, STUCK)?;
                    pass(0, 1000);
                } else {
                    pass(200, 2500);
                }
                let woken = sys::boot_clock();
                world.signal_all(serving, libc::SIGCONT)?;
                return Ok(Some(woken));
            }
            Self::Stop => {
                world.tandem(serving, &["stop"])?;
                world.is_answered_by(following, STUCK)?;
                world.tandem(serving, &["start"])?;
            }
            Self::Swap => world.tandem(serving, &["swap"]).map(drop)?,
            Self::KillDaemon => {
                let pid = world.module(serving)?["daemon"]["pid"].as_u64();
                kill(world, serving, pid)?;
            }
            Self::KillManager => kill(world, serving, world.manager(serving)?["pid"].as_u64())?,
        }
        Ok(None)
    }
}

fn kill(world: &World, node: &str, pid: Option<u64>) -> Result<()> {
    let Some(pid) = pid else {
        bail!("{node} tells no process number");
    };
    world
        .exec(node, &["kill", "-KILL", &pid.to_string()])
        .map(drop)
}
