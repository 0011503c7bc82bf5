//! The model as a source.

use super::super::messages::{Attrs, BLOCK, HOLE, Hash, Kind};
use super::super::{Entry, Listing, Loaded, Piece, SourceTree};
use super::{Inner, Inode, Model, errno};
use crate::ids::{DirId, Key, Uid};

/// Entries in one piece of a listing: few, so that pieces are tested.
const LISTED: usize = 5;

impl Model {
    /// What a file is; it gets an identity if it has none.
    fn entry_of(&self, inner: &mut Inner, key: Key) -> Result<Entry, i32> {
        let root = inner.root;
        inner.found += 1;
        let found = Uid {
            origin: self.origin,
            number: inner.found,
        };
        let inode = inner.get_mut(key)?;
        let uid = if key == root {
            Uid::ROOT
        } else {
            *inode.uid.get_or_insert(found)
        };
        Ok(Entry {
            key,
            uid,
            kind: inode.kind.clone(),
            links: inode.links,
        })
    }
}

impl SourceTree for Model {
    fn root(&self, _dir: DirId) -> Key {
        self.root_key()
    }

    fn dirs(&self) -> u16 {
        1
    }

    fn entry(&self, _dir: DirId, parent: Key, name: &[u8]) -> Result<Option<Entry>, i32> {
        let mut inner = self.inner();
        match inner.child(parent, name)? {
            Some(key) => self.entry_of(&mut inner, key).map(Some),
            None => Ok(None),
        }
    }

    fn file(&self, _dir: DirId, key: Key) -> Result<Entry, i32> {
        self.entry_of(&mut self.inner(), key)
    }

    fn list(&self, _dir: DirId, parent: Key, cookie: u64) -> Result<Listing, i32> {
        let mut inner = self.inner();
        let entries = &inner.get(parent)?.entries;
        // By key, so that a change meanwhile does not shift the others.
        let mut all: Vec<_> = entries.iter().map(|(n, k)| (*k, n.clone())).collect();
        all.sort_by_key(|(key, name)| (number(*key), name.clone()));
        let mut list = Vec::new();
        let mut next = None;
        for (key, name) in all {
            if number(key) <= cookie && cookie != 0 {
                continue;
            }
            let same = list.last().is_some_and(|(_, e): &(_, Entry)| e.key == key);
            if list.len() >= LISTED && !same {
                next = list.last().map(|(_, e): &(_, Entry)| number(e.key));
                break;
            }
            let entry = self.entry_of(&mut inner, key)?;
            list.push((name, entry));
        }
        Ok((list, next))
    }

    fn above(&self, _dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        self.inner().get(key)?.above.clone().ok_or(errno::ESTALE)
    }

    fn attrs(&self, _dir: DirId, key: Key) -> Result<Attrs, i32> {
        Ok(self.inner().get(key)?.attrs())
    }

    fn read(&self, _dir: DirId, key: Key, offset: u64, buf: &mut [u8]) -> Result<Piece, i32> {
        let inner = self.inner();
        let inode = inner.get(key)?;
        if offset >= inode.size || buf.is_empty() {
            return Ok(Piece::End);
        }
        let end = (offset / BLOCK + 1) * BLOCK;
        let len = (end.min(inode.size) - offset) as usize;
        Ok(match inode.blocks.get(&(offset / BLOCK)) {
            None => Piece::Hole(len as u64),
            Some(block) => {
                let len = len.min(buf.len());
                let within = (offset % BLOCK) as usize;
                buf[..len].copy_from_slice(&block[within..within + len]);
                Piece::Data(len)
            }
        })
    }

    fn load(&self, _dir: DirId, key: Key, limit: usize) -> Result<Loaded, i32> {
        let inner = self.inner();
        let inode = inner.get(key)?;
        let full = inode.blocks.len() as u64 == inode.size.div_ceil(BLOCK);
        let small = inode.kind == Kind::File && inode.size <= limit as u64 && inode.size > 0;
        let data = (small && full).then(|| {
            let mut data: Vec<u8> = inode.blocks.values().flatten().copied().collect();
            data.truncate(inode.size as usize);
            data
        });
        Ok(Loaded {
            attrs: inode.attrs(),
            data,
        })
    }

    fn hashes(
        &self,
        _dir: DirId,
        key: Key,
        offset: u64,
        count: usize,
    ) -> Result<(Vec<Hash>, u64), i32> {
        let inner = self.inner();
        let inode = inner.get(key)?;
        let size = inode.size;
        let blocks = (size.div_ceil(BLOCK)).saturating_sub(offset / BLOCK);
        let count = count.min(blocks as usize);
        Ok((hashes(inode, offset, count, size), size))
    }
}

fn number(key: Key) -> u64 {
    key.bytes().try_into().map_or(0, u64::from_le_bytes)
}

/// Hashes of blocks, as if the file had this size.
pub(super) fn hashes(inode: &Inode, offset: u64, count: usize, size: u64) -> Vec<Hash> {
    let hash = |n: u64| {
        let Some(block) = inode.blocks.get(&n) else {
            return HOLE;
        };
        let end = size.saturating_sub(n * BLOCK).min(BLOCK) as usize;
        // FNV-1a with 128 bits: the model has no adversary.
        let seed = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
        let prime = 0x0000_0000_0100_0000_0000_0000_0000_013b_u128;
        let hash = block[..end].iter().fold(seed, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(prime)
        });
        (hash | 1).to_le_bytes()
    };
    (offset / BLOCK..).take(count).map(hash).collect()
}
