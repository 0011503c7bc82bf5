//! An application on a plain directory, with the marks its changes cause.

use super::super::super::lasting;
use super::super::super::sys;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tandem_repl::ids::{Key, Uid};
use tandem_repl::logic::dirty::{DirRef, FileRef, Touch};
use tandem_repl::logic::resync::model::marking::Marking;

pub(super) struct App {
    root: PathBuf,
    pub(super) marking: Marking,
    state: u64,
}

pub(super) fn set_xattr(path: &Path, name: &CStr, value: &[u8]) {
    let path = sys::path_cstring(path).unwrap();
    // SAFETY: strings are C strings, the value is valid for its length.
    let done = unsafe {
        let value_ptr = value.as_ptr().cast();
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value_ptr, value.len(), 0)
    };
    assert_eq!(done, 0, "{path:?}: {}", std::io::Error::last_os_error());
}

/// Sets the flags of immutable and append-only files.
pub(super) fn protect(path: &Path, flags: u32) {
    let file = File::open(path).unwrap();
    let now = sys::get_flags(file.as_raw_fd()).unwrap();
    sys::set_flags(file.as_raw_fd(), (now & !0x30) | flags).unwrap();
}

/// Takes protection from all files of a test that has failed.
pub(super) fn unprotect(top: &Path) {
    let _ = std::process::Command::new("chattr")
        .args(["-R", "-f", "-i", "-a"])
        .arg(top)
        .output();
}

impl App {
    pub(super) fn new(root: &Path, seed: u64) -> Self {
        Self {
            root: root.into(),
            marking: Marking::new(0x2000),
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % limit.max(1)
    }

    fn id(&self, path: &Path) -> Option<(Key, Uid)> {
        let cpath = sys::path_cstring(path).ok()?;
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = sys::openat(libc::AT_FDCWD, &cpath, flags, 0).ok()?;
        let handle = sys::handle_at(fd.as_raw_fd(), c"").ok()?;
        if path == self.root {
            return Some((handle.key(), Uid::ROOT));
        }
        let uid = lasting::read(fd.as_raw_fd(), &handle).ok()?;
        Some((handle.key(), uid.unwrap_or_default()))
    }

    fn entry(&mut self, path: &Path) {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        if let Some((key, uid)) = self.id(dir) {
            let dir = DirRef { key, uid };
            self.marking.cover(Touch::Entry {
                dir,
                name: name.as_bytes(),
            });
        }
    }

    /// Before attributes, or a range, change.
    pub(super) fn touch(&mut self, path: &Path, range: Option<(u64, u64)>) {
        let Some((key, uid)) = self.id(path) else {
            return;
        };
        let place = path
            .parent()
            .and_then(|dir| self.id(dir))
            .zip(path.file_name());
        let place = place.filter(|_| path != self.root);
        let file = FileRef {
            key,
            uid,
            place: place.map(|((dir, _), name)| (dir, name.as_bytes())),
        };
        self.marking.cover(match range {
            Some((offset, len)) => Touch::Data {
                file,
                offset,
                len,
                size: 0,
            },
            None => Touch::Meta { file },
        });
    }

    /// A file was made: it gets its identity.
    pub(super) fn made(&mut self, path: &Path) {
        self.entry(path);
        let cpath = sys::path_cstring(path).unwrap();
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = sys::openat(libc::AT_FDCWD, &cpath, flags, 0).unwrap();
        let handle = sys::handle_at(fd.as_raw_fd(), c"").unwrap();
        let uid = self.marking.birth();
        lasting::write(fd.as_raw_fd(), &handle, uid).unwrap();
    }

    pub(super) fn mkdir(&mut self, path: &Path) {
        if std::fs::create_dir(path).is_ok() {
            self.made(path);
        }
    }

    pub(super) fn file(&mut self, path: &Path, data: &[u8]) {
        let made = File::options().write(true).create_new(true).open(path);
        if made.is_ok() {
            self.made(path);
            self.write(path, 0, data);
        }
    }

    pub(super) fn write(&mut self, path: &Path, offset: u64, data: &[u8]) {
        let is_file = std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
        if is_file {
            self.touch(path, Some((offset, data.len() as u64)));
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(data, offset).unwrap();
        }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.entry(path);
        let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
    }

    fn remove_all(&mut self, path: &Path) {
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
            for entry in std::fs::read_dir(path).unwrap() {
                self.remove_all(&entry.unwrap().path());
            }
        }
        self.remove(path);
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.entry(from);
        self.entry(to);
        let _ = std::fs::rename(from, to);
    }

