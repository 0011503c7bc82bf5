//! Filling: content and attributes of files. A file the target has just made is copied; of another
//! one hashes of blocks are sent first, and then the blocks that differ. Attributes go last.

use super::super::bounded::Blob;
use super::super::messages::{At, Attrs, BLOCK, Hashes, Kind, Place, Request, Whole};
use super::super::progress::Progress;
use super::super::{Entry, Failure, Feed, Piece, Pipe};
use super::plan::{TRIES, WHOLE};
use super::{ENTRY_COST, Engine, REQUEST, Then, Work, is_gone, weight};
use crate::ids::{DirId, Key, Uid};
use crate::limits::MAX_DATA;

/// Files up to this size are sent with their attributes.
const SMALL: usize = 64 * 1024;
/// Files in one request.
const FILES: usize = 256;
/// Blocks whose hashes go in one request: 8 MiB of a file.
const BLOCKS: usize = 1024;

/// A file that is being made equal.
pub(super) struct Filling {
    dir: DirId,
    key: Key,
    at: At,
    node: Option<usize>,
    regular: bool,
    /// Ranges to be compared, last first; `None`: the target has made it, all is copied.
    ranges: Option<Vec<(u64, u64)>>,
    /// Hashes are still to be sent.
    reading: bool,
    /// Replies about hashes, and blocks to be sent for them, that are outstanding.
    open: u32,
    /// Requests without a reply.
    flights: u32,
    /// A part failed, with this errno.
    failed: i32,
    /// Nothing more will be sent.
    ended: bool,
    /// Where the file ended when it was read. If it has grown since, the target gets this size:
    /// what
    /// it has beyond was not compared, and the growth is marked.
    end: u64,
    tries: u8,
}

/// Hashes that were sent.
pub(super) struct Differing {
    file: usize,
    offset: u64,
    count: usize,
}

