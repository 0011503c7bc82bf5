//! One round: applications run, the power goes somewhere, and everything promised is looked for.

use super::disk::Survival;
use super::loads::{Kind, Loads};
use super::machine::Machine;
use super::pair::{NOTICE, Pair, RESYNC};
use super::patience::Patience;
use super::promises::{Found, Promises};
use super::{BELOW_DATA, DATA, MODULE};
use crate::rng::Rng;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::time::{Duration, Instant};

/// An older answer says nothing of now.
const FRESH: Duration = Duration::from_secs(2);

/// Whose power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Serving,
    Other,
    Both,
}

/// What a round does, chosen before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    number: u64,
    victim: Victim,
    serving: String,
    kinds: Vec<Kind>,
    /// From the first acknowledgement of every load to the cut.
    delay: Duration,
    /// What is left in the caches of both nodes' disks.
    survival: [Survival; 2],
    /// Whether applications run while the nodes come together again.
    busy: bool,
    /// The returning node's power is cut a second time, so long after it began to be brought up.
    again: Option<Duration>,
    /// At the end the other node is made to serve.
    swap: bool,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(ToString::to_string).collect();
        let victim = match self.victim {
            Victim::Serving => "the serving node",
            Victim::Other => "the other node",
            Victim::Both => "both nodes",
        };
        let delay = self.delay.as_secs_f64();
        write!(f, "{} on {}; ", kinds.join(", "), self.serving)?;
        write!(f, "{victim} off after {delay:.1} s")?;
        if let Some(again) = self.again {
            write!(f, ", again after {:.2} s", again.as_secs_f64())?;
        }
        write!(f, ", {} and {} kept", self.survival[0], self.survival[1])?;
        f.write_str(if self.busy { ", busy" } else { "" })?;
        f.write_str(if self.swap { ", swap" } else { "" })
    }
}

/// What a round found.
pub struct Report {
    /// On the node that serves next.
    served: Found,
    /// On the disks that lost their power.
    synced: Vec<(String, Found)>,
    names: u64,
    lost: u64,
    /// The nodes had parted in the moment before the cut.
    parted: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.parted {
            "the nodes had parted before; "
        } else {
            ""
        })?;
        write!(f, "served {}", self.served)?;
        for (node, found) in &self.synced {
            write!(f, "; disk {node} {found}")?;
        }
        write!(
            f,
            "; {} names equal; {} sectors lost",
            self.names, self.lost
        )
    }
}

impl Round {
    pub fn plan(number: u64, rng: &mut Rng, pair: &Pair) -> Self {
        // The first three rounds see all three cases.
        let cases = [Victim::Serving, Victim::Other, Victim::Both];
        let victim = match number {
            1..=3 => cases[number as usize - 1],
            _ => *rng.pick(&cases),
        };
        let mut kinds = Vec::new();
        for (kind, percent) in [
            (Kind::Files, 80),
            (Kind::Sqlite, 60),
            (Kind::Postgresql, 50),
        ] {
            let possible = kind != Kind::Postgresql || pair.postgresql.is_some();
            // The first three rounds see each of them.
            let first = match kind {
                Kind::Files => number == 2,
                Kind::Sqlite => number == 1,
                Kind::Postgresql => number == 3,
            };
            // Drawn in any case: the plan does not depend on what is installed.
            if (rng.chance(percent) || first) && possible {
                kinds.push(kind);
            }
        }
        if kinds.is_empty() {
            kinds.push(Kind::Files);
        }
        let delay = Duration::from_millis(200 + rng.below(3800));
        let survival = [Survival::choose(rng), Survival::choose(rng)];
        Self {
            number,
            victim,
            serving: pair.machines[pair.serving].name.clone(),
            kinds,
            delay,
            survival,
            busy: rng.chance(50),
            again: rng
                .chance(25)
                .then(|| Duration::from_millis(rng.below(600))),
            swap: rng.chance(25),
        }
    }

