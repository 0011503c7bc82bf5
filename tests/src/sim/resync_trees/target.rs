//! The tree of the target.

use super::super::node::Ills;
use super::super::resync::Notes;
use super::super::tree::{EEXIST, EINVAL, EIO, ENOENT, ENOSPC, ESTALE, Ino, PAGE, ROOT, Tree};
use super::{Shared, hashes_of, lock};
use std::sync::{Arc, Mutex, PoisonError};
use tandem_repl::ids::{DirId, Id128, Key, Uid};
use tandem_repl::logic::resync::PRIVATE;
use tandem_repl::logic::resync::messages::{Attrs, Hash, Kind, Open, PeerMark};
use tandem_repl::logic::resync::target::{self, Begun, TargetTree, There};

/// The tree of the target, with what ails it now.
pub struct TargetSide {
    tree: Shared,
    notes: Arc<Mutex<Notes>>,
    boot: Id128,
    now: Mutex<((bool, Vec<PeerMark>), Ills)>,
}

impl TargetSide {
    pub fn new(tree: Shared, notes: Arc<Mutex<Notes>>, boot: Id128) -> Self {
        Self {
            tree,
            notes,
            boot,
            now: Mutex::default(),
        }
    }

    /// Before each request: the node's marks and ills.
    pub fn set(&self, marks: (bool, Vec<PeerMark>), ills: Ills) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (marks, ills);
    }

    fn ills(&self) -> Ills {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn room(&self) -> Result<(), i32> {
        if self.ills().is_full {
            Err(ENOSPC)
        } else {
            Ok(())
        }
    }

    fn there(tree: &Tree, ino: Ino) -> Result<There, i32> {
        let meta = &tree.get(ino)?.meta;
        Ok(There {
            key: Tree::key(ino),
            uid: meta.uid,
            kind: meta.kind.clone(),
            links: meta.links,
        })
    }

    /// A directory of the product's own, made if it is missing.
    fn private(tree: &mut Tree, name: &[u8], make: bool) -> Result<Option<Ino>, i32> {
        let mut at = ROOT;
        for step in [PRIVATE, name] {
            at = match tree.lookup(at, step)? {
                Some(ino) => ino,
                None if make => tree.make(at, step, Kind::Directory, None)?,
                None => return Ok(None),
            };
        }
        Ok(Some(at))
    }
}

impl TargetTree for TargetSide {
    fn begin(&self, open: &Open) -> Result<Begun, i32> {
        let baseline = open.baseline;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = notes.unfinished;
        let walked = before.is_some_and(|(_, _, walked)| walked);
        let suspect = walked || before.is_some_and(|(_, boot, _)| boot != self.boot);
        // Not sound again before the end of this resync.
        let kept = before
            .filter(|_| suspect)
            .map_or(self.boot, |(_, boot, _)| boot);
        notes.unfinished = Some((baseline, kept, walked));
        if before.is_some_and(|(since, ..)| since != baseline) {
            let mut tree = lock(&self.tree);
            notes.swept += 1;
            sweep(&mut tree, notes.swept)?;
        }
        Ok(Begun {
            boot: self.boot,
            suspect,
            resumed: before.is_some(),
            checkpoints: 0,
        })
    }

