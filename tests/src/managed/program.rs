//! A small application and its clients, as processes of a lab's nodes.
//!
//! The application answers on the module's addresses: a line with a number is appended to a file in
//! the replicated directory, synced, and answered with the node's name and the process. A client on
//! a third node asks without end and writes down what it was told, so that a test knows what was
//! acknowledged, by whom, and how long nobody answered.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the application listens.
pub const PORT: u16 = 7000;
/// The file it keeps open in the replicated directory.
pub const JOURNAL: &str = "journal";
/// A client gives an attempt to connect up after this.
const CONNECT: Duration = Duration::from_millis(250);
/// A client that is not answered connects again after this.
const SILENT: Duration = Duration::from_millis(1000);
/// Between two requests, and between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// The numbers of the second address's client begin here, and so on.
pub const APART: u64 = 1_000_000_000;

/// Microseconds of a clock that all nodes of a lab share.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_micros() as u64)
}

/// The application: ends by a signal only. `ready` is made when it answers.
///
/// # Errors
/// It cannot open its file, or listen.
pub fn serve(dir: &Path, node: &str, ready: &Path, addresses: &[&str]) -> Result<(), String> {
    let path = dir.join(JOURNAL);
    let journal = OpenOptions::new().create(true).append(true).open(&path);
    let journal = journal.map_err(|e| format!("{}: {e}", path.display()))?;
    let journal = Arc::new(Mutex::new(journal));
    for address in addresses {
        let address: IpAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
        let at = SocketAddr::new(address, PORT);
        let listener = TcpListener::bind(at).map_err(|e| format!("{at}: {e}"))?;
        let (journal, node) = (journal.clone(), node.to_string());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (journal, node) = (journal.clone(), node.clone());
                thread::spawn(move || answer(&stream, &journal, &node));
            }
        });
    }
    File::create(ready).map_err(|e| format!("{}: {e}", ready.display()))?;
    loop {
        if addresses.is_empty() {
            // Nobody asks, so it works by itself.
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            let written = writeln!(journal, "{}", now()).and_then(|()| journal.sync_data());
            written.map_err(|e| format!("{}: {e}", path.display()))?;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// One client, until it goes or something fails: nothing is answered that is not synced.
fn answer(stream: &TcpStream, journal: &Mutex<File>, node: &str) -> Option<()> {
    let pid = std::process::id();
    let mut out = stream;
    for line in BufReader::new(stream).lines() {
        let line = line.ok()?;
        {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.write_all(format!("{line}\n").as_bytes()).ok()?;
            journal.sync_data().ok()?;
        }
        out.write_all(format!("{line} {node} {pid}\n").as_bytes())
            .ok()?;
    }
    None
}

/// Clients of all addresses, and one connection that only waits, until the logs' directory has a
/// file `end`.
///
/// # Errors
/// The log cannot be written.
pub fn ask(logs: &Path, addresses: &[&str]) -> Result<(), String> {
    let addresses: Result<Vec<IpAddr>, _> = addresses.iter().map(|a| a.parse()).collect();
    let addresses = addresses.map_err(|e| e.to_string())?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(logs.join("told"));
    let log = &log.map_err(|e| e.to_string())?;
    let end = &logs.join("end");
    let ended = thread::scope(|scope| {
        let mut all = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let first = index as u64 * APART;
            all.push(scope.spawn(move || requests(*address, first, log, end)));
            all.push(scope.spawn(move || waits(*address, log, end)));
        }
        let ended: Vec<_> = all.into_iter().map(|one| one.join()).collect();
        ended.into_iter().all(|e| matches!(e, Ok(Ok(()))))
    });
    if ended {
        Ok(())
    } else {
        Err("the log could not be written".into())
    }
}

fn say(mut log: &File, text: &str) -> std::io::Result<()> {
    // One system call: a line is whole or not there.
    log.write_all(format!("{} {text}\n", now()).as_bytes())
}

fn connect(address: IpAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), CONNECT)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn requests(address: IpAddr, first: u64, log: &File, end: &Path) -> std::io::Result<()> {
    let mut number = first;
    while !end.exists() {
        let mut one = || -> std::io::Result<()> {
            let stream = connect(address)?;
            stream.set_read_timeout(Some(SILENT))?;
            let mut reader = BufReader::new(&stream);
            while !end.exists() {
                (&stream).write_all(format!("{number}\n").as_bytes())?;
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some(told) = line.strip_suffix('\n') else {
                    return Err(ErrorKind::UnexpectedEof.into());
                };
                say(log, &format!("ack {told}"))?;
                number += 1;
                thread::sleep(PAUSE);
            }
            Ok(())
        };
        if let Err(e) = one() {
            say(log, &format!("lost {address} {:?}", e.kind()))?;
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Holds a connection on which nothing is said, and writes down how it ends.
fn waits(address: IpAddr, log: &File, end: &Path) -> std::io::Result<()> {
    while !end.exists() {
        if let Ok(stream) = connect(address) {
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
            say(log, &format!("waits {address}"))?;
            let how = loop {
                match (&stream).read(&mut [0; 16]) {
                    Ok(_) => break "closed".to_string(),
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        if end.exists() {
                            return Ok(());
                        }
                    }
                    Err(e) => break format!("{:?}", e.kind()),
                }
            };
            say(log, &format!("idle {address} {how}"))?;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
