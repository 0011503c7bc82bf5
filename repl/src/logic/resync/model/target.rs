//! The model as a target.

use super::super::messages::{Attrs, Hash, Kind, Open, PeerMark};
use super::super::target::{Begun, Listing, TargetTree, There};
use super::source::hashes;
use super::{Inner, Inode, Model, errno};
use crate::ids::{DirId, Key, Uid};

/// Entries in one piece of a listing.
const LISTED: usize = 7;
/// `ENOSPC`.
const ENOSPC: i32 = 28;

fn there(inner: &Inner, key: Key) -> Result<There, i32> {
    let inode = inner.get(key)?;
    Ok(There {
        key,
        uid: inode.uid,
        kind: inode.kind.clone(),
        links: inode.links,
    })
}

impl Inner {
    fn take_room(&mut self, bytes: u64) -> Result<(), i32> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes).ok_or(ENOSPC)?;
        }
        Ok(())
    }

    /// Removes what is parked, with all below it.
    fn drop_parked(&mut self) {
        let Some(parking) = self.parking.take() else {
            return;
        };
        let mut todo = vec![parking];
        while let Some(dir) = todo.pop() {
            let Some(inode) = self.inodes.remove(&dir) else {
                continue;
            };
            for key in inode.entries.into_values() {
                self.swept += 1;
                let Some(inode) = self.inodes.get_mut(&key) else {
                    continue;
                };
                if inode.kind == Kind::Directory {
                    todo.push(key);
                    continue;
                }
                inode.links -= 1;
                if inode.links == 0 {
                    self.inodes.remove(&key);
                }
            }
        }
    }
}

impl TargetTree for Model {
    fn begin(&self, open: &Open) -> Result<Begun, i32> {
        let baseline = open.baseline;
        let mut inner = self.inner();
        let boot = inner.boot;
        let resumed = inner.unfinished.is_some();
        let (suspect, walked) = match inner.unfinished {
            Some((since, last, walked)) if since == baseline => (walked || last != boot, walked),
            _ => {
                inner.drop_parked();
                (false, false)
            }
        };
        let boot_kept = if suspect && !walked {
            // Not sound again before the end of this resync.
            inner.unfinished.map_or(boot, |(_, last, _)| last)
        } else {
            boot
        };
        inner.unfinished = Some((baseline, boot_kept, walked));
        Ok(Begun {
            boot,
            suspect,
            resumed,
            checkpoints: 0,
        })
    }

    fn walking(&self) -> Result<(), i32> {
        if let Some(unfinished) = &mut self.inner().unfinished {
            unfinished.2 = true;
        }
        Ok(())
    }

    fn marks(&self, _from: u64) -> (bool, Vec<PeerMark>, Option<u64>) {
        (false, Vec::new(), None)
    }

    fn root(&self, _dir: DirId) -> Key {
        self.root_key()
    }

    fn parking(&self, _dir: DirId, make: bool) -> Result<Option<Key>, i32> {
        let mut inner = self.inner();
        if make && inner.parking.is_none() {
            let key = super::key(inner.next);
            inner.next += 1;
            inner.inodes.insert(key, Inode::new(Kind::Directory));
            inner.parking = Some(key);
        }
        Ok(inner.parking)
    }

    fn look(&self, _dir: DirId, parent: Key, name: &[u8]) -> Result<Option<There>, i32> {
        let inner = self.inner();
        match inner.child(parent, name)? {
            Some(key) => there(&inner, key).map(Some),
            None => Ok(None),
        }
    }

