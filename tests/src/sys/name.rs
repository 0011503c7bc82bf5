//! Calls on a name. `l` and "no follow" variants are the default where both exist: a test says so
//! when it wants the link followed.

use super::{Sys, c, call, raw};

const HERE: i32 = libc::AT_FDCWD;

/// `lstat(2)`.
pub fn lstat(name: impl AsRef<[u8]>) -> Sys<libc::stat64> {
    stat_at(name, libc::AT_SYMLINK_NOFOLLOW)
}

/// `stat(2)`: the link is followed.
pub fn stat(name: impl AsRef<[u8]>) -> Sys<libc::stat64> {
    stat_at(name, 0)
}

fn stat_at(name: impl AsRef<[u8]>, flags: i32) -> Sys<libc::stat64> {
    let name = c(name);
    // SAFETY: all-zero bytes are a valid `stat64`: it has only integers.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    call!(fstatat64(HERE, name.as_ptr(), &mut stat, flags))?;
    Ok(stat)
}

pub fn statfs(name: impl AsRef<[u8]>) -> Sys<libc::statfs64> {
    let name = c(name);
    // SAFETY: all-zero bytes are a valid `statfs64`: it has only integers.
    let mut stat: libc::statfs64 = unsafe { std::mem::zeroed() };
    call!(statfs64(name.as_ptr(), &mut stat))?;
    Ok(stat)
}

pub fn mkdir(name: impl AsRef<[u8]>, mode: u32) -> Sys<()> {
    call!(mkdir(c(name).as_ptr(), mode)).map(drop)
}

pub fn rmdir(name: impl AsRef<[u8]>) -> Sys<()> {
    call!(rmdir(c(name).as_ptr())).map(drop)
}

/// `mknod(2)`; the type is in `mode`.
pub fn mknod(name: impl AsRef<[u8]>, mode: u32, device: u64) -> Sys<()> {
    call!(mknod(c(name).as_ptr(), mode, device)).map(drop)
}

pub fn mkfifo(name: impl AsRef<[u8]>, mode: u32) -> Sys<()> {
    mknod(name, libc::S_IFIFO | mode, 0)
}