/// Files and hashes gathered for one request.
#[derive(Default)]
pub(super) struct Batch {
    dir: Option<DirId>,
    files: Vec<(usize, Whole)>,
    bytes: usize,
    hashes: Vec<Hashes>,
    differing: Vec<Differing>,
    blocks: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.hashes.is_empty()
    }
}

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    /// Begins with a file; [`Work::Fill`] goes on.
    pub(super) fn start(
        &mut self,
        (dir, uid): (DirId, Uid),
        entry: &Entry,
        places: Vec<Place>,
        node: Option<usize>,
        ranges: Option<Vec<(u64, u64)>>,
    ) -> usize {
        if let Some(node) = node {
            self.nodes.hold(node);
        }
        let filling = Filling {
            dir,
            key: entry.key,
            at: At { uid, places },
            node,
            regular: entry.kind == Kind::File,
            ranges,
            reading: false,
            open: 0,
            flights: 0,
            failed: 0,
            ended: false,
            end: u64::MAX,
            tries: 0,
        };
        if let Some(slot) = self.idle.pop() {
            self.filling[slot] = Some(filling);
            return slot;
        }
        self.filling.push(Some(filling));
        self.filling.len() - 1
    }

    pub(super) fn key_of(&self, file: usize) -> Option<Key> {
        self.filling.get(file)?.as_ref().map(|f| f.key)
    }

    fn file(&mut self, file: usize) -> Option<&mut Filling> {
        self.filling.get_mut(file)?.as_mut()
    }

    pub(super) fn set_tries(&mut self, file: usize, tries: u8) {
        if let Some(f) = self.file(file) {
            f.tries = tries;
        }
    }

    pub(super) async fn fill(&mut self, file: usize) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        let (dir, key, regular) = (f.dir, f.key, f.regular);
        match f.ranges.take() {
            Some(mut ranges) if regular && !ranges.is_empty() => {
                f.reading = true;
                ranges.reverse();
                self.work.push(Work::Hash(file, ranges));
                Ok(())
            }
            Some(_) => {
                self.work.push(Work::Finish(file));
                Ok(())
            }
            None => {
                self.feed.permit(ENTRY_COST).await?;
                let loaded = match self.tree.load(dir, key, SMALL) {
                    Ok(loaded) => loaded,
                    Err(errno) => return self.abandon(file, errno),
                };
                let small = loaded.data.is_some() || loaded.attrs.size == 0 || !regular;
                if !small {
                    self.work.push(Work::Copy(file, 0));
                    Progress::add(&self.order.progress.total, loaded.attrs.size);
                    return Ok(());
                }
                self.sending(loaded.data.as_ref().map_or(0, Vec::len))
                    .await?;
                self.push_whole(file, loaded.attrs, loaded.data).await
            }
        }
    }

    /// Counts bytes that are sent, when the pace allows.
    async fn sending(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes > 0 {
            self.feed.permit(bytes as u64).await?;
            self.report.sent += bytes as u64;
            Progress::add(&self.order.progress.sent, bytes as u64);
        }
        Ok(())
    }

    /// Copies the next piece of a file.
    pub(super) async fn copy(&mut self, file: usize, at: u64) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        let (dir, key) = (f.dir, f.key);
        self.sending(0).await?;
        self.buf.resize(MAX_DATA, 0);
        match self.tree.read(dir, key, at, &mut self.buf) {
            Ok(Piece::Data(n)) => {
                let data = self.buf[..n].to_vec();
                self.work.push(Work::Copy(file, at + n as u64));
                self.sending(n).await?;
                Progress::add(&self.order.progress.done, n as u64);
                self.post_data(file, at, data).await
            }
            Ok(Piece::Hole(n)) => {
                self.work.push(Work::Copy(file, at + n));
                Progress::add(&self.order.progress.done, n);
                Ok(())
            }
            Ok(Piece::End) => {
                self.ends_at(file, at);
                self.work.push(Work::Finish(file));
                Ok(())
            }
            Err(errno) => self.abandon(file, errno),
        }
    }

    fn ends_at(&mut self, file: usize, end: u64) {
        if let Some(f) = self.file(file) {
            f.end = f.end.min(end);
        }
    }

    async fn post_data(&mut self, file: usize, offset: u64, data: Vec<u8>) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        f.flights += 1;
        let request = Request::Data {
            dir: f.dir,
            at: f.at.clone(),
            offset,
            data: Blob(data),
        };
        self.post(request, Then::Wrote(file)).await
    }

    /// Sends hashes of the next blocks.
    pub(super) async fn hash(
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
        if n < count || start + n as u64 * BLOCK >= size {
            self.ends_at(file, size);
        }
        let bytes = n as u64 * BLOCK;
        self.feed.permit(bytes).await?;
        self.report.compared += bytes;
        Progress::add(&self.order.progress.compared, bytes);
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

    fn all_read(&mut self, file: usize) -> Result<(), Failure> {
        if let Some(f) = self.file(file) {
            f.reading = false;
        }
        self.finish_if_done(file);
        Ok(())
    }

    fn finish_if_done(&mut self, file: usize) {
        if let Some(f) = self.file(file)
            && !f.reading
            && f.open == 0
            && !f.ended
        {
            self.work.push(Work::Finish(file));
        }
    }

    /// The target has compared blocks.
    pub(super) fn differ(
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
                    if super::is_fatal(errno) {
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
    pub(super) async fn send(
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

    async fn post_zero(&mut self, file: usize, offset: u64, len: u64) -> Result<(), Failure> {
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

    /// Sends attributes, after all data.
    pub(super) async fn finish(&mut self, file: usize) -> Result<(), Failure> {
        let Some(f) = self.file(file).filter(|f| !f.ended) else {
            return Ok(());
        };
        let (dir, key, end) = (f.dir, f.key, f.end);
        match self.tree.attrs(dir, key) {
            Ok(mut attrs) => {
                attrs.size = attrs.size.min(end);
                self.push_whole(file, attrs, None).await
            }
            Err(errno) => self.abandon(file, errno),
        }
    }

    /// Adds a file to the next request.
    async fn push_whole(
        &mut self,
        file: usize,
        attrs: Attrs,
        data: Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        f.ended = true;
        // The request that will hold it.
        f.flights += 1;
        let (dir, at) = (f.dir, f.at.clone());
        let (attrs, others) = self.split(dir, &at, attrs).await?;
        let whole = Whole {
            at,
            attrs,
            others,
            data: data.map(Blob),
        };
        let bytes = weight(&whole);
        let full = self.batch.bytes + bytes > REQUEST || self.batch.files.len() >= FILES;
        if full || self.batch.dir.is_some_and(|d| d != dir) {
            self.post_batch().await?;
        }
        self.batch.dir = Some(dir);
        self.batch.bytes += bytes;
        self.batch.files.push((file, whole));
        Ok(())
    }

    /// Sends what was gathered. From here on the files' directories need not wait for them: the
    /// target settles nothing before it has done everything it was sent.
    pub(super) async fn post_batch(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let Some(dir) = batch.dir else {
            return Ok(());
        };
        if !batch.hashes.is_empty() {
            for part in &batch.differing {
                if let Some(f) = self.file(part.file) {
                    f.flights += 1;
                }
            }
            let request = Request::Hashes {
                dir,
                files: batch.hashes,
            };
            self.post(request, Then::Differ(batch.differing)).await?;
        }
        if batch.files.is_empty() {
            return Ok(());
        }
        let mut sent = Vec::with_capacity(batch.files.len());
        let mut files = Vec::with_capacity(batch.files.len());
        for (file, whole) in batch.files {
            sent.push(file);
            files.push(whole);
        }
        let nodes: Vec<_> = sent
            .iter()
            .filter_map(|f| self.file(*f)?.node.take())
            .collect();
        self.post(Request::Files { dir, files }, Then::Files(sent))
            .await?;
        nodes.into_iter().try_for_each(|node| self.release(node))
    }

    /// A part of a file was written, or not.
    pub(super) fn wrote(&mut self, file: usize, errno: i32) -> Result<(), Failure> {
        if let Some(f) = self.file(file) {
            f.flights -= 1;
            if errno != 0 {
                f.failed = errno;
            }
        }
        if errno != 0 && errno != super::super::target::ENOENT {
            self.judge(errno, "writing a file")?;
        }
        self.free_if_done(file);
        Ok(())
    }

    /// Files are complete, or not.
    pub(super) fn filed(&mut self, files: &[usize], errnos: &[i32]) -> Result<(), Failure> {
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
    fn fill_again(&mut self, file: usize, errno: i32) -> Result<(), Failure> {
        let Some(f) = self.file(file) else {
            return Ok(());
        };
        let (id, key, places) = ((f.dir, f.at.uid), f.key, f.at.places.clone());
        let (tries, dir) = (f.tries + 1, f.dir);
        if errno == super::super::target::ENOENT {
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
    fn abandon(&mut self, file: usize, errno: i32) -> Result<(), Failure> {
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

    fn free_if_done(&mut self, file: usize) {
        if self.file(file).is_some_and(|f| f.ended && f.flights == 0) {
            self.filling[file] = None;
            self.idle.push(file);
        }
    }

    /// Sends extended attributes ahead that would not fit beside others; returns what is left, and
    /// the names of those sent.
    pub(super) async fn split(
        &mut self,
        dir: DirId,
        at: &At,
        mut attrs: Attrs,
    ) -> Result<(Attrs, Vec<Vec<u8>>), Failure> {
        let mut others = Vec::new();
        let mut bytes: usize = attrs
            .xattrs
            .iter()
            .map(|(n, v)| n.len() + v.len() + 8)
            .sum();
        while bytes > REQUEST / 2 {
            let Some((name, value)) = attrs.xattrs.pop() else {
                break;
            };
            bytes -= name.len() + value.len() + 8;
            others.push(name.clone());
            let request = Request::Xattrs {
                dir,
                at: at.clone(),
                set: vec![(name, value)],
            };
            self.post(request, Then::Done).await?;
        }
        Ok((attrs, others))
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
