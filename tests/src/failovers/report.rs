//! How long what took, in a series of failovers.

use super::Kind;
use crate::managed_world::World;
use crate::managed_world::notes::{self, Event};
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Milliseconds by what they are of.
#[derive(Default)]
pub(super) struct Report(BTreeMap<(String, Kind), Vec<u64>>);

impl Report {
    fn add(&mut self, what: &str, kind: Kind, micros: u64) {
        let all = self.0.entry((what.into(), kind)).or_default();
        all.push(micros / 1000);
    }

    pub(super) fn pause(&mut self, kind: Kind, pause: Duration) {
        let micros = pause.as_micros() as u64;
        self.add("1 the client had no answer", kind, micros);
    }

    pub(super) fn both(&mut self, kind: Kind, micros: u64) {
        self.add("5 the old address stayed after the waking", kind, micros);
    }

    /// The application moved: when its scripts ran, when the address was there, and what the
    /// manager says of it.
    pub(super) fn moved(
        &mut self,
        world: &World,
        kind: Kind,
        (from, to): (&str, &str),
        began: u64,
    ) -> Result<()> {
        let events = notes::events(world.notes())?;
        let first = |node: &str, what: &str| {
            let is = |e: &&Event| e.at >= began && e.node == node && e.what == what;
            events.iter().find(is).map(|e| e.at)
        };
        let start = first(to, "start");
        if let Some(start) = start {
            self.add("2 event to start script", kind, start - began);
        }
        let planned = matches!(kind, Kind::Stop | Kind::Swap);
        if let (true, Some(stopped)) = (planned, first(from, "stopped")) {
            let changes = world.eyes().changes();
            let got = changes
                .iter()
                .find(|c| c.at >= began && c.node == to && c.has);
            if let Some(got) = got {
                let micros = got.at.saturating_sub(stopped);
                self.add("3 stop script ended to address", kind, micros);
            }
            if let Some(start) = start {
                let micros = start.saturating_sub(stopped);
                self.add("3 stop script ended to start script", kind, micros);
            }
        }
        if !planned {
            self.told(world, kind, to)?;
        }
        Ok(())
    }

    /// The latest failover as `tandem log --failovers` tells it.
    fn told(&mut self, world: &World, kind: Kind, node: &str) -> Result<()> {
        let text = world.tandem(node, &["log", "--failovers", "--json"])?;
        let answer: Value = serde_json::from_str(&text)?;
        let Some(phases) = answer["failovers"][0]["phases"].as_array() else {
            return Ok(());
        };
        let application = phases.iter().find(|p| p[0] == "application");
        if let Some(ms) = application.and_then(|p| p[1].as_u64()) {
            self.add("4 detection to application, as logged", kind, ms * 1000);
        }
        Ok(())
    }

    pub(super) fn print(&self) {
        let mut before = "";
        for ((what, kind), all) in &self.0 {
            if what != before {
                println!(
                    "\n{:<44} {:>4} {:>7} {:>7} {:>7}",
                    &what[2..],
                    "n",
                    "median",
                    "p95",
                    "max"
                );
                before = what;
            }
            let mut all = all.clone();
            all.sort_unstable();
            let at = |percent: usize| all[(all.len() * percent).div_ceil(100).max(1) - 1];
            println!(
                "  {:<42} {:>4} {:>4} ms {:>4} ms {:>4} ms",
                kind.name(),
                all.len(),
                at(50),
                at(95),
                at(100)
            );
        }
        println!();
    }
}
