//! What this node's disk cannot read is read from the peer and written back.

use super::super::nodes::Node;
use super::super::{names, sys};
use super::{Service, Volume};
use crate::error::errno_of;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use tandem_repl::ids::FileId;
use tandem_repl::limits::MAX_DATA;
use tandem_repl::logic::member::Gate;
use tandem_repl::op::{Checked, Cred, Durability, Op};

/// Bytes asked for at once, and of a block of the disk: what a disk cannot read is most often a
/// block of this size.
const PIECE: usize = 4096;

impl Service {
    /// Reads a range piece by piece, from the peer what cannot be read here.
    ///
    /// # Errors
    /// As [`Self::repair`].
    pub(crate) fn read_repaired(
        &self,
        volume: &Volume,
        id: FileId,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, i32> {
        let mut data = vec![0; size];
        let mut done = 0;
        while done < size {
            let at = offset + done as u64;
            let want = PIECE.min(size - done);
            let n = match volume.read(id, &mut data[done..done + want], at) {
                Ok(n) => n,
                Err(e) if e.raw_os_error() == Some(libc::EIO) => {
                    let piece = self.repair(volume, id, at, want as u32)?;
                    data[done..done + piece.len()].copy_from_slice(&piece);
                    piece.len()
                }
                Err(e) => return Err(errno_of(&e)),
            };
            done += n;
            if n < want {
                break;
            }
        }
        data.truncate(done);
        Ok(data)
    }

    /// Bytes of a file from the peer, as they are after every change so far; they are also
    /// written back here, so that the disk may put them elsewhere. Changes of this file wait
    /// meanwhile, at most the stall limit.
    ///
    /// # Errors
    /// There is no peer in the set, or it cannot read them either: `EIO`.
    pub(crate) fn repair(
        &self,
        volume: &Volume,
        id: FileId,
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>, i32> {
        let gate = self.gate();
        if *gate != Gate::Replicated {
            return Err(libc::EIO);
        }
        let node = volume.nodes.get(id).ok_or(libc::EIO)?;
        let driver = self.driver.get().ok_or(libc::EIO)?;
        let _order = node.lock_order();
        // Whole blocks: what is written back must not leave a part of a lost block as zeros.
        let before = (offset % PIECE as u64) as usize;
        let wanted = (len as usize).min(MAX_DATA - before);
        let offset = offset - before as u64;
        let len = (before + wanted).next_multiple_of(PIECE) as u32;
        let op = Op::Fetch { id, offset, len };
        let mut data = driver.fetch(|shipment| {
            let none = names::Entries::default();
            if node.orphan() || !names::bind_for(shipment, volume, &op, &none) {
                return false;
            }
            shipment.op(volume.id, &op);
            true
        })?;
        data.truncate(len as usize);
        let path = volume.backing.path.display();
        tracing::error!("{path}: {len} bytes at {offset} of file {id:?} came from the peer");
        // Until it is back on the disk it may be gone with the next power cut.
        let op = Op::Write {
            id,
            offset,
            data: &data,
            durability: Durability::Memory,
            cred: Cred::default(),
        };
        self.marks.mark(volume, &op)?;
        self.write_back(volume, &node, offset, &data);
        data.truncate(before + wanted);
        Ok(data.split_off(before.min(data.len())))
    }

    /// The same bytes in the same place: no change of the file, so not sent, and its times stay.
    fn write_back(&self, volume: &Volume, node: &Node, offset: u64, data: &[u8]) {
        let written = volume.nodes.fd(node).and_then(|fd| {
            let fd = fd.as_raw_fd();
            let before = sys::fstatat(fd, c"")?;
            rewrite(fd, offset, data)?;
            let time = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
            let accessed = time(before.st_atime, before.st_atime_nsec);
            sys::utimens(fd, &[accessed, time(before.st_mtime, before.st_mtime_nsec)])?;
            sys::fsync(fd, false)
        });
        if let Err(e) = written {
            let path = volume.backing.path.display();
            let what = format!("{path}: a block that cannot be read cannot be written either: {e}");
            tracing::error!("{what}");
            // A sync that failed may have lost what an application wrote before.
            if let Some(driver) = self.driver.get() {
                driver.local_failed(&what);
            }
        }
    }

    /// Marks what a verification found, so that the follower is brought up there. False if it
    /// could not be marked.
    pub(super) fn mark_different(&self, volume: &Volume, node: &Node, what: Checked) -> bool {
        let _gate = self.gate();
        self.marks.mark_found(volume, node, what).is_ok()
    }
}

/// Writes over what cannot be read. The disk may remap the sector in its place. Where the kernel
/// would have to read the block first, as for the end of a file, the block is given back and
/// another taken.
fn rewrite(fd: RawFd, offset: u64, data: &[u8]) -> io::Result<()> {
    let end = offset + data.len() as u64;
    let size = sys::fstatat(fd, c"")?.st_size.cast_unsigned();
    let whole =
        offset.is_multiple_of(PIECE as u64) && (end.is_multiple_of(PIECE as u64) || end >= size);
    match write_all(fd, offset, data) {
        Err(e) if e.raw_os_error() == Some(libc::EIO) && whole => {
            let length = data.len().next_multiple_of(PIECE) as u64;
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            sys::fallocate(fd, mode, offset, length)?;
            write_all(fd, offset, data)
        }
        written => written,
    }
}

fn write_all(fd: RawFd, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < data.len() {
        done += sys::pwrite(fd, &data[done..], offset + done as u64)?;
    }
    Ok(())
}
