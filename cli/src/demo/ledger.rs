//! `tandem demo-ledger`: the SQLite application of the demo, as a process of its own inside a node.
//!
//! Each transaction moves an amount between two accounts and records that. After `COMMIT` has
//! returned, and only then, the row's number is printed: whoever reads it holds a promise. A closed
//! standard input ends it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rusqlite::{Connection, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

const ACCOUNTS: i64 = 100;

#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    /// The database
    #[arg(long, default_value = "ledger.db")]
    db: PathBuf,
    /// Number of this writer
    #[arg(long, conflicts_with = "check")]
    writer: Option<u32>,
    /// Look for rows 1 to LAST of a writer, as WRITER=LAST (several allowed), instead of writing
    #[arg(long, value_name = "WRITER=LAST")]
    check: Vec<String>,
    /// Commit what clients ask for at this address
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "check")]
    serve: Option<SocketAddr>,
    /// Have the server at this address commit, instead of a database
    #[arg(long, value_name = "ADDRESS:PORT", requires = "writer")]
    spend: Option<SocketAddr>,
}

/// What a check found, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checked {
    pub(super) found: i64,
    /// `ok`, or SQLite's findings.
    pub(super) integrity: String,
    /// Sum of all accounts; money neither appears nor disappears.
    pub(super) balance: i64,
}

pub(crate) fn run(args: &LedgerArgs) -> Result<ExitCode> {
    let subject = || format!("database {}", args.db.display());
    if let Some(at) = args.serve {
        super::shop::serve(&args.db, at).with_context(subject)?;
    } else if let Some((at, writer)) = args.spend.zip(args.writer) {
        super::shop::spend(writer, at)?;
    } else if args.check.is_empty() {
        let writer = args.writer.context("give --writer or --check")?;
        write(&args.db, writer).with_context(subject)?;
    } else {
        let checked = check(&args.db, &args.check).with_context(subject)?;
        println!("{}", serde_json::to_string(&checked)?);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn open(path: &Path) -> Result<Connection> {
    let db = Connection::open(path)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    ensure!(
        mode == "wal",
        "journal mode is {mode} and cannot be changed to WAL"
    );
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

fn write(path: &Path, writer: u32) -> Result<()> {
    let mut db = open(path)?;
    create(&mut db)?;
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Relaxed);
    });
    let highest = "SELECT coalesce(max(number), 0) FROM ledger WHERE writer = ?1";
    let mut number: i64 = db.query_row(highest, [writer], |row| row.get(0))?;
    let mut output = io::stdout().lock();
    while !ended.load(Ordering::Relaxed) {
        number += 1;
        transfer(&mut db, writer, number)?;
        // Written through at once: standard output is flushed with every line.
        writeln!(output, "{number}")?;
    }
    Ok(())
}

pub(super) fn create(db: &mut Connection) -> Result<()> {
    let work = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    work.execute_batch(
        "CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS ledger (
             writer INTEGER, number INTEGER, source INTEGER, target INTEGER, amount INTEGER,
             PRIMARY KEY (writer, number));",
    )?;
    for id in 0..ACCOUNTS {
        work.execute("INSERT OR IGNORE INTO account VALUES (?1, 0)", [id])?;
    }
    Ok(work.commit()?)
}

pub(super) fn transfer(db: &mut Connection, writer: u32, number: i64) -> Result<()> {
    let source = number % ACCOUNTS;
    let target = (number * 7 + 1) % ACCOUNTS;
    let amount = number % 13 + 1;
    let work = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let row = params![writer, number, source, target, amount];
    work.prepare_cached("INSERT INTO ledger VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(row)?;
    let change = "UPDATE account SET balance = balance + ?2 WHERE id = ?1";
    work.prepare_cached(change)?
        .execute(params![source, -amount])?;
    work.prepare_cached(change)?
        .execute(params![target, amount])?;
    Ok(work.commit()?)
}

fn check(path: &Path, wanted: &[String]) -> Result<Checked> {
    ensure!(path.exists(), "it does not exist");
    let db = open(path)?;
    let mut found = 0;
    for pair in wanted {
        let numbers = pair.split_once('=');
        let numbers = numbers.and_then(|(w, l)| Some((w.parse().ok()?, l.parse().ok()?)));
        let (writer, last): (u32, i64) =
            numbers.with_context(|| format!("--check {pair}: write it as WRITER=LAST"))?;
        let count = "SELECT count(*) FROM ledger WHERE writer = ?1 AND number BETWEEN 1 AND ?2";
        found += db.query_row(count, params![writer, last], |row| row.get::<_, i64>(0))?;
    }
    let integrity = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let balance = db.query_row("SELECT sum(balance) FROM account", [], |row| row.get(0))?;
    Ok(Checked {
        found,
        integrity,
        balance,
    })
}
