//! All attributes of a file: read, and made exactly so.

use super::super::identity::assume_root;
use super::super::sys::{self, cstring};
use super::super::{apply, lasting};
use std::io;
use std::os::fd::RawFd;
use tandem_repl::limits::MAX_XATTR;
use tandem_repl::logic::resync::messages::Attrs;

/// Inode flags that are the user's: compressed, synchronous, immutable, append-only, no dump, no
/// access times, synchronous directory, top of a hierarchy, no copy on write.
const FLAGS: u32 = 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x1_0000 | 0x2_0000 | 0x80_0000;
/// Of these, what keeps anybody from changing the file.
const LOCKS: u32 = 0x10 | 0x20;

/// The user's inode flags; none for what has none.
fn flags(fd: RawFd, format: u32) -> u32 {
    match format {
        libc::S_IFREG | libc::S_IFDIR => sys::get_flags(fd).map_or(0, |flags| flags & FLAGS),
        _ => 0,
    }
}

pub(super) fn read(fd: RawFd) -> io::Result<Attrs> {
    let stat = sys::fstat(fd)?;
    let format = stat.st_mode & libc::S_IFMT;
    Ok(Attrs {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: match format {
            libc::S_IFREG => stat.st_size.cast_unsigned(),
            _ => 0,
        },
        atime: (stat.st_atime, stat.st_atime_nsec as u32),
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        flags: flags(fd, format),
        xattrs: xattrs(fd)?,
    })
}

fn xattr_names(fd: RawFd) -> io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0u8; 1024];
    let n = loop {
        match sys::listxattr(fd, &mut list) {
            Ok(n) => break n,
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && list.len() < MAX_XATTR => {
                list.resize(MAX_XATTR, 0);
            }
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => break 0,
            Err(e) => return Err(e),
        }
    };
    let names = list[..n].split(|b| *b == 0).filter(|n| !n.is_empty());
    let mut names: Vec<_> = names
        .filter(|n| !lasting::is_hidden(n))
        .map(<[u8]>::to_vec)
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn xattrs(fd: RawFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    for name in xattr_names(fd)? {
        let mut value = vec![0u8; MAX_XATTR];
        match sys::getxattr(fd, &cstring(&name)?, &mut value) {
            Ok(n) => value.truncate(n),
            // Removed since.
            Err(e) if e.raw_os_error() == Some(libc::ENODATA) => continue,
            Err(e) => return Err(e),
        }
        all.push((name, value));
    }
    Ok(all)
}

/// Does something to a file; if its flags forbid it, without them. The caller sets them again.
pub(super) fn unlocked<T>(fd: RawFd, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    assume_root();
    match work() {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            let flags = sys::get_flags(fd).map_err(|_| e)?;
            if flags & LOCKS == 0 {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            sys::set_flags(fd, flags & !LOCKS)?;
            work()
        }
        result => result,
    }
}

/// Makes the attributes of a file exactly these; of others, extended attributes stay whose names
/// are in `others`. Size and content are the caller's.
pub(super) fn set(fd: RawFd, attrs: &Attrs, others: &[Vec<u8>]) -> io::Result<()> {
    unlocked(fd, || set_unlocked(fd, attrs, others))?;
    let format = sys::mode_of(fd)? & libc::S_IFMT;
    if matches!(format, libc::S_IFREG | libc::S_IFDIR) {
        let now = sys::get_flags(fd).unwrap_or(attrs.flags);
        if now & FLAGS != attrs.flags & FLAGS {
            sys::set_flags(fd, (now & !FLAGS) | (attrs.flags & FLAGS))?;
        }
    }
    Ok(())
}

fn set_unlocked(fd: RawFd, attrs: &Attrs, others: &[Vec<u8>]) -> io::Result<()> {
    let stat = sys::fstat(fd)?;
    let format = stat.st_mode & libc::S_IFMT;
    // Owners first: changing them takes set-id bits and capabilities away.
    if (stat.st_uid, stat.st_gid) != (attrs.uid, attrs.gid) {
        sys::fchown(fd, Some(attrs.uid), Some(attrs.gid))?;
    }
    set_xattrs(fd, attrs, others)?;
    // After the access list, which is where the group's bits are kept.
    if format != libc::S_IFLNK && sys::mode_of(fd)? & 0o7777 != attrs.mode {
        match format {
            libc::S_IFREG | libc::S_IFDIR => sys::fchmod(fd, attrs.mode)?,
            _ => sys::chmod_path_fd(fd, attrs.mode)?,
        }
    }
    sys::utimens(fd, &apply::timespecs(attrs.atime, attrs.mtime))
}

fn set_xattrs(fd: RawFd, attrs: &Attrs, others: &[Vec<u8>]) -> io::Result<()> {
    let have = xattr_names(fd)?;
    for name in &have {
        let stays = attrs.xattrs.iter().any(|(n, _)| n == name) || others.contains(name);
        if !stays {
            match sys::removexattr(fd, &cstring(name)?) {
                Err(e) if e.raw_os_error() != Some(libc::ENODATA) => return Err(e),
                _ => {}
            }
        }
    }
    for (name, value) in &attrs.xattrs {
        put_xattr(fd, name, value, have.contains(name))?;
    }
    Ok(())
}

pub(super) fn put_xattr(fd: RawFd, name: &[u8], value: &[u8], exists: bool) -> io::Result<()> {
    let name = cstring(name)?;
    if exists {
        let mut now = vec![0u8; MAX_XATTR];
        if sys::getxattr(fd, &name, &mut now).is_ok_and(|n| &now[..n] == value) {
            return Ok(());
        }
    }
    sys::setxattr(fd, &name, value, 0)
}