    fn list(&self, _dir: DirId, parent: Key, cookie: u64) -> Result<Listing, i32> {
        let inner = self.inner();
        let entries = &inner.get(parent)?.entries;
        let mut all: Vec<_> = entries.iter().collect();
        // Not in the order of the source: by the numbers of the inodes here.
        all.sort_by_key(|(name, key)| (key.bytes().to_vec(), (*name).clone()));
        let number = |key: &Key| key.bytes().try_into().map_or(0, u64::from_le_bytes);
        all.sort_by_key(|(_, key)| number(key));
        let mut list = Vec::new();
        let mut last = 0;
        for (name, key) in all {
            if number(key) <= cookie && cookie != 0 {
                continue;
            }
            if list.len() >= LISTED && number(key) != last {
                return Ok((list, Some(last)));
            }
            last = number(key);
            list.push((name.clone(), there(&inner, *key)?));
        }
        Ok((list, None))
    }

    fn above(&self, _dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        self.inner().get(key)?.above.clone().ok_or(errno::ESTALE)
    }

    fn make(&self, _dir: DirId, parent: Key, name: &[u8], kind: &Kind) -> Result<Key, i32> {
        self.inner().add(parent, name, Inode::new(kind.clone()))
    }

    fn link(&self, _dir: DirId, key: Key, parent: Key, name: &[u8]) -> Result<(), i32> {
        self.hard_link(key, parent, name, (0, 0))
    }

    fn rename(&self, _dir: DirId, from: (Key, &[u8]), to: (Key, &[u8])) -> Result<(), i32> {
        self.inner().shift(from, to)
    }

    fn unlink(&self, _dir: DirId, parent: Key, name: &[u8]) -> Result<(), i32> {
        Inner::remove(&mut self.inner(), parent, name)
    }

    fn set_uid(&self, _dir: DirId, key: Key, uid: Uid) -> Result<(), i32> {
        self.inner().get_mut(key)?.uid = Some(uid);
        Ok(())
    }

    fn note_parked(&self, _dir: DirId, _from: (Key, &[u8]), _parked: &[u8]) -> Result<(), i32> {
        Ok(())
    }

    fn keep(&self, _dir: DirId, _key: Key, _attrs: Option<&Attrs>) -> Result<(), i32> {
        Ok(())
    }

    fn write(&self, _dir: DirId, key: Key, offset: u64, data: &[u8]) -> Result<(), i32> {
        let mut inner = self.inner();
        inner.take_room(data.len() as u64)?;
        inner.written += data.len() as u64;
        inner.get_mut(key)?.write(offset, data);
        Ok(())
    }

    fn zero(&self, _dir: DirId, key: Key, offset: u64, len: u64) -> Result<(), i32> {
        self.inner().get_mut(key)?.zero(offset, len);
        Ok(())
    }

    fn set_attrs(
        &self,
        _dir: DirId,
        key: Key,
        attrs: &Attrs,
        others: &[Vec<u8>],
        uid: Option<Uid>,
    ) -> Result<(), i32> {
        let mut inner = self.inner();
        let inode = inner.get_mut(key)?;
        if inode.kind == Kind::File {
            inode.truncate(attrs.size);
        }
        let mut xattrs = std::mem::take(&mut inode.attrs.xattrs);
        xattrs.retain(|(name, _)| others.contains(name));
        inode.attrs = attrs.clone();
        inode.attrs.size = 0;
        inode.attrs.xattrs.extend(xattrs);
        inode.attrs.xattrs.sort();
        if uid.is_some() {
            inode.uid = uid;
        }
        Ok(())
    }

    fn set_xattrs(&self, _dir: DirId, key: Key, set: &[(Vec<u8>, Vec<u8>)]) -> Result<(), i32> {
        for (name, value) in set {
            self.set_xattr(key, name, value)?;
        }
        Ok(())
    }

    fn hashes(
        &self,
        _dir: DirId,
        key: Key,
        offset: u64,
        count: usize,
        size: u64,
    ) -> Result<Vec<Hash>, i32> {
        Ok(hashes(self.inner().get(key)?, offset, count, size))
    }

    fn sweep(&self) -> Result<(), i32> {
        let mut inner = self.inner();
        inner.drop_parked();
        inner.unfinished = None;
        Ok(())
    }

    fn flush(&self) -> Result<(), i32> {
        Ok(())
    }
}
