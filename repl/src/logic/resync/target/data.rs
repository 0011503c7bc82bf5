//! Content and attributes.

use super::super::bounded::Blob;
use super::super::messages::{At, BLOCK, Hashes, Reply, Settle, Whole};
use super::{EINVAL, Target, TargetTree};
use crate::ids::{DirId, Key, Uid};

impl<T: TargetTree + ?Sized> Target<T> {
    /// A request about one file.
    pub(super) fn one(
        &self,
        dir: DirId,
        at: &At,
        work: impl FnOnce(Key) -> Result<(), i32>,
    ) -> Reply {
        let result = self.file(dir, at.uid, &at.places).and_then(work);
        Reply::Done(vec![self.noted(result)])
    }

    /// The errno of a result; a failure is remembered.
    fn noted(&self, result: Result<(), i32>) -> i32 {
        match result {
            Ok(()) => 0,
            Err(errno) => {
                self.lock().failed = true;
                errno
            }
        }
    }

    /// Before content is changed.
    pub(super) fn keep(&self, dir: DirId, key: Key, uid: Uid) -> Result<(), i32> {
        let session = self.lock();
        // What this session made was nowhere else.
        let known = session.known.get(dir, uid);
        let own = known.is_some_and(|k| k.unfinished && k.made);
        let aside = session.aside;
        drop(session);
        if aside && !own {
            self.tree.keep(dir, key, None)?;
        }
        Ok(())
    }

    pub(super) fn files(&self, dir: DirId, files: &[Whole]) -> Reply {
        let done = files.iter().map(|whole| self.noted(self.whole(dir, whole)));
        Reply::Done(done.collect())
    }

    fn whole(&self, dir: DirId, whole: &Whole) -> Result<(), i32> {
        let at = &whole.at;
        let key = self.file(dir, at.uid, &at.places)?;
        if let Some(data) = &whole.data {
            self.keep(dir, key, at.uid)?;
            if !data.0.is_empty() {
                self.tree.write(dir, key, 0, &data.0)?;
            }
        }
        let session = self.lock();
        let known = session.known.get(dir, at.uid);
        let unfinished = known.is_some_and(|k| k.unfinished);
        let own = known.is_some_and(|k| k.unfinished && k.made);
        let aside = session.aside;
        drop(session);
        if aside && !own {
            self.tree.keep(dir, key, Some(&whole.attrs))?;
        }
        let uid = unfinished.then_some(at.uid);
        let (attrs, others) = (&whole.attrs, &whole.others);
        self.tree.set_attrs(dir, key, attrs, others, uid)?;
        self.lock().known.finish(dir, at.uid);
        Ok(())
    }

    pub(super) fn settle(&self, dir: DirId, dirs: &[Settle]) -> Reply {
        let mut refused = Vec::new();
        for settle in dirs {
            if self.settle_one(dir, settle).is_err() {
                self.lock().failed = true;
                refused.push(settle.uid);
            }
        }
        Reply::Settled { refused }
    }

    fn settle_one(&self, dir: DirId, settle: &Settle) -> Result<(), i32> {
        let uid = settle.uid;
        let key = self.dir_key(dir, uid)?;
        let session = self.lock();
        let unfinished = session.known.get(dir, uid).is_some_and(|k| k.unfinished);
        let failed = session.failed;
        drop(session);
        if unfinished && failed {
            return Err(EINVAL);
        }
        let (attrs, others) = (&settle.attrs, &settle.others);
        let own = unfinished.then_some(uid);
        self.tree.set_attrs(dir, key, attrs, others, own)?;
        self.lock().known.finish(dir, uid);
        Ok(())
    }

    pub(super) fn hashes(&self, dir: DirId, files: &[Hashes]) -> Reply {
        let differ = files.iter().map(|file| {
            let result = self.compare(dir, file);
            if let Err(errno) = result {
                self.noted(Err(errno));
            }
            result
        });
        Reply::Differ(differ.collect())
    }

    /// A bit for each block that differs.
    fn compare(&self, dir: DirId, file: &Hashes) -> Result<Blob, i32> {
        let key = self.file(dir, file.at.uid, &file.at.places)?;
        let count = file.blocks.len();
        let end = file.offset + BLOCK * count as u64;
        if file.size.next_multiple_of(BLOCK) < end {
            return Err(EINVAL);
        }
        let own = self.tree.hashes(dir, key, file.offset, count, file.size)?;
        let mut bits = vec![0u8; count.div_ceil(8)];
        for (n, hash) in file.blocks.iter().enumerate() {
            if own.get(n) != Some(hash) {
                bits[n / 8] |= 1 << (n % 8);
            }
        }
        Ok(Blob(bits))
    }
}
