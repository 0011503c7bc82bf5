//! How a file came out: complete, to be tried again, or gone.

use super::super::super::progress::Progress;
use super::super::super::target::ENOENT;
use super::super::super::{Failure, Feed, Pipe};
use super::super::plan::{TRIES, WHOLE};
use super::super::{Engine, is_gone};

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// A part of a file was written, or not.
    pub(in crate::logic::resync::engine) fn wrote(
        &mut self,
        file: usize,
        errno: i32,
    ) -> Result<(), Failure> {
        if let Some(f) = self.file(file) {
            f.flights -= 1;
            if errno != 0 {
                f.failed = errno;
            }
        }
        if errno != 0 && errno != ENOENT {
            self.judge(errno, "writing a file")?;
        }
        self.free_if_done(file);
        Ok(())
    }

    /// Files are complete, or not.
    pub(in crate::logic::resync::engine) fn filed(
        &mut self,
        files: &[usize],
        errnos: &[i32],
    ) -> Result<(), Failure> {
        for (file, errno) in files.iter().zip(errnos) {
            let Some(f) = self.file(*file) else {
                continue;
            };
            f.flights -= 1;
            let failed = if *errno == 0 { f.failed } else { *errno };
            if failed == 0 {
                self.outcome.files += 1;
                Progress::add(&self.order.progress.files, 1);
            } else {
                self.fill_again(*file, failed)?;
            }
            self.free_if_done(*file);
        }
        Ok(())
    }

    /// A file could not be made equal.
    pub(super) fn fill_again(&mut self, file: usize, errno: i32) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        let (id, key, places) = ((f.dir, f.at.uid), f.key, f.at.places.clone());
        let (tries, dir) = (f.tries + 1, f.dir);
        if errno == ENOENT {
            // The target does not find it where it ought to be.
            if self.last || tries > TRIES {
                self.anomaly(dir);
                return Ok(());
            }
        } else {
            self.judge(errno, "a file")?;
        }
        self.again.want(id.0, id.1, key, None, vec![WHOLE]);
        if let Some(plan) = self.again.files.get_mut(&id) {
            places.into_iter().for_each(|place| plan.add_place(place));
            plan.tries = tries;
        }
        Ok(())
    }

    /// A file cannot be read here: it is gone, or the disk is broken.
    pub(super) fn abandon(&mut self, file: usize, errno: i32) -> Result<(), Failure> {
        if !is_gone(errno) {
            let what = self.file(file).and_then(|f| f.at.places.first().cloned());
            let what = what.map_or("a file".into(), |(_, name)| format!("{name:?}"));
            return Err(Failure::Source { errno, what });
        }
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        f.ended = true;
        f.reading = false;
        let node = f.node.take();
        self.free_if_done(file);
        node.map_or(Ok(()), |node| self.release(node))
    }

    pub(super) fn free_if_done(&mut self, file: usize) {
        if self.file(file).is_some_and(|f| f.ended && f.flights == 0) {
            self.filling[file] = None;
            self.idle.push(file);
        }
    }
}
