//! Changes as an application makes them. Times are given, because nothing here has a clock.

use super::super::messages::{Kind, Time};
use super::{Inode, Model, errno};
use crate::ids::{Key, Uid};

impl Model {
    /// Makes a file, with an identity if it is given one.
    ///
    /// # Errors
    /// As the system calls.
    pub fn make(
        &self,
        (parent, name): (Key, &[u8]),
        kind: Kind,
        uid: Option<Uid>,
        now: Time,
    ) -> Result<Key, i32> {
        let mut inner = self.inner();
        let mut inode = Inode::new(kind);
        inode.uid = uid;
        inode.attrs.mode = 0o644;
        (inode.attrs.atime, inode.attrs.mtime) = (now, now);
        let key = inner.add(parent, name, inode)?;
        inner.dir(parent)?.attrs.mtime = now;
        Ok(key)
    }

    /// # Errors
    /// As the system calls.
    pub fn hard_link(&self, key: Key, parent: Key, name: &[u8], now: Time) -> Result<(), i32> {
        let mut inner = self.inner();
        if inner.get(key)?.kind == Kind::Directory {
            return Err(errno::EPERM);
        }
        let dir = inner.dir(parent)?;
        if dir.entries.contains_key(name) {
            return Err(errno::EEXIST);
        }
        dir.entries.insert(name.into(), key);
        dir.attrs.mtime = now;
        inner.get_mut(key)?.links += 1;
        Ok(())
    }

    /// Removes a name, of a directory only if it is empty.
    ///
    /// # Errors
    /// As the system calls.
    pub fn remove(&self, parent: Key, name: &[u8], now: Time) -> Result<(), i32> {
        let mut inner = self.inner();
        let key = inner.child(parent, name)?.ok_or(errno::ENOENT)?;
        if !inner.get(key)?.entries.is_empty() {
            return Err(errno::ENOTEMPTY);
        }
        inner.remove(parent, name)?;
        inner.dir(parent)?.attrs.mtime = now;
        Ok(())
    }

    /// Renames, replacing what is at the new name, or exchanging both.
    ///
    /// # Errors
    /// As the system calls.
    pub fn rename(
        &self,
        from: (Key, &[u8]),
        to: (Key, &[u8]),
        exchange: bool,
        now: Time,
    ) -> Result<(), i32> {
        let mut inner = self.inner();
        let key = inner.child(from.0, from.1)?.ok_or(errno::ENOENT)?;
        let there = inner.child(to.0, to.1)?;
        if there == Some(key) {
            return Ok(());
        }
        if inner.is_below(to.0, key) {
            return Err(errno::EINVAL);
        }
        if exchange {
            let there = there.ok_or(errno::ENOENT)?;
            if inner.is_below(from.0, there) {
                return Err(errno::EINVAL);
            }
            for (key, place) in [(key, to), (there, from)] {
                inner.dir(place.0)?.entries.insert(place.1.into(), key);
                let inode = inner.get_mut(key)?;
                if inode.kind == Kind::Directory {
                    inode.above = Some((place.0, place.1.into()));
                }
            }
        } else {
            if let Some(there) = there {
                let is_dir = |k: Key| inner.get(k).map(|i| i.kind == Kind::Directory);
                match (is_dir(key)?, is_dir(there)?) {
                    (true, false) => return Err(errno::ENOTDIR),
                    (false, true) => return Err(errno::EISDIR),
                    _ => {}
                }
                if !inner.get(there)?.entries.is_empty() {
                    return Err(errno::ENOTEMPTY);
                }
                inner.remove(to.0, to.1)?;
            }
            inner.shift(from, to)?;
        }
        inner.dir(from.0)?.attrs.mtime = now;
        inner.dir(to.0)?.attrs.mtime = now;
        Ok(())
    }

    /// # Errors
    /// As the system calls.
    pub fn write_at(&self, key: Key, offset: u64, data: &[u8], now: Time) -> Result<(), i32> {
        let mut inner = self.inner();
        let inode = inner.get_mut(key)?;
        if inode.kind != Kind::File {
            return Err(errno::EINVAL);
        }
        inode.write(offset, data);
        inode.attrs.mtime = now;
        Ok(())
    }

    /// # Errors
    /// As the system calls.
    pub fn punch(&self, key: Key, offset: u64, len: u64, now: Time) -> Result<(), i32> {
        let mut inner = self.inner();
        let inode = inner.get_mut(key)?;
        let size = inode.size;
        inode.zero(offset.min(size), len.min(size.saturating_sub(offset)));
        inode.attrs.mtime = now;
        Ok(())
    }

    /// # Errors
    /// As the system calls.
    pub fn set_size(&self, key: Key, size: u64, now: Time) -> Result<(), i32> {
        let mut inner = self.inner();
        let inode = inner.get_mut(key)?;
        if inode.kind != Kind::File {
            return Err(errno::EINVAL);
        }
        inode.truncate(size);
        inode.attrs.mtime = now;
        Ok(())
    }

    /// # Errors
    /// As the system calls.
    pub fn set_mode(&self, key: Key, mode: u32) -> Result<(), i32> {
        self.inner().get_mut(key)?.attrs.mode = mode & 0o7777;
        Ok(())
    }

    /// # Errors
    /// As the system calls.
    pub fn set_xattr(&self, key: Key, name: &[u8], value: &[u8]) -> Result<(), i32> {
        let mut inner = self.inner();
        let xattrs = &mut inner.get_mut(key)?.attrs.xattrs;
        xattrs.retain(|(n, _)| n != name);
        xattrs.push((name.to_vec(), value.to_vec()));
        xattrs.sort();
        Ok(())
    }

    /// Identity, size, kind and number of names of a file.
    ///
    /// # Errors
    /// As the system calls.
    pub fn stat(&self, key: Key) -> Result<(Option<Uid>, u64, Kind, u64), i32> {
        let inner = self.inner();
        let inode = inner.get(key)?;
        Ok((inode.uid, inode.size, inode.kind.clone(), inode.links))
    }

    /// What stands at a name.
    ///
    /// # Errors
    /// As the system calls.
    pub fn key_at(&self, parent: Key, name: &[u8]) -> Result<Option<Key>, i32> {
        self.inner().child(parent, name)
    }

    /// All places of the tree: directory, name and file, in no order that means anything but
    /// always the same.
    pub fn places(&self) -> Vec<(Key, Box<[u8]>, Key)> {
        let inner = self.inner();
        let mut todo = vec![inner.root];
        let mut places = Vec::new();
        while let Some(dir) = todo.pop() {
            let Some(inode) = inner.inodes.get(&dir) else {
                continue;
            };
            for (name, key) in &inode.entries {
                places.push((dir, name.clone(), *key));
                if inner
                    .inodes
                    .get(key)
                    .is_some_and(|i| i.kind == Kind::Directory)
                {
                    todo.push(*key);
                }
            }
        }
        places
    }

    /// Takes a file's identity away, as after a copy by other means.
    ///
    /// # Errors
    /// As the system calls.
    pub fn lose_uid(&self, key: Key) -> Result<(), i32> {
        self.inner().get_mut(key)?.uid = None;
        Ok(())
    }
}