    fn walking(&self) -> Result<(), i32> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, walked)) = &mut notes.unfinished {
            *walked = true;
        }
        Ok(())
    }

    fn marks(&self, _: u64) -> (bool, Vec<PeerMark>, Option<u64>) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (everything, marks) = now.0.clone();
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not marked may be parked still.
        let walked = notes.unfinished.is_some_and(|(_, _, walked)| walked);
        (everything || walked, marks, None)
    }

    fn root(&self, _: DirId) -> Key {
        Tree::key(ROOT)
    }

    fn parking(&self, _: DirId, make: bool) -> Result<Option<Key>, i32> {
        let found = Self::private(&mut lock(&self.tree), b"parked", make)?;
        Ok(found.map(Tree::key))
    }

    fn look(&self, _: DirId, parent: Key, name: &[u8]) -> Result<Option<There>, i32> {
        let tree = lock(&self.tree);
        let ino = tree.lookup(Tree::ino(parent), name)?;
        ino.map(|ino| Self::there(&tree, ino)).transpose()
    }

    fn list(&self, _: DirId, parent: Key, _: u64) -> Result<target::Listing, i32> {
        let tree = lock(&self.tree);
        let parent = Tree::ino(parent);
        let entries = tree.get(parent)?.meta.entries.iter();
        let shown = entries.filter(|(name, _)| parent != ROOT || ***name != *PRIVATE);
        let list: Result<Vec<_>, i32> = shown
            .map(|(name, ino)| Ok((name.clone(), Self::there(&tree, *ino)?)))
            .collect();
        Ok((list?, None))
    }

    fn above(&self, _: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32> {
        let (parent, name) = lock(&self.tree).above(Tree::ino(key))?;
        Ok((Tree::key(parent), name))
    }

    fn make(&self, _: DirId, parent: Key, name: &[u8], kind: &Kind) -> Result<Key, i32> {
        self.room()?;
        let ino = lock(&self.tree).make(Tree::ino(parent), name, kind.clone(), None)?;
        Ok(Tree::key(ino))
    }

    fn link(&self, _: DirId, key: Key, parent: Key, name: &[u8]) -> Result<(), i32> {
        self.room()?;
        lock(&self.tree).link(Tree::ino(key), Tree::ino(parent), name)
    }

    fn rename(&self, _: DirId, from: (Key, &[u8]), to: (Key, &[u8])) -> Result<(), i32> {
        let mut tree = lock(&self.tree);
        let (from, to) = ((Tree::ino(from.0), from.1), (Tree::ino(to.0), to.1));
        if tree.lookup(to.0, to.1)?.is_some() {
            return Err(EEXIST);
        }
        tree.rename(from, to)
    }

    fn unlink(&self, _: DirId, parent: Key, name: &[u8]) -> Result<(), i32> {
        lock(&self.tree).unlink(Tree::ino(parent), name)
    }

    fn set_uid(&self, _: DirId, key: Key, uid: Uid) -> Result<(), i32> {
        lock(&self.tree).set_uid(Tree::ino(key), uid)
    }

    fn note_parked(&self, _: DirId, _: (Key, &[u8]), _: &[u8]) -> Result<(), i32> {
        Ok(())
    }

    fn keep(&self, _: DirId, _: Key, _: Option<&Attrs>) -> Result<(), i32> {
        Ok(())
    }

    fn write(&self, _: DirId, key: Key, offset: u64, data: &[u8]) -> Result<(), i32> {
        self.room()?;
        let mut tree = lock(&self.tree);
        if !offset.is_multiple_of(PAGE) {
            return Err(EINVAL);
        }
        for (number, piece) in data.chunks(PAGE as usize).enumerate() {
            let value = piece.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            tree.write(Tree::ino(key), offset / PAGE + number as u64, value)?;
        }
        Ok(())
    }

    fn zero(&self, _: DirId, key: Key, offset: u64, len: u64) -> Result<(), i32> {
        let mut tree = lock(&self.tree);
        let ino = Tree::ino(key);
        let pages = tree.get(ino)?.pages.range(offset / PAGE..);
        let end = (offset + len).div_ceil(PAGE);
        let gone: Vec<u64> = pages.map(|(p, _)| *p).filter(|p| *p < end).collect();
        for page in gone {
            tree.write(ino, page, 0)?;
        }
        if tree.get(ino)?.meta.size < offset + len {
            tree.truncate(ino, offset + len)?;
        }
        Ok(())
    }

    fn set_attrs(
        &self,
        _: DirId,
        key: Key,
        attrs: &Attrs,
        _: &[Vec<u8>],
        uid: Option<Uid>,
    ) -> Result<(), i32> {
        let mut tree = lock(&self.tree);
        let ino = Tree::ino(key);
        tree.set_mode(ino, attrs.mode)?;
        let meta = &tree.get(ino)?.meta;
        if meta.kind == Kind::File && meta.size != attrs.size {
            tree.truncate(ino, attrs.size)?;
        }
        match uid {
            Some(uid) => tree.set_uid(ino, uid),
            None => Ok(()),
        }
    }

    fn set_xattrs(&self, _: DirId, _: Key, _: &[(Vec<u8>, Vec<u8>)]) -> Result<(), i32> {
        Ok(())
    }

    fn hashes(
        &self,
        _: DirId,
        key: Key,
        offset: u64,
        count: usize,
        _size: u64,
    ) -> Result<Vec<Hash>, i32> {
        let mut tree = lock(&self.tree);
        let ino = Tree::ino(key);
        let first = offset / PAGE;
        tree.reread(ino, first..first + count as u64);
        hashes_of(&tree, ino, offset, count)
    }

    fn sweep(&self) -> Result<(), i32> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.swept += 1;
        sweep(&mut lock(&self.tree), notes.swept)
    }

    fn flush(&self) -> Result<(), i32> {
        if self.ills().sync_fails {
            return Err(EIO);
        }
        lock(&self.tree).sync_all();
        Ok(())
    }
}

/// What is parked goes out of sight.
fn sweep(tree: &mut Tree, number: u64) -> Result<(), i32> {
    let Some(private) = tree.lookup(ROOT, PRIVATE)? else {
        return Ok(());
    };
    let to = format!("swept{number}");
    match tree.rename((private, b"parked"), (private, to.as_bytes())) {
        Ok(()) | Err(ENOENT | ESTALE) => Ok(()),
        Err(errno) => Err(errno),
    }
}
