//! What was promised to all applications so far, and the search for it.

use super::machine::Machine;
use super::postgresql::{Postgresql, Sync};
use super::told::{Level, Told};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// What was promised to all applications so far.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// By round: whose directory it is.
    pub files: BTreeMap<u64, (Level, Told)>,
    /// The last committed number by writer.
    pub sqlite: BTreeMap<u64, u64>,
    pub postgresql: BTreeMap<u64, u64>,
}

/// How many things were looked for and found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub files: u64,
    pub sqlite: u64,
    pub postgresql: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files,
            sqlite,
            postgresql,
        } = self;
        write!(f, "{files} file steps")?;
        write!(f, ", {sqlite} + {postgresql} commits")
    }
}

impl Promises {
    /// Adds what others were promised; their numbers differ from those here.
    pub fn add(&mut self, more: Self) {
        self.files.extend(more.files);
        self.sqlite.extend(more.sqlite);
        self.postgresql.extend(more.postgresql);
    }

    /// The applications went on: what they removed since may be gone.
    pub fn went_on(&mut self, later: &Self) {
        for (round, (_, told)) in &mut self.files {
            if let Some((_, later)) = later.files.get(round) {
                told.went_on(later);
            }
        }
    }

    /// From now on only what was synced must be there.
    pub fn only_synced(&mut self) {
        self.files
            .values_mut()
            .for_each(|(level, _)| *level = Level::Synced);
    }

    /// Looks for everything in a directory of a guest, and leaves it as it was: the databases are
    /// copied first if `aside`.
    pub fn check(
        &self,
        machine: &Machine,
        (data, aside): (&str, bool),
        postgresql: Option<&Postgresql>,
    ) -> Result<Found> {
        let mut found = Found::default();
        for (round, (level, told)) in &self.files {
            let dir = files_dir(data, *round);
            let words = machine.guest(&["check-files", &dir, level.word()]);
            let count = machine.remote().run_with(&words, told.text().as_bytes())?;
            found.files += count.trim().parse::<u64>().context("check-files")?;
        }
        if !self.sqlite.is_empty() {
            found.sqlite = check_sqlite(machine, (data, aside), &self.sqlite)?;
        }
        if let Some(postgresql) = postgresql.filter(|_| !self.postgresql.is_empty()) {
            found.postgresql =
                check_postgresql(machine, (data, aside), postgresql, &self.postgresql)?;
        }
        Ok(found)
    }
}

pub fn files_dir(data: &str, round: u64) -> String {
    format!("{data}/files/{round}")
}

/// What `tandem demo-ledger --check` prints.
#[derive(Debug, Deserialize)]
struct Ledger {
    found: u64,
    integrity: String,
    balance: i64,
}

fn check_sqlite(
    machine: &Machine,
    (data, aside): (&str, bool),
    last: &BTreeMap<u64, u64>,
) -> Result<u64> {
    let mut data = data.to_owned();
    if aside {
        let copy = format!("rm -rf /tmp/ledger && mkdir /tmp/ledger && cp {data}/ledger.db* $_");
        machine.remote().run(&["bash", "-c", &copy])?;
        data = "/tmp/ledger".into();
    }
    let database = format!("{data}/ledger.db");
    let pairs: Vec<_> = last.iter().map(|(w, last)| format!("{w}={last}")).collect();
    let mut words = vec!["demo-ledger", "--db", &database];
    words.extend(pairs.iter().flat_map(|pair| ["--check", pair]));
    let answer = machine.tandem(&words).context("SQLite")?;
    let ledger: Ledger = serde_json::from_str(answer.trim()).with_context(|| answer.clone())?;
    let committed: u64 = last.values().sum();
    ensure!(
        ledger.found == committed && ledger.integrity == "ok" && ledger.balance == 0,
        "SQLite: {ledger:?}, but {committed} were committed: {last:?}"
    );
    Ok(committed)
}

fn check_postgresql(
    machine: &Machine,
    (data, aside): (&str, bool),
    postgresql: &Postgresql,
    last: &BTreeMap<u64, u64>,
) -> Result<u64> {
    let mut place = format!("{data}/pg");
    if aside {
        // On the disk of the state: the copy is no part of what is compared.
        let copy = format!("rm -rf {0} && cp -a {place} {0}", super::PG_ASIDE);
        machine.remote().run(&["sh", "-c", &copy])?;
        place = super::PG_ASIDE.into();
    }
    // Nobody needs the copy to be on the disk.
    let sync = if aside { Sync::FileSystem } else { Sync::Files };
    let server = postgresql.serve(machine, &place, sync)?;
    let last: Vec<_> = last.iter().map(|(writer, last)| (*writer, *last)).collect();
    let found = postgresql.find_rows(machine, &last)?;
    postgresql.stop(machine, &server)?;
    postgresql.check_sums(machine, &place)?;
    if aside {
        machine.remote().run(&["rm", "-rf", &place])?;
    }
    Ok(found)
}
