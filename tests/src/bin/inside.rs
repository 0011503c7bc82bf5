//! The part of a two-node test that runs inside a node, as a process of that node: the file system
//! must be able to look its caller up (groups), which it cannot for a process from outside.
//!
//! Prints what it found and ends with 1 if that was anything.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::ExitCode;
use tandem_tests::generate::{Features, Generator};
use tandem_tests::managed::program;
use tandem_tests::model::Arena;
use tandem_tests::rng::Rng;
use tandem_tests::scratch::{Place, Scratch, open_dir, subdir};
use tandem_tests::{application, concurrent, load, posix, sys};

const USAGE: &str = "usage: inside posix DIR [FILTER] | model DIR SEED RUNS STEPS | \
                     concurrent DIR SEED CASE | sync DIR | \
                     load DIR LOGS | datagrams DIR ADDRESS SEED COUNT [SOURCE] | \
                     serve DIR NODE READY [ADDRESS…] | ask LOGS ADDRESS… | application …";

/// What a replicated directory has. Files without a name are asked for by the table of cases.
const FEATURES: Features = Features {
    devices: true,
    shifts: false,
    tmpfile: false,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(found) => {
            println!("{found}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    if let ["application", words @ ..] = words {
        // Without a look at the directory, which may be dead.
        return application::run(words).map_err(text);
    }
    let [what, dir, rest @ ..] = words else {
        return Err(USAGE.into());
    };
    match (*what, rest) {
        ("serve", [node, ready, addresses @ ..]) => {
            return program::serve(Path::new(dir), node, Path::new(ready), addresses);
        }
        ("ask", addresses) => return program::ask(Path::new(dir), addresses),
        _ => {}
    }
    let dir = open_dir(Path::new(dir)).map_err(text)?;
    // Each run has a directory of its own, so that several fit into one cluster.
    let own = |name: &str| -> Result<Place, String> {
        Ok(Place {
            dir: subdir(&dir, name).map_err(text)?,
            mounts: None,
        })
    };
    match (*what, rest) {
        ("sync", []) => sys::syncfs(&dir).map_err(|error| format!("syncfs: {error}")),
        ("load", [logs]) => load::run(&dir, Path::new(logs)),
        ("datagrams", [address, seed, count, source @ ..]) => {
            let number = |text: &str| text.parse::<u64>().map_err(|_| USAGE.to_string());
            let source = source.first().copied();
            let sent = throw_datagrams(address, number(seed)?, number(count)?, source);
            sent.map_err(|error| format!("{address}: {error}"))
        }
        ("posix", filter) => {
            let filter = filter.first().copied().unwrap_or("");
            let bare = Scratch::new().map_err(text)?;
            let bare = posix::run_all(bare.place(), filter);
            let subject = posix::run_all(&own("posix")?, filter);
            let differing = posix::differing(&subject, &bare);
            println!(
                "{} cases, {} differ from a bare ext4",
                subject.len(),
                differing.len()
            );
            // Of a part of the table the list of known differences cannot be complete.
            let found = if filter.is_empty() {
                posix::unexpected(&differing)
            } else {
                differing
            };
            if found.is_empty() {
                Ok(())
            } else {
                Err(found.join("\n"))
            }
        }
        ("model", [seed, runs, steps]) => {
            let number = |text: &str| text.parse::<u64>().map_err(|_| USAGE.to_string());
            let mut seeds = Rng::new(number(seed)?);
            let place = own("model")?;
            for _ in 0..number(runs)? {
                let reference = Scratch::new().map_err(text)?;
                let arena = Arena {
                    subject: &place.dir,
                    reference: reference.dir(),
                    tamper: None,
                };
                let mut generator = Generator::new(seeds.next_u64(), FEATURES);
                arena.explore(&mut generator, number(steps)? as usize)?;
            }
            Ok(())
        }
        ("concurrent", [seed, name]) => {
            let case = concurrent::CASES.iter().find(|case| case.name == *name);
            let case = case.ok_or(format!("no case is called {name}"))?;
            let seed = seed.parse().map_err(|_| USAGE)?;
            concurrent::run(&own(&format!("concurrent-{name}"))?, case, seed)
        }
        _ => Err(USAGE.into()),
    }
}

/// Random bytes to a port: noise, and what begins like a packet of QUIC. With a source they pretend
/// to come from there.
fn throw_datagrams(
    address: &str,
    seed: u64,
    count: u64,
    source: Option<&str>,
) -> std::io::Result<()> {
    let mut rng = Rng::new(seed);
    let plain = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let forger = source
        .map(|source| Forger::new(source, address))
        .transpose()?;
    for _ in 0..count {
        let len = rng.index(1400);
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        if let Some(head) = bytes.get_mut(..6) {
            // Long headers of version 1, of an unknown version, and short ones.
            match rng.below(4) {
                0 => head.copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]),
                1 => head.copy_from_slice(&[0xc0, 0, 0, 0, 99, 20]),
                2 => head[0] = 0x40,
                _ => {}
            }
        }
        match &forger {
            None => plain.send_to(&bytes, address)?,
            Some(forger) => forger.send(&bytes)?,
        };
    }
    Ok(())
}

/// Sends datagrams with a source of its own choice.
struct Forger {
    socket: socket2::Socket,
    source: SocketAddrV4,
    target: SocketAddrV4,
}

impl Forger {
    fn new(source: &str, target: &str) -> std::io::Result<Self> {
        let parsed = |text: &str| text.parse().map_err(std::io::Error::other);
        let raw = Some(socket2::Protocol::from(libc::IPPROTO_RAW));
        Ok(Self {
            socket: socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, raw)?,
            source: parsed(source)?,
            target: parsed(target)?,
        })
    }

    fn send(&self, bytes: &[u8]) -> std::io::Result<usize> {
        const UDP: u8 = libc::IPPROTO_UDP as u8;
        let length = bytes.len() as u16 + 8;
        // The kernel fills in what is 0: length, number, checksum. UDP does without one.
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
        for address in [self.source, self.target] {
            packet.extend_from_slice(&address.ip().octets());
        }
        for field in [self.source.port(), self.target.port(), length, 0] {
            packet.extend_from_slice(&field.to_be_bytes());
        }
        packet.extend_from_slice(bytes);
        self.socket.send_to(&packet, &self.target.into())
    }
}
