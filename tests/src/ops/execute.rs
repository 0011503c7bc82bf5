//! Executes operations on one directory and holds its open descriptors.

use super::names::{describe, on_name};
use super::{Op, Outcome, SLOTS, Value, done, pattern};
use crate::sys::{self, Aligned, Errno, Map, Sys};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// An open descriptor of a run.
struct Slot {
    fd: OwnedFd,
    direct: bool,
    map: Option<Map>,
}

/// Where data begins depends on the kernel's cache, and is right whatever it says.
pub const VAGUE: &str = "vague";

/// One directory on which the operations are executed.
pub struct Side {
    dir: OwnedFd,
    slots: [Option<Slot>; SLOTS],
    /// Files in which the kernel may show a region as data or as hole depending on its cache.
    vague: BTreeSet<u64>,
}

impl Side {
    pub fn new(dir: OwnedFd) -> Self {
        Self {
            dir,
            slots: Default::default(),
            vague: BTreeSet::new(),
        }
    }

    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Executes one operation. The calling thread has its own working directory.
    pub fn execute(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open {
                slot,
                path,
                flags,
                mode,
            } => {
                let direct = flags & libc::O_DIRECT != 0;
                let fd = sys::open(path, flags | libc::O_NONBLOCK, *mode)?;
                let stat = sys::fstat(&fd)?;
                // Attributes take a block of their own on one side sooner than on the other.
                let attributes = stat.st_size == 0 && stat.st_blocks == 8;
                if stat.st_blocks == 0 || attributes {
                    // A new file may have the number of one that is gone.
                    self.vague.remove(&stat.st_ino);
                }
                self.slots[*slot] = Some(Slot {
                    fd,
                    direct,
                    map: None,
                });
                done(())
            }
            Op::Close { slot } => {
                let slot = self.slots[*slot].take().ok_or(Errno(libc::EBADF))?;
                drop(slot.map);
                sys::close(slot.fd).and_then(done)
            }
            Op::CopyRange { .. } | Op::Fallocate { .. } => self.move_ranges(op),
            Op::SeekData { slot, at, hole } => self.seek_data(*slot, *at, *hole),
            Op::KeepMap { .. } | Op::Store { .. } | Op::Load { .. } => self.mapped(op),
            Op::Write { slot, .. } | Op::Pwrite { slot, .. } | Op::Writev { slot, .. } => {
                let outcome = self.write(op);
                self.align(*slot)?;
                outcome
            }
            Op::Read { slot, .. } | Op::Pread { slot, .. } | Op::Seek { slot, .. } => {
                let outcome = self.read(op);
                self.align(*slot)?;
                outcome
            }
            _ => match on_name(op) {
                Some(outcome) => outcome,
                None => self.on_fd(op),
            },
        }
    }

    fn slot(&self, slot: usize) -> Sys<&Slot> {
        self.slots[slot].as_ref().ok_or(Errno(libc::EBADF))
    }

    /// A direct read that met the end of the file leaves the position where no direct write may go.
    fn align(&self, slot: usize) -> Sys<()> {
        let slot = self.slot(slot)?;
        if slot.direct {
            let at = sys::lseek(&slot.fd, 0, libc::SEEK_CUR)?;
            sys::lseek(
                &slot.fd,
                (at - at % Aligned::UNIT as u64) as i64,
                libc::SEEK_SET,
            )?;
        }
        Ok(())
    }

    fn write(&self, op: &Op) -> Outcome {
        let (slot, at, lens, fill) = match *op {
            Op::Write { slot, len, fill } => (slot, None, [len, 0, 0], fill),
            Op::Pwrite {
                slot,
                at,
                len,
                fill,
            } => (slot, Some(at), [len, 0, 0], fill),
            Op::Writev {
                slot,
                at,
                lens,
                fill,
            } => (slot, at, lens, fill),
            _ => unreachable!("only the writing operations come here"),
        };
        let slot = self.slot(slot)?;
        let unit = if slot.direct { Aligned::UNIT } else { 1 };
        let at = at.map(|at| at - at % unit as u64);
        let parts = lens.map(|len| Aligned::of(&pattern(len.next_multiple_of(unit), fill)));
        let len = match (op, at) {
            (Op::Writev { .. }, _) => {
                sys::writev(&slot.fd, &parts.each_ref().map(Aligned::as_ref), at)
            }
            (_, Some(at)) => sys::pwrite(&slot.fd, parts[0].as_ref(), at),
            (_, None) => sys::write(&slot.fd, parts[0].as_ref()),
        }?;
        Ok(Value::Number(len as u64))
    }

    fn read(&self, op: &Op) -> Outcome {
        let (slot, at, len) = match *op {
            Op::Read { slot, len } => (slot, None, len),
            Op::Pread { slot, at, len } => (slot, Some(at), len),
            Op::Seek { slot, at, whence } => {
                let slot = self.slot(slot)?;
                let at = if slot.direct {
                    at - at % Aligned::UNIT as i64
                } else {
                    at
                };
                // The end of a directory is no promise, and that of a file at no aligned place.
                let is_dir = sys::fstat(&slot.fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
                let whence = if is_dir || slot.direct {
                    libc::SEEK_SET
                } else {
                    whence
                };
                return sys::lseek(&slot.fd, at, whence).map(Value::Number);
            }
            _ => unreachable!("only the reading operations come here"),
        };
        let slot = self.slot(slot)?;
        let unit = if slot.direct { Aligned::UNIT } else { 1 };
        let mut buffer = Aligned::new(len.next_multiple_of(unit), 0);
        let len = match at {
            Some(at) => sys::pread(&slot.fd, buffer.as_mut(), at - at % unit as u64),
            None => sys::read(&slot.fd, buffer.as_mut()),
        }?;
        Ok(Value::Bytes(buffer.as_ref()[..len].to_vec()))
    }

    fn seek_data(&self, slot: usize, at: u64, hole: bool) -> Outcome {
        let fd = &self.slot(slot)?.fd;
        let stat = sys::fstat(fd)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno(libc::EBADF));
        }
        // Without it a FUSE mount does not know of stores through a mapping; the table of cases has
        // that as a case of its own.
        sys::fsync(fd)?;
        let back = sys::lseek(fd, 0, libc::SEEK_CUR)?;
        let whence = if hole {
            libc::SEEK_HOLE
        } else {
            libc::SEEK_DATA
        };
        let found = sys::lseek(fd, at as i64, whence);
        sys::lseek(fd, back as i64, libc::SEEK_SET)?;
        if !self.vague.contains(&stat.st_ino) {
            return found.map(Value::Number);
        }
        // Vague: only what is called a hole must really be empty.
        let end = found.unwrap_or(stat.st_size as u64).min(at + (1 << 20));
        if !hole && at < end {
            let skipped = sys::read_all(fd, at, (end - at) as usize).unwrap_or_default();
            if let Some(byte) = skipped.iter().position(|byte| *byte != 0) {
                return Ok(Value::Text(format!(
                    "a hole with data at {}",
                    at + byte as u64
                )));
            }
        }
        Ok(Value::Text(VAGUE.into()))
    }

    fn mapped(&mut self, op: &Op) -> Outcome {
        let (slot, at, len, keep) = match *op {
            Op::KeepMap { slot } => (slot, 0, 0, true),
            Op::Store { slot, at, len, .. } | Op::Load { slot, at, len } => (slot, at, len, false),
            _ => unreachable!("only the mapping operations come here"),
        };
        let slot = self.slots[slot].as_mut().ok_or(Errno(libc::EBADF))?;
        let stat = sys::fstat(&slot.fd)?;
        let size = stat.st_size as u64;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || at + len as u64 > size {
            // Beyond the end a store is a signal, not an error.
            return Err(Errno(libc::ENXIO));
        }
        let writable = !matches!(op, Op::Load { .. });
        if keep {
            slot.map = Some(Map::new(&slot.fd, size.clamp(1, 1 << 20) as usize, true)?);
            return done(());
        }
        let own;
        let end = at as usize + len;
        let map = match &slot.map {
            Some(map) if end <= map.len() => map,
            _ => {
                own = Map::new(&slot.fd, end.max(1), writable)?;
                &own
            }
        };
        match op {
            Op::Store { fill, sync, .. } => {
                map.store(at as usize, &pattern(len, *fill));
                if *sync {
                    map.sync(libc::MS_SYNC).and_then(done)
                } else {
                    done(())
                }
            }
            _ => Ok(Value::Bytes(map.load(at as usize, len))),
        }
    }

    fn move_ranges(&mut self, op: &Op) -> Outcome {
        let (to, outcome) = match *op {
            Op::Fallocate {
                slot,
                mode,
                at,
                len,
            } => {
                let fd = &self.slot(slot)?.fd;
                (fd, sys::fallocate(fd, mode, at, len).and_then(done))
            }
            Op::CopyRange {
                from,
                at,
                to,
                to_at,
                len,
            } => {
                let (from, to) = (self.slot(from)?, self.slot(to)?);
                if from.direct || to.direct {
                    // The end of a copy is at no aligned place.
                    return Err(Errno(libc::EINVAL));
                }
                (&to.fd, copy_all(&from.fd, at, &to.fd, to_at, len))
            }
            _ => unreachable!("only the range operations come here"),
        };
        let inode = sys::fstat(to)?.st_ino;
        self.vague.insert(inode);
        outcome
    }

    fn on_fd(&self, op: &Op) -> Outcome {
        match op {
            Op::Ftruncate { slot, len } => {
                sys::ftruncate(&self.slot(*slot)?.fd, *len).and_then(done)
            }
            Op::Fsync { slot } => sys::fsync(&self.slot(*slot)?.fd).and_then(done),
            Op::Fdatasync { slot } => sys::fdatasync(&self.slot(*slot)?.fd).and_then(done),
            Op::Syncfs { slot } => sys::syncfs(&self.slot(*slot)?.fd).and_then(done),
            Op::Fstat { slot } => sys::fstat(&self.slot(*slot)?.fd).map(|stat| describe(&stat)),
            Op::Fchmod { slot, mode } => sys::fchmod(&self.slot(*slot)?.fd, *mode).and_then(done),
            Op::Fchown { slot, uid, gid } => {
                sys::fchown(&self.slot(*slot)?.fd, *uid, *gid).and_then(done)
            }
            Op::LinkOpen { slot, path } => {
                sys::link_open(&self.slot(*slot)?.fd, path).and_then(done)
            }
            _ => unreachable!("{op:?} is executed elsewhere"),
        }
    }
}

/// A copy may be short for no reason; the loop is what `cp` does.
fn copy_all(from: &OwnedFd, at: u64, to: &OwnedFd, to_at: u64, len: usize) -> Outcome {
    let mut copied = 0;
    while copied < len {
        let (at, to_at) = (at + copied as u64, to_at + copied as u64);
        match sys::copy_file_range(from, at, to, to_at, len - copied)? {
            0 => break,
            more => copied += more,
        }
    }
    Ok(Value::Number(copied as u64))
}