pub fn symlink(target: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Sys<()> {
    call!(symlink(c(target).as_ptr(), c(name).as_ptr())).map(drop)
}

pub fn readlink(name: impl AsRef<[u8]>) -> Sys<Vec<u8>> {
    let mut target = vec![0_u8; 4097];
    let len = call!(readlink(
        c(name).as_ptr(),
        target.as_mut_ptr().cast(),
        target.len()
    ))?;
    target.truncate(len as usize);
    Ok(target)
}

/// `link(2)`: a final symbolic link is linked itself.
pub fn link(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Sys<()> {
    call!(linkat(HERE, c(from).as_ptr(), HERE, c(to).as_ptr(), 0)).map(drop)
}

/// `linkat(2)` with `AT_SYMLINK_FOLLOW`.
pub fn link_follow(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Sys<()> {
    let flags = libc::AT_SYMLINK_FOLLOW;
    call!(linkat(HERE, c(from).as_ptr(), HERE, c(to).as_ptr(), flags)).map(drop)
}

pub fn unlink(name: impl AsRef<[u8]>) -> Sys<()> {
    call!(unlink(c(name).as_ptr())).map(drop)
}

pub fn rename(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Sys<()> {
    call!(rename(c(from).as_ptr(), c(to).as_ptr())).map(drop)
}

/// `renameat2(2)` with its flags.
pub fn rename_with(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>, flags: u32) -> Sys<()> {
    let (from, to) = (c(from), c(to));
    raw!(SYS_renameat2(HERE, from.as_ptr(), HERE, to.as_ptr(), flags)).map(drop)
}

pub fn chmod(name: impl AsRef<[u8]>, mode: u32) -> Sys<()> {
    call!(chmod(c(name).as_ptr(), mode)).map(drop)
}

/// `chown(2)`: the link is followed.
pub fn chown(name: impl AsRef<[u8]>, uid: u32, gid: u32) -> Sys<()> {
    call!(chown(c(name).as_ptr(), uid, gid)).map(drop)
}

pub fn lchown(name: impl AsRef<[u8]>, uid: u32, gid: u32) -> Sys<()> {
    call!(lchown(c(name).as_ptr(), uid, gid)).map(drop)
}

pub fn truncate(name: impl AsRef<[u8]>, len: i64) -> Sys<()> {
    call!(truncate(c(name).as_ptr(), len)).map(drop)
}

/// A time given in seconds and nanoseconds (also `UTIME_NOW` and `UTIME_OMIT`).
pub fn time(seconds: i64, nanoseconds: i64) -> libc::timespec {
    libc::timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    }
}

/// `utimensat(2)`; a final symbolic link is changed itself.
pub fn utimens(name: impl AsRef<[u8]>, times: [libc::timespec; 2]) -> Sys<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    call!(utimensat(HERE, c(name).as_ptr(), times.as_ptr(), flags)).map(drop)
}

/// `faccessat2(2)` with the effective ids, as an open would be checked.
pub fn access(name: impl AsRef<[u8]>, mode: i32) -> Sys<()> {
    let name = c(name);
    raw!(SYS_faccessat2(HERE, name.as_ptr(), mode, libc::AT_EACCESS)).map(drop)
}

pub fn chdir(name: impl AsRef<[u8]>) -> Sys<()> {
    call!(chdir(c(name).as_ptr())).map(drop)
}

pub fn setxattr(name: impl AsRef<[u8]>, key: &str, value: &[u8], flags: i32) -> Sys<()> {
    let (name, key) = (c(name), c(key));
    let (pointer, len) = (value.as_ptr().cast(), value.len());
    call!(lsetxattr(name.as_ptr(), key.as_ptr(), pointer, len, flags)).map(drop)
}

pub fn getxattr(name: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Sys<Vec<u8>> {
    let (name, key) = (c(name), c(key));
    let mut value = vec![0_u8; 65536];
    let (pointer, len) = (value.as_mut_ptr().cast(), value.len());
    let len = call!(lgetxattr(name.as_ptr(), key.as_ptr(), pointer, len))?;
    value.truncate(len as usize);
    Ok(value)
}

/// `lgetxattr(2)` with a buffer of the caller's size: 0 asks for the length.
pub fn getxattr_into(name: impl AsRef<[u8]>, key: &str, into: &mut [u8]) -> Sys<usize> {
    let (name, key) = (c(name), c(key));
    let (pointer, len) = (into.as_mut_ptr().cast(), into.len());
    call!(lgetxattr(name.as_ptr(), key.as_ptr(), pointer, len)).map(|len| len as usize)
}

/// The names, sorted: their order is no promise.
pub fn listxattr(name: impl AsRef<[u8]>) -> Sys<Vec<Vec<u8>>> {
    let mut list = vec![0_u8; 65536];
    let len = call!(llistxattr(
        c(name).as_ptr(),
        list.as_mut_ptr().cast(),
        list.len()
    ))?;
    list.truncate(len as usize);
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

pub fn removexattr(name: impl AsRef<[u8]>, key: &str) -> Sys<()> {
    call!(lremovexattr(c(name).as_ptr(), c(key).as_ptr())).map(drop)
}

/// Mounts a file system; used for bare directories only.
pub fn mount(source: &str, target: &str, kind: &str, flags: u64) -> Sys<()> {
    mount_with(source, target, kind, flags, "")
}

/// The same with options for the file system.
pub fn mount_with(source: &str, target: &str, kind: &str, flags: u64, options: &str) -> Sys<()> {
    let (source, target, kind, options) = (c(source), c(target), c(kind), c(options));
    call!(mount(
        source.as_ptr(),
        target.as_ptr(),
        kind.as_ptr(),
        flags,
        options.as_ptr().cast()
    ))
    .map(drop)
}

/// Takes a mount out of this namespace; who has files open in it keeps them.
pub fn detach(target: &str) -> Sys<()> {
    call!(umount2(c(target).as_ptr(), libc::MNT_DETACH)).map(drop)
}
