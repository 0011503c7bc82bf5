//! Content of files: where data is, and hashes of blocks.

use super::super::sys;
use std::io;
use std::os::fd::RawFd;
use tandem_repl::logic::resync::messages::{BLOCK, HOLE, Hash};

pub(super) fn read_full(fd: RawFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match sys::pread(fd, &mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Where the next data at or after `offset` begins; `None` if only a hole follows.
pub(super) fn next_data(fd: RawFd, offset: u64) -> io::Result<Option<u64>> {
    match sys::lseek(fd, offset.cast_signed(), libc::SEEK_DATA) {
        Ok(at) => Ok(Some(at.cast_unsigned())),
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Hashes of `count` blocks from `offset` on, as if the file ended at `size`: beyond its own end it
/// reads as a hole.
pub(super) fn hashes(fd: RawFd, offset: u64, count: usize, size: u64) -> io::Result<Vec<Hash>> {
    let mut hashes = Vec::with_capacity(count);
    let mut data = next_data(fd, offset)?;
    let mut buf = vec![0u8; BLOCK as usize];
    for n in 0..count as u64 {
        let start = offset + n * BLOCK;
        let end = (start + BLOCK).min(size);
        if data.is_some_and(|at| at < start) {
            data = next_data(fd, start)?;
        }
        let empty = data.is_none_or(|at| at >= end);
        if empty || end <= start {
            hashes.push(HOLE);
            continue;
        }
        let want = (end - start) as usize;
        let got = read_full(fd, &mut buf[..want], start)?;
        buf[got..want].fill(0);
        let mut hash = HOLE;
        hash.copy_from_slice(&blake3::hash(&buf[..want]).as_bytes()[..16]);
        hashes.push(hash);
    }
    Ok(hashes)
}

/// Makes a hole; where the file system cannot, writes zeros. A shorter file grows.
pub(super) fn zero(fd: i32, offset: u64, len: u64) -> io::Result<()> {
    let end = offset + len;
    let (size, _) = sys::size_and_links(fd)?;
    if size < end {
        sys::ftruncate(fd, end)?;
    }
    if size <= offset {
        return Ok(());
    }
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    match sys::fallocate(fd, mode, offset, len) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        result => return result,
    }
    let zeros = vec![0u8; BLOCK as usize * 8];
    let mut at = offset;
    while at < end.min(size) {
        let n = (zeros.len() as u64).min(end.min(size) - at) as usize;
        at += sys::pwrite(fd, &zeros[..n], at)? as u64;
    }
    Ok(())
}
