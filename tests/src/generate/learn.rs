//! What the generator learns from an answer: which names and descriptors exist now.

use super::{Generator, Step};
use crate::ops::{Bytes, Op, Outcome};
use crate::sys::Errno;

/// More names would spread the operations too thin.
const POOL: usize = 40;

impl Generator {
    /// Takes note of the answer the plain directory gave.
    pub fn learn(&mut self, step: &Step, outcome: &Outcome) {
        match outcome {
            Ok(_) => self.learn_success(&step.op),
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => {
                if let Some(path) = existing(&step.op).cloned() {
                    self.forget(&path);
                }
            }
            Err(_) => {}
        }
    }

    fn learn_success(&mut self, op: &Op) {
        match op {
            Op::Open {
                slot, path, flags, ..
            } => {
                let access = flags & libc::O_ACCMODE;
                self.open.insert(*slot, access != libc::O_RDONLY);
                if flags & libc::O_CREAT != 0 {
                    self.remember(path);
                }
            }
            Op::Close { slot } => drop(self.open.remove(slot)),
            Op::Mkdir { path, .. } => {
                self.remember(path);
                self.dirs.push(path.clone());
            }
            Op::Mknod { path, .. } | Op::Symlink { path, .. } | Op::LinkOpen { path, .. } => {
                self.remember(path);
            }
            Op::Link { to, .. } => self.remember(to),
            Op::Unlink { path } | Op::Rmdir { path } => self.forget(path),
            Op::Rename { from, to, flags } if flags & libc::RENAME_EXCHANGE == 0 => {
                self.forget(to);
                for name in self.pool.iter_mut().chain(&mut self.dirs) {
                    if let Some(rest) = name.0.strip_prefix(from.0.as_slice())
                        && (rest.is_empty() || rest[0] == b'/')
                    {
                        *name = Bytes([to.0.as_slice(), rest].concat());
                    }
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, path: &Bytes) {
        self.pool.retain(|name| name != path);
        self.dirs.retain(|name| name != path);
    }

    fn remember(&mut self, path: &Bytes) {
        if self.pool.contains(path) {
            return;
        }
        if self.pool.len() >= POOL {
            let index = self.rng.index(self.pool.len());
            let gone = self.pool[index].clone();
            self.forget(&gone);
        }
        self.pool.push(path.clone());
    }
}

/// The name that had to exist.
fn existing(op: &Op) -> Option<&Bytes> {
    match op {
        Op::Open { path, flags, .. } if flags & libc::O_CREAT == 0 => Some(path),
        Op::Truncate { path, .. }
        | Op::Stat { path }
        | Op::Rmdir { path }
        | Op::Unlink { path }
        | Op::Readlink { path }
        | Op::Chmod { path, .. }
        | Op::Chown {
            path,
            follow: false,
            ..
        }
        | Op::Utimens { path, .. }
        | Op::SetXattr { path, .. }
        | Op::GetXattr { path, .. }
        | Op::ListXattr { path }
        | Op::Access { path, .. }
        | Op::Readdir { path } => Some(path),
        _ => None,
    }
}
