//! Operations on names, and what of their answers two executions must have in common.

use super::{Op, Outcome, Value, done};
use crate::sys;
use crate::tree::{EXPLICIT_BEFORE, show};

/// The operations that need no descriptor; nothing for the others.
pub(super) fn on_name(op: &Op) -> Option<Outcome> {
    Some(match op {
        Op::Stat { path } => sys::lstat(path).map(|stat| describe(&stat)),
        Op::Truncate { path, len } => sys::truncate(path, *len).and_then(done),
        Op::Mkdir { path, mode } => sys::mkdir(path, *mode).and_then(done),
        Op::Rmdir { path } => sys::rmdir(path).and_then(done),
        Op::Mknod { path, mode, device } => sys::mknod(path, *mode, *device).and_then(done),
        Op::Symlink { target, path } => sys::symlink(target, path).and_then(done),
        Op::Readlink { path } => sys::readlink(path).map(Value::Bytes),
        Op::Link {
            from,
            to,
            follow: true,
        } => sys::link_follow(from, to).and_then(done),
        Op::Link {
            from,
            to,
            follow: false,
        } => sys::link(from, to).and_then(done),
        Op::Unlink { path } => sys::unlink(path).and_then(done),
        Op::Rename { from, to, flags } => sys::rename_with(from, to, *flags).and_then(done),
        Op::Chmod { path, mode } => sys::chmod(path, *mode).and_then(done),
        Op::Chown {
            path,
            uid,
            gid,
            follow: true,
        } => sys::chown(path, *uid, *gid).and_then(done),
        Op::Chown {
            path,
            uid,
            gid,
            follow: false,
        } => sys::lchown(path, *uid, *gid).and_then(done),
        Op::Utimens {
            path,
            seconds,
            nanoseconds,
        } => {
            let time = sys::time(*seconds, *nanoseconds);
            // A page stored before, through a mapping, changes the time when it is written back,
            // which a mount does later than a local file system; see docs/semantics.md.
            if let Ok(here) = sys::open(".", libc::O_RDONLY | libc::O_DIRECTORY, 0) {
                let _ = sys::syncfs(&here);
            }
            sys::utimens(path, [time, time]).and_then(done)
        }
        Op::SetXattr {
            path,
            key,
            value,
            flags,
        } => sys::setxattr(path, key, &value.0, *flags).and_then(done),
        Op::GetXattr { path, key } => sys::getxattr(path, key).map(Value::Bytes),
        Op::RemoveXattr { path, key } => sys::removexattr(path, key).and_then(done),
        Op::ListXattr { path } => sys::listxattr(path).map(|names| Value::Bytes(names.join(&0))),
        Op::Access { path, mode } => sys::access(path, *mode).and_then(done),
        Op::Readdir { path } => sys::Dir::open(path)
            .and_then(|mut dir| dir.rest())
            .map(list),
        // Sizes belong to the disk; the limit on names is a promise.
        Op::Statfs { path } => sys::statfs(path).map(|stat| Value::Number(stat.f_namelen as u64)),
        _ => return None,
    })
}

fn list(mut entries: Vec<sys::DirEntry>) -> Value {
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let lines = entries
        .iter()
        .map(|entry| format!("{} {}", entry.kind, show(&entry.name)));
    Value::Text(lines.collect::<Vec<_>>().join("\n"))
}

/// What two executions of the same operations must have in common.
pub(super) fn describe(stat: &libc::stat64) -> Value {
    let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let size = if is_dir { 0 } else { stat.st_size };
    let (mode, uid, gid, links) = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink);
    let mut text = format!(
        "{mode:o} {uid}:{gid} links {links} size {size} dev {:x}",
        stat.st_rdev
    );
    // The kernel keeps the times of a fifo in use to itself on some file systems.
    let is_fifo = stat.st_mode & libc::S_IFMT == libc::S_IFIFO;
    if stat.st_mtime < EXPLICIT_BEFORE && !is_fifo {
        text += &format!(" mtime {}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
    }
    Value::Text(text)
}
