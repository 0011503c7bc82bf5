//! A digest of a whole tree: names, types, modes, owners, sizes, times of files, links, extended
//! attributes, bytes. Equal digests mean equal replicas.
//!
//! Times of directories are left out: they change when a directory is made ready for replication,
//! and the serving node sends its own with the first operation on each.

use super::lasting;
use super::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use tandem_repl::logic::resync::PRIVATE;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

struct Walk {
    hash: blake3::Hasher,
    /// First path of every inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buf: Vec<u8>,
}

/// Digest of the tree below `root`.
///
/// # Errors
/// The path that could not be read, and why.
pub(crate) fn tree(root: RawFd) -> Result<[u8; 32], String> {
    let mut walk = Walk {
        hash: blake3::Hasher::new(),
        links: HashMap::new(),
        buf: vec![0; CHUNK],
    };
    // Depth first with a list of our own: directories may nest deeper than a stack.
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let named = |e: io::Error| format!("{}: {e}", String::from_utf8_lossy(&path));
        let dir = open_path(root, &path).map_err(named)?;
        walk.entry(&path, dir.as_raw_fd()).map_err(named)?;
        for name in names(dir.as_raw_fd()).map_err(named)? {
            if path.is_empty() && name.to_bytes() == PRIVATE {
                continue;
            }
            let mut child = path.clone();
            child.push(b'/');
            child.extend_from_slice(name.as_bytes());
            let named = |e: io::Error| format!("{}: {e}", String::from_utf8_lossy(&child));
            let stat = sys::fstatat(dir.as_raw_fd(), &name).map_err(named)?;
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                todo.push(child);
                continue;
            }
            let flags = match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK,
                _ => libc::O_PATH | libc::O_NOFOLLOW,
            };
            let fd = sys::openat(dir.as_raw_fd(), &name, flags, 0).map_err(named)?;
            walk.entry(&child, fd.as_raw_fd()).map_err(named)?;
        }
    }
    Ok(*walk.hash.finalize().as_bytes())
}

/// Opens a directory by its path from the root, one name at a time, following no link.
fn open_path(root: RawFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let mut dir = sys::openat(root, c".", flags, 0)?;
    for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
        dir = sys::openat(dir.as_raw_fd(), &sys::cstring(name)?, flags, 0)?;
    }
    Ok(dir)
}

/// Names in a directory, sorted, so that the order on disk does not matter.
fn names(dir: RawFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut buf = vec![0u8; CHUNK];
    loop {
        let n = sys::getdents(dir, &mut buf)?;
        if n == 0 {
            break;
        }
        for entry in sys::dirents(&buf[..n]) {
            if !matches!(entry.name.to_bytes(), b"." | b"..") {
                names.push(entry.name.to_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

impl Walk {
    fn number(&mut self, n: u64) {
        self.hash.update(&n.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hash.update(bytes);
    }

    fn entry(&mut self, path: &[u8], fd: RawFd) -> io::Result<()> {
        let stat = sys::fstat(fd)?;
        let format = stat.st_mode & libc::S_IFMT;
        self.bytes(path);
        for n in [stat.st_mode, stat.st_uid, stat.st_gid] {
            self.number(n.into());
        }
        self.xattrs(fd)?;
        if format == libc::S_IFDIR {
            return Ok(());
        }
        self.number(stat.st_mtime.cast_unsigned());
        self.number(stat.st_mtime_nsec.cast_unsigned());
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            let first = self
                .links
                .entry(key)
                .or_insert_with(|| path.to_vec())
                .clone();
            self.bytes(&first);
            if first != path {
                return Ok(());
            }
        }
        match format {
            libc::S_IFREG => self.content(fd, stat.st_size.cast_unsigned())?,
            libc::S_IFLNK => {
                let target = sys::readlinkat(fd)?;
                self.bytes(&target);
            }
            _ => self.number(stat.st_rdev),
        }
        Ok(())
    }

    fn xattrs(&mut self, fd: RawFd) -> io::Result<()> {
        let mut list = vec![0u8; 64 * 1024];
        let n = match sys::listxattr(fd, &mut list) {
            Ok(n) => n,
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => 0,
            Err(e) => return Err(e),
        };
        let mut names: Vec<_> = list[..n]
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty() && !lasting::is_hidden(name))
            .collect();
        names.sort_unstable();
        let mut value = vec![0u8; 64 * 1024];
        self.number(names.len() as u64);
        for name in names {
            let n = sys::getxattr(fd, &sys::cstring(name)?, &mut value)?;
            self.bytes(name);
            self.bytes(&value[..n]);
        }
        Ok(())
    }

    /// Data only; a hole reads as zeros and counts as such, wherever its edges are.
    fn content(&mut self, fd: RawFd, size: u64) -> io::Result<()> {
        self.number(size);
        let mut at = 0;
        while at < size {
            let data = match sys::lseek(fd, at.cast_signed(), libc::SEEK_DATA) {
                Ok(data) => data.cast_unsigned(),
                Err(e) if e.raw_os_error() == Some(libc::ENXIO) => break,
                Err(e) => return Err(e),
            };
            let hole = sys::lseek(fd, data.cast_signed(), libc::SEEK_HOLE)?.cast_unsigned();
            at = data;
            while at < hole.min(size) {
                let want = CHUNK.min((hole - at) as usize);
                let mut buf = std::mem::take(&mut self.buf);
                let read = sys::pread(fd, &mut buf[..want], at);
                self.buf = buf;
                let n = read?;
                if n == 0 {
                    return Ok(());
                }
                self.block(at, n);
                at += n as u64;
            }
        }
        Ok(())
    }

    /// Hashes pieces of one size at fixed places, leaving out zeros, so that holes and written
    /// zeros give the same digest.
    fn block(&mut self, at: u64, len: usize) {
        const PIECE: usize = 4096;
        let mut done = 0;
        while done < len {
            let here = at + done as u64;
            let piece = (PIECE - (here as usize % PIECE)).min(len - done);
            let bytes = &self.buf[done..done + piece];
            if bytes.iter().any(|b| *b != 0) {
                self.hash.update(&here.to_le_bytes());
                self.hash.update(&self.buf[done..done + piece]);
            }
            done += piece;
        }
    }
}