    fn places(&self) -> Vec<PathBuf> {
        let mut todo = vec![self.root.clone()];
        let mut found = Vec::new();
        while let Some(dir) = todo.pop() {
            let mut names: Vec<_> = std::fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            names.sort();
            for path in names {
                if std::fs::symlink_metadata(&path).unwrap().is_dir() {
                    todo.push(path.clone());
                }
                found.push(path);
            }
        }
        found
    }

    fn some(&mut self) -> Option<PathBuf> {
        let mut places = self.places();
        if places.is_empty() {
            return None;
        }
        let n = self.below(places.len());
        Some(places.swap_remove(n))
    }

    fn some_dir(&mut self) -> PathBuf {
        let place = self.some().filter(|p| p.is_dir() && !p.is_symlink());
        place.unwrap_or_else(|| self.root.clone())
    }

    pub(super) fn changes(&mut self, count: usize) {
        for _ in 0..count {
            self.change();
        }
    }

    fn change(&mut self) {
        let name = match self.below(14) {
            0 => vec![0xfe, b'\n', b' '],
            n => format!("n{n}").into_bytes(),
        };
        let new = self.some_dir().join(OsStr::from_bytes(&name));
        let Some(place) = self.some() else {
            return self.mkdir(&new);
        };
        match self.below(18) {
            0..=3 => {
                let len = [0, 10, 5000, 70_000, 300_000][self.below(5)];
                let byte = self.below(256) as u8;
                let data: Vec<u8> = (0..len).map(|n| byte ^ (n / 7) as u8).collect();
                self.file(&new, &data);
            }
            4 | 5 => self.mkdir(&new),
            6 => {
                if std::os::unix::fs::symlink("to/there", &new).is_ok() {
                    self.made(&new);
                }
            }
            7 => {
                let path = sys::path_cstring(&new).unwrap();
                let (dir, mode) = (libc::AT_FDCWD, libc::S_IFIFO | 0o640);
                if sys::mknodat(dir, &path, mode, 0).is_ok() {
                    self.made(&new);
                }
            }
            8 => {
                if !place.is_dir() || place.is_symlink() {
                    self.touch(&place, None);
                    self.entry(&new);
                    let _ = std::fs::hard_link(&place, &new);
                }
            }
            9 => self.remove(&place),
            10 => self.remove_all(&place),
            11..=13 => self.rename(&place, &new),
            14 | 15 => {
                let offset = self.below(400_000) as u64;
                let len = [1, 100, 9000, 50_000][self.below(4)];
                let byte = self.below(256) as u8;
                self.write(&place, offset, &vec![byte; len]);
            }
            16 => {
                let size = self.below(200_000) as u64;
                if place.is_file() && !place.is_symlink() {
                    let before = std::fs::metadata(&place).unwrap().len();
                    self.touch(&place, Some((size.min(before), u64::MAX)));
                    let file = File::options().write(true).open(&place).unwrap();
                    file.set_len(size).unwrap();
                }
            }
            _ => {
                if !place.is_symlink() {
                    self.touch(&place, None);
                    let mode = 0o700 | self.below(0o100) as u32;
                    std::fs::set_permissions(&place, PermissionsExt::from_mode(mode)).unwrap();
                    let owner = self.below(3) as u32 * 1000;
                    std::os::unix::fs::chown(&place, Some(owner), None).unwrap();
                    if place.is_file() || place.is_dir() {
                        let value = self.below(9999).to_string();
                        set_xattr(&place, c"user.value", value.as_bytes());
                    }
                }
            }
        }
    }
}
