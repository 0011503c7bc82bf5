//! Comparing: hashes of the blocks of a file go to the target, and then the blocks that differ.

use super::super::super::bounded::Blob;
use super::super::super::messages::{BLOCK, Hashes, Request};
use super::super::super::progress::Progress;
use super::super::super::{Failure, Feed, Piece, Pipe};
use super::super::{Engine, Then, Work, is_fatal};
use super::{BLOCKS, Differing};
use crate::limits::MAX_DATA;

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// Sends hashes of the next blocks.
    pub(in crate::logic::resync::engine) async fn hash(
        &mut self,
        file: usize,
        mut ranges: Vec<(u64, u64)>,
    ) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        let (dir, key) = (f.dir, f.key);
        if self.batch.blocks >= BLOCKS || self.batch.dir.is_some_and(|d| d != dir) {
            self.post_batch().await?;
        }
        let Some((start, end)) = ranges.pop() else {
            return self.all_read(file);
        };
        let wanted = usize::try_from((end - start) / BLOCK).unwrap_or(usize::MAX);
        let count = wanted.min(BLOCKS - self.batch.blocks);
        let read = self.tree.hashes(dir, key, start, count);
        let (blocks, size) = match read {
            Ok(read) => read,
            Err(errno) => return self.abandon(file, errno),
        };
        let n = blocks.len();
        // How long the file is, is known from here on.
        let of_file = |(start, end): (u64, u64)| end.min(size).saturating_sub(start);
        let rest = of_file((start, end)) + ranges.iter().copied().map(of_file).sum::<u64>();
        let is_new = |f: &mut super::Filling| !std::mem::replace(&mut f.counted, true);
        if self.file(file).is_some_and(is_new) {
            Progress::add(&self.order.progress.total, rest);
        }
        if n < count || start + n as u64 * BLOCK >= size {
            self.ends_at(file, size);
        }
        let bytes = n as u64 * BLOCK;
        self.feed.permit(bytes).await?;
        self.report.compared += bytes;
        Progress::add(&self.order.progress.compared, bytes);
        let done = of_file((start, start + bytes));
        Progress::add(&self.order.progress.done, done);
        if n == count && start + bytes < end {
            ranges.push((start + bytes, end));
        } else if n < count {
            // The file ends here, and with it all later ranges.
            ranges.clear();
        }
        if n > 0 {
            let Some(f) = self.file(file) else {
                return Ok(());
            };
            f.open += 1;
            let hashes = Hashes {
                at: f.at.clone(),
                offset: start,
                size,
                blocks,
            };
            self.batch.dir = Some(dir);
            self.batch.blocks += n;
            self.batch.hashes.push(hashes);
            self.batch.differing.push(Differing {
                file,
                offset: start,
                count: n,
            });
        }
        if ranges.is_empty() {
            return self.all_read(file);
        }
        self.work.push(Work::Hash(file, ranges));
        Ok(())
    }

    pub(super) fn all_read(&mut self, file: usize) -> Result<(), Failure> {
        if let Some(f) = self.file(file) {
            f.reading = false;
        }
        self.finish_if_done(file);
        Ok(())
    }

    pub(super) fn finish_if_done(&mut self, file: usize) {
        if let Some(f) = self.file(file)
            && !f.reading
            && f.open == 0
            && !f.ended
        {
            self.work.push(Work::Finish(file));
        }
    }

    /// The target has compared blocks.
    pub(in crate::logic::resync::engine) fn differ(
        &mut self,
        parts: Vec<Differing>,
        differ: Vec<Result<Blob, i32>>,
    ) -> Result<(), Failure> {
        for (part, differ) in parts.into_iter().zip(differ) {
            let Some(f) = self.file(part.file) else {
                continue;
            };
            f.flights -= 1;
            match differ {
                Ok(bits) => {
                    let mut runs = runs(part.offset, part.count, &bits.0);
                    if runs.is_empty() || f.ended {
                        f.open -= 1;
                    } else {
                        runs.reverse();
                        self.work.push(Work::Send(part.file, runs));
                    }
                }
                Err(errno) => {
                    f.open -= 1;
                    f.failed = errno;
                    if is_fatal(errno) {
                        self.judge(errno, "comparing a file")?;
                    }
                }
            }
            self.finish_if_done(part.file);
            self.free_if_done(part.file);
        }
        Ok(())
    }

    /// Sends the next piece of what differs; last first.
    pub(in crate::logic::resync::engine) async fn send(
        &mut self,
        file: usize,
        mut runs: Vec<(u64, u64)>,
    ) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        let (dir, key) = (f.dir, f.key);
        let Some((start, end)) = runs.pop() else {
            f.open -= 1;
            self.finish_if_done(file);
            return Ok(());
        };
        let wanted = usize::try_from(end - start).unwrap_or(usize::MAX);
        self.buf.resize(MAX_DATA, 0);
        let room = wanted.min(MAX_DATA);
        let done = match self.tree.read(dir, key, start, &mut self.buf[..room]) {
            Ok(Piece::Data(n)) => {
                let data = self.buf[..n].to_vec();
                self.sending(n).await?;
                self.post_data(file, start, data).await?;
                n as u64
            }
            Ok(Piece::Hole(n)) => {
                let len = n.min(end - start);
                self.post_zero(file, start, len).await?;
                len
            }
            Ok(Piece::End) => {
                self.ends_at(file, start);
                end - start
            }
            Err(errno) => return self.abandon(file, errno),
        };
        if start + done < end {
            runs.push((start + done, end));
        }
        self.work.push(Work::Send(file, runs));
        Ok(())
    }

    pub(super) async fn post_zero(
        &mut self,
        file: usize,
        offset: u64,
        len: u64,
    ) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        f.flights += 1;
        let request = Request::Zero {
            dir: f.dir,
            at: f.at.clone(),
            offset,
            len,
        };
        self.post(request, Then::Wrote(file)).await
    }
}

/// Runs of blocks whose bit is set: offset and end.
fn runs(offset: u64, count: usize, bits: &[u8]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for n in 0..count {
        if bits.get(n / 8).is_none_or(|b| b >> (n % 8) & 1 == 0) {
            continue;
        }
        let start = offset + n as u64 * BLOCK;
        match runs.last_mut() {
            Some(last) if last.1 == start => last.1 += BLOCK,
            _ => runs.push((start, start + BLOCK)),
        }
    }
    runs
}