    /// Plays it; the error says what was not as promised.
    pub fn play(&self, pair: &mut Pair, rng: &mut Rng) -> Result<Report> {
        let lost = lost(pair);
        let serving = pair.serving;
        let mut report = Report {
            served: Found::default(),
            synced: Vec::new(),
            names: 0,
            lost: 0,
            parted: false,
        };
        let loads = self.start_loads(pair, 0)?;
        std::thread::sleep(self.delay);
        let (before, alone) = together(pair, &loads)?;
        match self.victim {
            Victim::Serving => self.lose_serving(pair, (loads, alone), rng, &mut report)?,
            Victim::Other => self.lose_other(pair, (loads, before), rng, &mut report)?,
            Victim::Both => self.lose_both(pair, (loads, before), rng, &mut report)?,
        }
        report.names = pair.trees_are_equal()?;
        if self.swap {
            pair.swap()?;
            self.check_served(pair).context("after the swap")?;
        }
        pair.machines.iter().try_for_each(Machine::is_sound)?;
        report.lost = self::lost(pair) - lost;
        let after = pair.machines[serving].name.clone();
        self.forget(pair)
            .with_context(|| format!("after the round, on {after}"))?;
        Ok(report)
    }

    /// Loads have numbers of their own: two in a round.
    fn start_loads(&self, pair: &Pair, part: u64) -> Result<Loads> {
        let machine = &pair.machines[pair.serving];
        let number = self.number * 2 + part;
        Loads::start(machine, number, &self.kinds, pair.postgresql.as_ref())
            .with_context(|| format!("loads on {}", machine.name))
    }

