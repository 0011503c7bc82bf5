//! The serving node's tree as a resync reads it.

use super::super::lasting::Found;
use super::super::service::{Service, Volume};
use super::super::sys;
use super::ground::{Entry as Ground1, Ground, entry_of, names};
use super::{attributes, content};
use crate::error::errno_of;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tandem_repl::ids::{DirId, Key, Uid};
use tandem_repl::logic::resync::messages::{Attrs, BLOCK, Hash};
use tandem_repl::logic::resync::{Entry, Listing, Loaded, MAX_LISTED, PRIVATE, Piece, SourceTree};

pub(crate) struct Source {
    ground: Ground,
    /// Gives identities to files without.
    found: Arc<Found>,
}

impl Source {
    pub(crate) fn new(service: &Arc<Service>) -> Self {
        Self {
            ground: Ground::new(&service.volumes),
            found: service.found.clone(),
        }
    }

    #[cfg(test)]
    pub(super) fn of(volumes: &[Arc<Volume>]) -> Self {
        Self {
            ground: Ground::new(volumes),
            found: Arc::default(),
        }
    }

    fn volume(&self, dir: DirId) -> Result<&Arc<Volume>, i32> {
        self.ground.volume(dir)
    }

    /// With an identity, which the file gets if it has none.
    fn named(&self, dir: DirId, entry: Ground1) -> Result<Entry, i32> {
        let key = entry.handle.key();
        let root = self.volume(dir)?.nodes.root_key();
        let uid = match entry.uid {
            _ if key == root => Uid::ROOT,
            Some(uid) => uid,
            None => {
                let given = self.found.ensure(entry.fd.as_raw_fd(), &entry.handle);
                given.map_err(|e| errno_of(&e))?
            }
        };
        Ok(Entry {
            key,
            uid,
            kind: entry.kind,
            links: entry.links,
        })
    }
}

impl SourceTree for Source {
    fn root(&self, dir: DirId) -> Key {
        let volume = self.volume(dir).ok();
        let root = volume.map(|v| v.nodes.root_key());
        root.or_else(|| Key::new(&[]))
            .expect("an empty key is a key")
    }

    fn dirs(&self) -> u16 {
        u16::try_from(self.ground.volumes.len()).unwrap_or(u16::MAX)
    }

    fn entry(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<Entry>, i32> {
        let found = self.ground.look(dir, parent, name)?;
        found.map(|entry| self.named(dir, entry)).transpose()
    }

    fn file(&self, dir: DirId, key: Key) -> Result<Entry, i32> {
        let fd = self.ground.open(dir, key)?;
        let fd = fd.try_clone().map_err(|e| errno_of(&e))?;
        let entry = entry_of(fd).map_err(|e| errno_of(&e))?;
        if entry.links == 0 {
            return Err(libc::ESTALE);
        }
        self.named(dir, entry)
    }

    fn list(&self, dir: DirId, parent: Key, cookie: u64) -> Result<Listing, i32> {
        let fd = self.ground.open(dir, parent)?;
        let (names, next) = names(&fd, cookie, MAX_LISTED).map_err(|e| errno_of(&e))?;
        let root = parent == self.volume(dir)?.nodes.root_key();
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            if root && *name == *PRIVATE {
                continue;
            }
            // Gone since it was listed: then it is marked.
            if let Some(entry) = self.entry(dir, parent, &name)? {
                list.push((name, entry));
            }
        }
        Ok((list, next))
    }

    fn above(&self, dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        self.ground.above(dir, key)
    }

    fn attrs(&self, dir: DirId, key: Key) -> Result<Attrs, i32> {
        let fd = self.ground.open(dir, key)?;
        attributes::read(fd.as_raw_fd()).map_err(|e| errno_of(&e))
    }

    fn read(&self, dir: DirId, key: Key, offset: u64, buf: &mut [u8]) -> Result<Piece, i32> {
        let fd = self.ground.open(dir, key)?;
        let fd = fd.as_raw_fd();
        let mut work = || -> io::Result<Piece> {
            let size = sys::fstat(fd)?.st_size.cast_unsigned();
            if offset >= size || buf.is_empty() {
                return Ok(Piece::End);
            }
            match content::next_data(fd, offset)? {
                None => Ok(Piece::Hole(size - offset)),
                Some(at) if at > offset => Ok(Piece::Hole(at.min(size) - offset)),
                Some(_) => {
                    let hole = sys::lseek(fd, offset.cast_signed(), libc::SEEK_HOLE)?;
                    let len = hole.cast_unsigned().saturating_sub(offset).max(1);
                    let len = buf.len().min(usize::try_from(len).unwrap_or(usize::MAX));
                    match content::read_full(fd, &mut buf[..len], offset)? {
                        0 => Ok(Piece::End),
                        n => Ok(Piece::Data(n)),
                    }
                }
            }
        };
        work().map_err(|e| errno_of(&e))
    }

    fn load(&self, dir: DirId, key: Key, limit: usize) -> Result<Loaded, i32> {
        let fd = self.ground.open(dir, key)?;
        let raw = fd.as_raw_fd();
        let work = || -> io::Result<Loaded> {
            let stat = sys::fstat(raw)?;
            let size = stat.st_size.cast_unsigned();
            let file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
            let whole = stat.st_blocks.cast_unsigned() * 512 >= size;
            let mut data = None;
            if file && whole && size > 0 && size <= limit as u64 {
                let mut buf = vec![0; size as usize];
                let n = content::read_full(raw, &mut buf, 0)?;
                buf.truncate(n);
                data = Some(buf);
            }
            let attrs = attributes::read(raw)?;
            // Changed meanwhile: it is marked, and read again in another pass.
            let data = data.filter(|d| d.len() as u64 == attrs.size);
            Ok(Loaded { attrs, data })
        };
        work().map_err(|e| errno_of(&e))
    }

    fn hashes(
        &self,
        dir: DirId,
        key: Key,
        offset: u64,
        count: usize,
    ) -> Result<(Vec<Hash>, u64), i32> {
        let fd = self.ground.open(dir, key)?;
        let work = || -> io::Result<(Vec<Hash>, u64)> {
            let stat = sys::fstat(fd.as_raw_fd())?;
            let size = match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => stat.st_size.cast_unsigned(),
                _ => 0,
            };
            let blocks = size.div_ceil(BLOCK).saturating_sub(offset / BLOCK);
            let count = count.min(usize::try_from(blocks).unwrap_or(usize::MAX));
            Ok((content::hashes(fd.as_raw_fd(), offset, count, size)?, size))
        };
        work().map_err(|e| errno_of(&e))
    }
}
