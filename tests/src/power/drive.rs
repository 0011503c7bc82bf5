//! A disk that a guest reaches as a network block device: requests of its kernel are answered from
//! the disk's cache, a flush brings the cache to the medium.
//!
//! User-Mode Linux has a disk of its own, but it answers a flush without doing anything.

use super::disk::{Disk, Survival};
use crate::rng::Rng;
use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const CLOSE: u16 = 2;
const FLUSH: u16 = 3;
/// With a write: it is on the medium when it is answered.
const DURABLE: u16 = 1;
/// What the guest must know of the drive: it has flags, takes flushes and durable writes.
pub const FLAGS: u64 = 1 | 1 << 2 | 1 << 3;
/// Longer requests are not made by the kernel.
const LENGTH: u32 = 32 << 20;

/// A disk in its drive.
pub struct Drive {
    disk: Arc<Mutex<Disk>>,
    /// More than one if a first attempt to connect was answered too late.
    guest: Arc<Mutex<Vec<Plugged>>>,
}

/// The guest's connection.
struct Plugged {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Drive {
    /// Serves the disk at a port of this (network of our) machine until the process ends.
    pub fn new(disk: Disk, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let listener = listener.with_context(|| format!("port {port}"))?;
        let drive = Self {
            disk: Arc::new(Mutex::new(disk)),
            guest: Arc::default(),
        };
        let (disk, guest) = (drive.disk.clone(), drive.guest.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (disk, own) = (disk.clone(), stream.try_clone());
                let Ok(own) = own else { continue };
                let thread = std::thread::spawn(move || {
                    // A guest that is switched off breaks the connection anywhere.
                    serve(&disk, own).ok();
                });
                let mut guest = guest.lock().expect("nobody panics here");
                guest.push(Plugged { stream, thread });
            }
        });
        Ok(drive)
    }

    /// The disk itself.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// The power is gone, and so is the guest.
    pub fn cut(&self, survival: Survival, rng: &mut Rng) -> Result<()> {
        for plugged in self.guest.lock().expect("nobody panics here").drain(..) {
            // What has arrived was on its way to the disk: it may be done.
            plugged.stream.shutdown(Shutdown::Both).ok();
            plugged.thread.join().ok();
        }
        Ok(self.disk().cut(survival, rng)?)
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().expect("nobody panics with a disk")
}

/// Answers requests until the connection ends.
fn serve(disk: &Mutex<Disk>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = [0; 28];
    let mut data = Vec::new();
    loop {
        stream.read_exact(&mut head)?;
        let request = Request::parse(&head)?;
        data.clear();
        if request.kind == WRITE {
            data.resize(request.length, 0);
            stream.read_exact(&mut data)?;
        }
        let answer = match request.kind {
            READ => lock(disk).read(request.offset, request.length),
            WRITE => request.write(&mut lock(disk), &data),
            FLUSH => lock(disk).flush().map(|()| Vec::new()),
            CLOSE => return Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let (error, data) = match answer {
            Ok(data) => (0, data),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
        };
        let mut reply = Vec::with_capacity(16 + data.len());
        reply.extend(REPLY.to_be_bytes());
        reply.extend(error.to_be_bytes());
        reply.extend(request.handle);
        reply.extend(data);
        stream.write_all(&reply)?;
    }
}

struct Request {
    flags: u16,
    kind: u16,
    handle: [u8; 8],
    offset: u64,
    length: usize,
}

impl Request {
    fn parse(head: &[u8; 28]) -> io::Result<Self> {
        let field =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if field(0) != REQUEST || field(24) > LENGTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut handle = [0; 8];
        handle.copy_from_slice(&head[8..16]);
        Ok(Self {
            flags: (field(4) >> 16) as u16,
            kind: field(4) as u16,
            handle,
            offset: u64::from(field(16)) << 32 | u64::from(field(20)),
            length: field(24) as usize,
        })
    }

    fn write(&self, disk: &mut Disk, data: &[u8]) -> io::Result<Vec<u8>> {
        if self.flags & DURABLE != 0 {
            disk.write_durable(self.offset, data)?;
        } else {
            disk.write(self.offset, data)?;
        }
        Ok(Vec::new())
    }
}
