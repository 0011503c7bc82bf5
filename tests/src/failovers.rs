//! A long series of failovers in one lab: what may happen to two nodes and their parts happens, one
//! after the other, at random, under load. After each of it one node serves and the other follows,
//! ready; nothing that was answered is missing; nobody served beside another. The client of the
//! address tells how long it had no answer.

mod events;
mod report;

pub use events::Kind;

use crate::load::{self, WRITERS};
use crate::managed_world::notes::{self, Answered, Instance};
use crate::managed_world::{MOUNT, World};
use crate::rng::{self, Rng};
use crate::sys;
use anyhow::{Context, Result, bail, ensure};
use report::Report;
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "tests/failovers [--count N] [--seed S] [--only KIND]";
/// A lab that is not in order by then is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// Between two events at least.
const QUIET: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub count: u64,
    pub seed: u64,
    pub only: Option<Kind>,
}

impl Options {
    /// # Errors
    /// Words that are none.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let (mut count, mut seed, mut only) = (20, None, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value\n{USAGE}"))?;
            match *word {
                "--count" => count = value.parse().context(value.to_string())?,
                "--seed" => seed = Some(value.parse().context(value.to_string())?),
                "--only" => only = Some(Kind::parse(value)?),
                _ => bail!("unknown: {word}\nusage: {USAGE}"),
            }
        }
        let seed = seed.unwrap_or_else(|| rng::seed("failovers"));
        Ok(Self { count, seed, only })
    }
}

/// Runs the series and prints what it found.
///
/// # Errors
/// The first event after which something was wrong.
pub fn run(binary: PathBuf, helper: &str, options: &Options) -> Result<()> {
    let mut rng = Rng::new(options.seed);
    println!("{} events, seed {}", options.count, options.seed);
    let witness = ["--witness", "tandem"];
    let world = World::make(binary, helper, &witness, "max_restarts: 0,")?;
    let mut series = Series {
        world,
        report: Report::default(),
        roles: ("node1".into(), "node2".into()),
        client: Client::default(),
        before: None,
    };
    // Every kind, in another order each time.
    let mut kinds: Vec<Kind> = Vec::new();
    for number in 1..=options.count {
        if kinds.is_empty() {
            kinds = Kind::ALL.into();
        }
        let kind = options
            .only
            .unwrap_or_else(|| kinds.swap_remove(rng.index(kinds.len())));
        let done = series.one(kind, &mut rng);
        if done.is_err() {
            series.report.print();
        }
        done.with_context(|| {
            let seed = options.seed;
            series.world.tell();
            format!("event {number}, {}, seed {seed}", kind.name())
        })?;
    }
    let serving = series.roles.0.clone();
    series.world.ends_well(&serving).context("at the end")?;
    for node in ["node1", "node2"] {
        series
            .world
            .everything_is_found(node, &[])
            .context("at the end")?;
    }
    series.report.print();
    let answers = series.client.answers;
    println!("nothing lost, never two, never stuck; {answers} answers to the client");
    Ok(())
}

struct Series {
    world: World,
    report: Report,
    /// Who serves, who follows.
    roles: (String, String),
    client: Client,
    /// The last start of the application that is over, and when its last answered operation began.
    before: Option<(String, u64)>,
}

impl Series {
    fn one(&mut self, kind: Kind, rng: &mut Rng) -> Result<()> {
        let (serving, following) = self.roles.clone();
        self.world.is_answered_by(&serving, STUCK)?;
        self.client.read(&self.world)?;
        self.client.recent.clear();
        let began = sys::boot_clock();
        let woken = kind.happens(&self.world, (&serving, &following), rng)?;
        let (prim, second) = self.world.settles(STUCK)?;
        self.world.is_answered_by(&prim, STUCK)?;
        std::thread::sleep(QUIET + Duration::from_millis(rng.below(500)));
        let two = self.world.eyes().forget();
        // What a frozen node has, nobody can take.
        ensure!(
            kind.freezes() || two.is_empty(),
            "both had the address: {two:?}"
        );
        if let (Some(last), Some(woken)) = (two.last(), woken) {
            self.report.both(kind, last.saturating_sub(woken));
        }
        self.client.read(&self.world)?;
        let pause = self.client.pause();
        let moved = prim != serving;
        println!(
            "{:<14} {serving} -> {prim}: no answer for {} ms",
            kind.name(),
            pause.as_millis()
        );
        self.report.pause(kind, pause);
        self.roles = (prim, second);
        if moved {
            self.report
                .moved(&self.world, kind, (&serving, &self.roles.0), began)?;
        }
        self.look_at_what_is_over()
    }

    /// Of starts of the application that are over, everything is on both disks; then their files
    /// are removed.
    fn look_at_what_is_over(&mut self) -> Result<()> {
        let mut all = notes::instances(self.world.notes())?;
        let Some(current) = all.pop() else {
            bail!("the application was never started");
        };
        for instance in all {
            self.one_at_a_time(&instance)?;
            for node in ["node1", "node2"] {
                self.is_found(&instance, node)?;
            }
            let remove = format!("{MOUNT}/{}", instance.name);
            self.world.exec(&self.roles.0, &["rm", "-rf", &remove])?;
            std::fs::remove_dir_all(&instance.dir)?;
        }
        self.one_at_a_time(&current)
    }

    fn one_at_a_time(&mut self, instance: &Instance) -> Result<()> {
        let Some((first, last)) = instance.began else {
            return Ok(());
        };
        if let Some((before, end)) = &self.before
            && *before != instance.name
        {
            ensure!(
                first > *end,
                "{} was answered at {first}, {before} still at {end}",
                instance.name
            );
        }
        self.before = Some((instance.name.clone(), last));
        Ok(())
    }

    fn is_found(&self, instance: &Instance, node: &str) -> Result<()> {
        let root = self.world.node(node)?.replica.join(&instance.name);
        for number in 0..WRITERS {
            let told = load::told(&instance.dir, number)?;
            let found = told.is_found(&root, number);
            found.with_context(|| format!("{} writer {number} on {node}", instance.name))?;
        }
        Ok(())
    }
}

/// What the client was answered, read bit by bit.
#[derive(Default)]
struct Client {
    read: u64,
    answers: u64,
    last: Option<Answered>,
    /// Of the event under way, with the one before it.
    recent: Vec<Answered>,
}

impl Client {
    fn read(&mut self, world: &World) -> Result<()> {
        let (answers, read) = notes::answers_from(world.notes(), self.read)?;
        self.read = read;
        for answer in answers {
            if let Some(last) = &self.last {
                ensure!(
                    last.number < answer.number,
                    "the client was told {last:?}, then {answer:?}"
                );
                if self.recent.is_empty() {
                    self.recent.push(last.clone());
                }
            }
            self.answers += 1;
            self.recent.push(answer.clone());
            self.last = Some(answer);
        }
        Ok(())
    }

    /// The longest time without an answer.
    fn pause(&self) -> Duration {
        let gaps = self.recent.windows(2).map(|pair| pair[1].at - pair[0].at);
        Duration::from_micros(gaps.max().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        let options = Options::parse(&["--count", "200", "--seed", "7"]).unwrap();
        assert_eq!((options.count, options.seed, options.only), (200, 7, None));
        let only = Options::parse(&["--only", "swap", "--seed", "1"])
            .unwrap()
            .only;
        assert_eq!(only, Some(Kind::Swap));
        assert!(Options::parse(&["--count"]).is_err());
        assert!(Options::parse(&["--only", "sleep"]).is_err());
    }
}
