//! Filling: content and attributes of files. A file the target has just made is copied; of another
//! one hashes of blocks are sent first, and then the blocks that differ. Attributes go last.

mod compare;
mod ended;

use super::super::bounded::Blob;
use super::super::messages::{At, Attrs, Hashes, Kind, Place, Request, Whole};
use super::super::progress::Progress;
use super::super::{Entry, Failure, Feed, Piece, Pipe};
use super::{ENTRY_COST, Engine, REQUEST, Then, Work, weight};
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
    /// What is to be compared was added to the total.
    counted: bool,
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
            counted: false,
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
