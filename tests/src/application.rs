//! The application that a module's scripts start and stop, and its client: writers that note every
//! answer ([`crate::load`]), and a server that counts in a replicated file, so that whoever asks it
//! sees both that it is there and that it can write. Run inside the nodes, by `inside application`.
//!
//! Every start has a directory of its own with its notes, outside of the replicated one:
//! `NODE-NUMBER` below the directory of the notes. `events` there tells when scripts ran.

use crate::load;
use crate::scratch::open_dir;
use crate::sys;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Where the server listens.
pub const PORT: u16 = 7500;
/// A start that takes longer has failed.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A killed process may wait for an answer of the file system for so long.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);
/// The client's patience with a connection and with an answer.
const CONNECT_LIMIT: Duration = Duration::from_millis(100);
const ANSWER_LIMIT: Duration = Duration::from_millis(250);
const CLIENT_PAUSE: Duration = Duration::from_millis(5);
/// Between two rounds of a writer.
const WRITER_PAUSE: Duration = Duration::from_millis(3);

/// `start MOUNT NOTES`, `stop NOTES`, `serve MOUNT OWN`, `client ADDRESS NOTES`, `listen PORT`.
///
/// # Errors
/// In words.
pub fn run(words: &[&str]) -> Result<()> {
    match words {
        ["start", mount, notes, ..] => start(mount, Path::new(notes)),
        ["stop", notes, ..] => stop(Path::new(notes)),
        ["serve", mount, own] => serve(Path::new(mount), Path::new(own)),
        ["listen", port] => {
            let listener = TcpListener::bind(("0.0.0.0", port.parse()?))?;
            listener.incoming().for_each(drop);
            Ok(())
        }
        ["client", address, notes] => ask_again_and_again(address, Path::new(notes)),
        _ => bail!("unknown: application {words:?}"),
    }
}

fn node() -> Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim_end().into())
}

/// Writes down that something happened on this node, now.
fn note(notes: &Path, what: &str) -> Result<()> {
    let path = notes.join("events");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // One call: several nodes write.
    let line = format!("{} {} {what}\n", sys::boot_clock(), node()?);
    Ok(file.write_all(line.as_bytes())?)
}

/// `start_prim`: the application runs and listens when this returns.
fn start(mount: &str, notes: &Path) -> Result<()> {
    note(notes, "start")?;
    let own = new_dir(notes)?;
    let output = File::create(own.join("output"))?;
    let mut serve = Command::new(std::env::current_exe()?);
    serve.args(["application", "serve", mount]).arg(&own);
    serve.stdin(Stdio::null()).stdout(output.try_clone()?);
    let mut child = serve.stderr(output).process_group(0).spawn()?;
    let began = Instant::now();
    while !own.join("ready").exists() {
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(own.join("output")).unwrap_or_default();
            bail!("it ended: {status}: {}", said.trim_end());
        }
        ensure!(began.elapsed() < START_LIMIT, "it does not listen");
        thread::sleep(PAUSE);
    }
    note(notes, "started")
}

fn new_dir(notes: &Path) -> Result<PathBuf> {
    let node = node()?;
    for number in 1.. {
        let own = notes.join(format!("{node}-{number}"));
        match fs::create_dir(&own) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return Ok(made.map(|()| own)?),
        }
    }
    bail!("no number is left")
}

/// `stop_prim`: nothing of the application runs on this node when this returns.
fn stop(notes: &Path) -> Result<()> {
    note(notes, "stop")?;
    let began = Instant::now();
    loop {
        let left = serving()?;
        if left.is_empty() {
            return note(notes, "stopped");
        }
        ensure!(began.elapsed() < STOP_LIMIT, "{left:?} do not end");
        for pid in left {
            // It may have ended.
            sys::kill(pid, libc::SIGKILL).ok();
        }
        thread::sleep(PAUSE);
    }
}

/// Processes of this node that are the application.
fn serving() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // Of one that has ended it is empty.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|b| *b == 0).collect();
        if words
            .windows(2)
            .any(|w| w == [&b"application"[..], b"serve"])
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The application itself.
fn serve(mount: &Path, own: &Path) -> Result<()> {
    let dir = open_dir(mount)?;
    let path = mount.join("counter");
    let options = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path);
    let counter = Mutex::new(options.context("the counter")?);
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    File::create(own.join("ready"))?;
    let name = own
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(e) = load::run_with_pauses(&dir, own, WRITER_PAUSE) {
                println!("{e}");
            }
        });
        for client in listener.incoming().flatten() {
            let (counter, name) = (&counter, &name);
            scope.spawn(move || {
                // A client that goes away, or a file system that does not answer: no answer.
                answer(&client, counter, name, own).ok();
            });
        }
    });
    Ok(())
}

/// A request of the client, or one by HTTP, which has its answer from whether there is `unwell`.
fn answer(client: &TcpStream, counter: &Mutex<File>, name: &str, own: &Path) -> Result<()> {
    client.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut asked = String::new();
    BufReader::new(client).read_line(&mut asked)?;
    let mut to = client;
    if asked.starts_with("GET") {
        let status = if own.join("unwell").exists() {
            "500 Unwell"
        } else {
            "200 OK"
        };
        return Ok(to.write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes())?);
    }
    let number = {
        let Ok(file) = counter.lock() else {
            bail!("another request panicked")
        };
        let mut bytes = [0; 32];
        let count = file.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..count]);
        let number = text.trim().parse::<u64>().unwrap_or(0) + 1;
        file.write_all_at(format!("{number:019}\n").as_bytes(), 0)?;
        number
    };
    Ok(to.write_all(format!("{name} {number}\n").as_bytes())?)
}

/// The client: notes `BEGAN ANSWERED WHO NUMBER` for every answer in `client`, until there is
/// `end`.
fn ask_again_and_again(address: &str, notes: &Path) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    let mut log = File::create(notes.join("client"))?;
    while !notes.join("end").exists() {
        let began = sys::boot_clock();
        if let Ok(said) = ask(address) {
            let line = format!("{began} {} {said}\n", sys::boot_clock());
            log.write_all(line.as_bytes())?;
        }
        thread::sleep(CLIENT_PAUSE);
    }
    Ok(())
}

fn ask(address: SocketAddr) -> Result<String> {
    let mut server = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    server.set_read_timeout(Some(ANSWER_LIMIT))?;
    server.write_all(b"who\n")?;
    let mut line = String::new();
    BufReader::new(server).read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "half an answer");
    Ok(line.trim_end().into())
}
