//! Fingerprints of pieces of a tree, equal on both nodes where the pieces are: what
//! [`Op::Check`](tandem_repl::op::Op::Check) compares. Holes count as the zeros they read as.

use super::sys;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

/// Zeros are left out in pieces of this size, bytes.
const PIECE: usize = 4096;

/// A fingerprint: the first half of a BLAKE3 hash.
pub(crate) type Print = [u8; 16];

fn finish(hash: &blake3::Hasher) -> Print {
    let mut print = [0; 16];
    print.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    print
}

/// Of up to `len` bytes from `offset`. The file's end counts, too.
///
/// # Errors
/// What cannot be read.
pub(crate) fn data(fd: RawFd, offset: u64, len: u32, buf: &mut Vec<u8>) -> io::Result<Print> {
    let mut hash = blake3::Hasher::new();
    let size = sys::fstat(fd)?.st_size.cast_unsigned();
    let end = size.min(offset.saturating_add(len.into()));
    let mut at = offset;
    hash.update(&end.saturating_sub(offset).to_le_bytes());
    while at < end {
        let data = match sys::lseek(fd, at.cast_signed(), libc::SEEK_DATA) {
            Ok(data) => data.cast_unsigned(),
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => break,
            Err(e) => return Err(e),
        };
        // From the beginning of a piece, so that both nodes cut alike whatever their holes are.
        at = (data - (data - offset) % PIECE as u64).max(at);
        if at >= end {
            break;
        }
        let hole = sys::lseek(fd, data.cast_signed(), libc::SEEK_HOLE)?.cast_unsigned();
        let stop = offset + (hole - offset).next_multiple_of(PIECE as u64);
        let want = (stop.min(end) - at) as usize;
        buf.resize(want, 0);
        let n = read_full(fd, &mut buf[..want], at)?;
        pieces(&mut hash, at, &buf[..n]);
        if n < want {
            break;
        }
        at += n as u64;
    }
    Ok(finish(&hash))
}

fn read_full(fd: RawFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match sys::pread(fd, &mut buf[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

fn pieces(hash: &mut blake3::Hasher, offset: u64, bytes: &[u8]) {
    for (n, piece) in bytes.chunks(PIECE).enumerate() {
        if piece.iter().any(|b| *b != 0) {
            hash.update(&(offset + (n * PIECE) as u64).to_le_bytes());
            hash.update(piece);
        }
    }
}

/// Of a file's attributes. `times`: with that of the last change of its content.
///
/// # Errors
/// What cannot be read.
pub(crate) fn attributes(fd: RawFd, times: bool) -> io::Result<Print> {
    let stat = sys::fstat(fd)?;
    let format = stat.st_mode & libc::S_IFMT;
    let mut hash = blake3::Hasher::new();
    let mut number = |n: u64| {
        hash.update(&n.to_le_bytes());
    };
    for n in [stat.st_mode, stat.st_uid, stat.st_gid] {
        number(n.into());
    }
    match format {
        libc::S_IFREG => number(stat.st_size.cast_unsigned()),
        libc::S_IFCHR | libc::S_IFBLK => number(stat.st_rdev),
        _ => {}
    }
    if times {
        number(stat.st_mtime.cast_unsigned());
        number(stat.st_mtime_nsec.cast_unsigned());
    }
    if format == libc::S_IFLNK {
        hash.update(&sys::readlinkat(fd)?);
    }
    xattrs(&mut hash, fd)?;
    Ok(finish(&hash))
}

fn xattrs(hash: &mut blake3::Hasher, fd: RawFd) -> io::Result<()> {
    let mut list = vec![0u8; 64 * 1024];
    let n = match sys::listxattr(fd, &mut list) {
        Ok(n) => n,
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => 0,
        Err(e) => return Err(e),
    };
    let mut names: Vec<_> = list[..n]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty() && *name != HIDDEN)
        .collect();
    names.sort_unstable();
    let mut value = vec![0u8; 64 * 1024];
    for name in names {
        let n = sys::getxattr(fd, &sys::cstring(name)?, &mut value)?;
        for bytes in [name, &value[..n]] {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    Ok(())
}

/// The identity is kept in an attribute with a check of this node's own handle.
const HIDDEN: &[u8] = tandem_repl::ids::Uid::XATTR.as_bytes();

/// Of the names in a directory and the kinds of what they lead to. `hidden`: a name left out.
///
/// # Errors
/// What cannot be read.
pub(crate) fn names(dir: RawFd, hidden: Option<&[u8]>) -> io::Result<Print> {
    let mut all: Vec<(CString, u8)> = Vec::new();
    let mut buf = vec![0u8; 64 * 1024];
    sys::lseek(dir, 0, libc::SEEK_SET)?;
    loop {
        let n = sys::getdents(dir, &mut buf)?;
        if n == 0 {
            break;
        }
        for entry in sys::dirents(&buf[..n]) {
            let name = entry.name.to_bytes();
            if !matches!(name, b"." | b"..") && Some(name) != hidden {
                all.push((entry.name.to_owned(), entry.kind));
            }
        }
    }
    all.sort_unstable();
    let mut hash = blake3::Hasher::new();
    for (name, kind) in all {
        hash.update(name.to_bytes_with_nul());
        hash.update(&[kind]);
    }
    Ok(finish(&hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_and_zeros_are_alike_and_every_byte_counts() {
        let dir = std::env::temp_dir().join(format!("tandem-print-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let make = |name: &str| {
            let path = dir.join(name);
            let options = &mut std::fs::File::options();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path);
            file.unwrap()
        };
        let (a, b) = (make("a"), make("b"));
        a.write_all_at(&[0; 300_000], 0).unwrap();
        b.set_len(300_000).unwrap();
        for file in [&a, &b] {
            file.write_all_at(b"x", 5).unwrap();
            file.write_all_at(&[7; 9000], 200_001).unwrap();
        }
        let mut buf = Vec::new();
        let mut print = |f: &std::fs::File, o, l| data(f.as_raw_fd(), o, l, &mut buf).unwrap();
        for (offset, len) in [(0, 1 << 20), (4096, 200_000), (1, 250_000), (299_999, 10)] {
            assert_eq!(
                print(&a, offset, len),
                print(&b, offset, len),
                "{offset} {len}"
            );
        }
        b.write_all_at(&[8], 208_999).unwrap();
        assert_ne!(print(&a, 0, 1 << 20), print(&b, 0, 1 << 20));
        assert_eq!(print(&a, 0, 200_000), print(&b, 0, 200_000));
        b.set_len(300_001).unwrap();
        assert_ne!(
            print(&a, 250_000, 100_000),
            print(&b, 250_000, 100_000),
            "the end counts"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