    fn lose_serving(
        &self,
        pair: &mut Pair,
        (loads, alone): (Loads, usize),
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<()> {
        let (lost, next) = (pair.serving, pair.other());
        pair.machines[lost].kill()?;
        pair.promises.add(loads.cut()?);
        pair.machines[lost].settle(self.survival[lost], rng)?;
        pair.becomes(next, "WAIT", NOTICE)?;
        if pair.times_alone(lost) > alone {
            // It took the other out in the last moment, which may not even know it: an operator
            // who makes that one serve all the same would get two histories.
            return self.lost_alone(pair, lost, rng, report);
        }
        if let Err(error) = pair.machines[next].tandem(&["prim", MODULE]) {
            return if format!("{error:#}").contains("(stale)") {
                // Taken out in the last moment, it knows it.
                self.lost_alone(pair, lost, rng, report)
            } else {
                Err(error)
            };
        }
        pair.becomes(next, "ALONE", NOTICE)?;
        pair.serving = next;
        report.served = self.check_served(pair)?;
        let at_cut = pair.promises.clone();
        let loads = if self.busy {
            Some(self.start_loads(pair, 1)?)
        } else {
            None
        };
        self.come_back(pair, &[(lost, &at_cut)], report)?;
        self.follow(pair, rng)?;
        self.end(pair, loads)
    }

    /// The serving node was cut off while it was alone: everything waits for it.
    fn lost_alone(
        &self,
        pair: &mut Pair,
        lost: usize,
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<()> {
        report.parted = true;
        pair.promises.only_synced();
        let at_cut = pair.promises.clone();
        self.come_back(pair, &[(lost, &at_cut)], report)?;
        pair.have_met()?;
        pair.machines[lost].tandem(&["prim", MODULE])?;
        self.follow(pair, rng)?;
        report.served = self.check_served(pair)?;
        Ok(())
    }

    fn lose_other(
        &self,
        pair: &mut Pair,
        (mut loads, before): (Loads, Promises),
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<()> {
        let lost = pair.other();
        let mut at_cut = pair.promises.clone();
        at_cut.add(before);
        pair.machines[lost].cut(self.survival[lost], rng)?;
        at_cut.went_on(&loads.so_far());
        loads.go_on(&pair.machines[pair.serving], NOTICE)?;
        let mut loads = Some(loads);
        if !self.busy {
            self.end(pair, loads.take())?;
        }
        self.come_back(pair, &[(lost, &at_cut)], report)?;
        self.follow(pair, rng)?;
        self.end(pair, loads)?;
        report.served = self.check_served(pair)?;
        Ok(())
    }

    fn lose_both(
        &self,
        pair: &mut Pair,
        (loads, before): (Loads, Promises),
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<()> {
        let (serving, other) = (pair.serving, pair.other());
        let mut at_cut = pair.promises.clone();
        at_cut.add(before);
        for machine in &mut pair.machines {
            machine.kill()?;
        }
        pair.promises.add(loads.cut()?);
        pair.promises.only_synced();
        for (machine, survival) in pair.machines.iter_mut().zip(self.survival) {
            machine.settle(survival, rng)?;
        }
        let all = pair.promises.clone();
        at_cut.went_on(&all);
        self.come_back(pair, &[(serving, &all), (other, &at_cut)], report)?;
        // Neither would serve before it has heard of the other.
        pair.have_met()?;
        pair.machines[pair.serving].tandem(&["prim", MODULE])?;
        self.follow(pair, rng)?;
        report.served = self.check_served(pair)?;
        Ok(())
    }

    /// Nodes get their power back; what was synced of these promises is on their disks, before
    /// Tandem runs there.
    fn come_back(
        &self,
        pair: &mut Pair,
        nodes: &[(usize, &Promises)],
        report: &mut Report,
    ) -> Result<()> {
        for (node, _) in nodes {
            pair.machines[*node].switch_on()?;
        }
        for (node, at_cut) in nodes {
            let mut synced = (*at_cut).clone();
            synced.only_synced();
            let machine = &mut pair.machines[*node];
            machine.is_up()?;
            let found = synced.check(machine, (BELOW_DATA, true), pair.postgresql.as_ref());
            let found = found.with_context(|| {
                let unflushed = machine.drives[0].disk().unflushed;
                let name = &machine.name;
                format!("on the disk of {name}, off {unflushed:?} after its last flush")
            })?;
            report.synced.push((machine.name.clone(), found));
        }
        let mut nodes = nodes.iter();
        nodes.try_for_each(|(node, _)| pair.start_daemon(*node))
    }

    /// The other node is brought up; perhaps its power goes again meanwhile. What is on its disk
    /// then is neither here nor there, so it is not looked at.
    fn follow(&self, pair: &mut Pair, rng: &mut Rng) -> Result<()> {
        if let Some(again) = self.again {
            let other = pair.other();
            // Its answer may come only when the nodes are together.
            let _answer = pair.machines[other].start_tandem(&["second", MODULE])?;
            std::thread::sleep(again);
            pair.machines[other].cut(self.survival[other], rng)?;
            pair.machines[other].switch_on()?;
            pair.machines[other].is_up()?;
            pair.start_daemon(other)?;
        }
        pair.follow()
    }

    /// What was promised, as applications on the serving node find it.
    fn check_served(&self, pair: &Pair) -> Result<Found> {
        let machine = &pair.machines[pair.serving];
        let found = pair
            .promises
            .check(machine, (DATA, false), pair.postgresql.as_ref());
        found.with_context(|| format!("served by {}", machine.name))
    }

    fn end(&self, pair: &mut Pair, loads: Option<Loads>) -> Result<()> {
        if let Some(loads) = loads {
            let promises = loads.end(&pair.machines[pair.serving])?;
            pair.promises.add(promises);
        }
        Ok(())
    }

    /// Removes the files of the round before the last.
    fn forget(&self, pair: &mut Pair) -> Result<()> {
        let oldest = (self.number * 2).saturating_sub(2);
        let old: Vec<_> = pair
            .promises
            .files
            .range(..oldest)
            .map(|(n, _)| *n)
            .collect();
        for number in old {
            let dir = super::promises::files_dir(DATA, number);
            pair.machines[pair.serving]
                .remote()
                .run(&["rm", "-r", &dir])?;
            pair.promises.files.remove(&number);
        }
        Ok(())
    }
}

/// What was promised until shortly before now, while both nodes were in the set, so that the other
/// holds it, too; and how often the serving one had been alone by then. On a machine that is too
/// busy it may take the other out, and bring it back.
fn together(pair: &Pair, loads: &Loads) -> Result<(Promises, usize)> {
    let mut patience = Patience::new(RESYNC);
    loop {
        let (before, alone) = (loads.so_far(), pair.times_alone(pair.serving));
        let asked = Instant::now();
        let status = pair.status(pair.serving)?;
        if status.is_ready_in("PRIM") && asked.elapsed() < FRESH {
            return Ok((before, alone));
        }
        ensure!(!patience.is_over(), "the nodes do not stay together");
    }
}

/// Sectors that all cuts so far have lost.
fn lost(pair: &Pair) -> u64 {
    let drives = pair.machines.iter().flat_map(|machine| &machine.drives);
    drives.map(|drive| drive.disk().counters.lost).sum()
}
