//! The ledger as a service: a server that commits what clients on the network ask for, and a
//! client that goes on wherever the address leads it.
//!
//! A client sends the number of its next row; the server answers with it after `COMMIT` has
//! returned. What was not answered is sent again: a row that is there already is committed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::ledger::{create, open, transfer};

/// A server that does not answer for so long is looked for again.
const PATIENCE: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_millis(20);
/// How long a server may wait for the lock of another connection.
const BUSY: Duration = Duration::from_secs(10);

/// Serves until killed.
pub(super) fn serve(path: &Path, at: SocketAddr) -> Result<()> {
    create(&mut open(path)?)?;
    let listener = TcpListener::bind(at).with_context(|| format!("listen at {at}"))?;
    for stream in listener.incoming().flatten() {
        let path = PathBuf::from(path);
        std::thread::spawn(move || {
            if let Err(error) = serve_one(&path, &stream) {
                eprintln!("ledger: {error:#}");
            }
        });
    }
    Ok(())
}

fn serve_one(path: &Path, stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut db = open(path)?;
    db.busy_timeout(BUSY)?;
    let mut answers = stream;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let (writer, number) = line.split_once(' ').context("not a request")?;
        let (writer, number) = (writer.parse()?, number.parse()?);
        if !is_there(&db, writer, number)? {
            transfer(&mut db, writer, number)?;
        }
        writeln!(answers, "{number}")?;
    }
    Ok(())
}

fn is_there(db: &Connection, writer: u32, number: i64) -> Result<bool> {
    let count = "SELECT count(*) FROM ledger WHERE writer = ?1 AND number = ?2";
    let found: i64 = db.query_row(count, (writer, number), |row| row.get(0))?;
    Ok(found > 0)
}

/// Commits one row after the other, wherever the address is, and prints each that was answered. A
/// closed standard input ends it.
pub(super) fn spend(writer: u32, at: SocketAddr) -> Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Relaxed);
    });
    let mut next = 1;
    while !ended.load(Ordering::Relaxed) {
        let lost = spend_here(writer, at, &mut next, &ended);
        if let Err(error) = lost {
            // A broken output means that nobody listens any more.
            if error.kind() == io::ErrorKind::Other {
                return Err(error.into());
            }
        }
        std::thread::sleep(AGAIN);
    }
    Ok(())
}

fn spend_here(writer: u32, at: SocketAddr, next: &mut i64, ended: &AtomicBool) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    let mut answers = BufReader::new(&stream);
    let mut requests = &stream;
    let mut output = io::stdout().lock();
    while !ended.load(Ordering::Relaxed) {
        writeln!(requests, "{writer} {next}")?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        if answer != format!("{next}\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        writeln!(output, "{next}").map_err(io::Error::other)?;
        *next += 1;
    }
    Ok(())
}
