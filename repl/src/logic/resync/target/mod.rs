//! The target of a resync: answers about names and identities, and does what it is told. Generic
//! over the tree below, so that the product and the simulator run the same code.
//!
//! * What the source does not have at a name is *parked*: moved, with all below it, to a hidden
//!   directory, under its identity. Nothing is removed before the last pass.
//! * What is made here gets its identity when all of it is there ([`Request::Settle`] for a
//!   directory, [`Request::Files`] for a file), so that after an interruption nothing half done is
//!   taken for whole.
//! * Requests may come from several threads, in an order that keeps [`Request::lane`].

mod data;
mod known;
mod names;

use super::Rules;
use super::messages::{Attrs, Hash, Kind, Open, PeerMark, Reply, Request};
use crate::ids::{DirId, Id128, Key, Uid};
use known::Known;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `ENOENT`.
pub(crate) const ENOENT: i32 = 2;
/// `EIO`.
pub(crate) const EIO: i32 = 5;
/// `EEXIST`.
pub(crate) const EEXIST: i32 = 17;
/// `EINVAL`.
pub(crate) const EINVAL: i32 = 22;
/// `ESTALE`.
pub(crate) const ESTALE: i32 = 116;

/// An entry of the target's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    pub key: Key,
    /// `None`: it has no valid identity.
    pub uid: Option<Uid>,
    pub kind: Kind,
    pub links: u64,
}

/// Entries of a directory, and where the next ones are.
pub type Listing = (Vec<(Box<[u8]>, There)>, Option<u64>);

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    pub boot: Id128,
    /// See [`Reply::Opened`].
    pub suspect: bool,
    /// The same.
    pub resumed: bool,
    /// The same.
    pub checkpoints: u64,
}

/// The target's tree. Errors are errnos. Nothing follows a symbolic link.
pub trait TargetTree: Send + Sync {
    /// Durably notes that a resync since this baseline is unfinished. What was parked since another
    /// baseline is put where the sweep finds it.
    ///
    /// # Errors
    /// As the trait says.
    fn begin(&self, open: &Open) -> Result<Begun, i32>;
    /// Notes that whole trees are compared: until the end of this resync a file may be here twice.
    ///
    /// # Errors
    /// As the trait says.
    fn walking(&self) -> Result<(), i32>;
    /// This node's own marks from the `from`th on: whether everything is marked, some, where the
    /// next are.
    fn marks(&self, from: u64) -> (bool, Vec<PeerMark>, Option<u64>);
    fn root(&self, dir: DirId) -> Key;
    /// The directory where things are parked; with `make` it is made if it is missing.
    ///
    /// # Errors
    /// As the trait says.
    fn parking(&self, dir: DirId, make: bool) -> Result<Option<Key>, i32>;
    /// # Errors
    /// As the trait says.
    fn look(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<Option<There>, i32>;
    /// The product's own directory in the root is not listed.
    ///
    /// # Errors
    /// As the trait says.
    fn list(&self, dir: DirId, parent: Key, cookie: u64) -> Result<Listing, i32>;
    /// Directory above and name in it, of a directory below the root.
    ///
    /// # Errors
    /// As the trait says.
    fn above(&self, dir: DirId, key: Key) -> Result<(Key, Box<[u8]>), i32>;
    /// Makes a file that only its owner can enter, without an identity.
    ///
    /// # Errors
    /// As the trait says.
    fn make(&self, dir: DirId, parent: Key, name: &[u8], kind: &Kind) -> Result<Key, i32>;
    /// # Errors
    /// As the trait says; `EEXIST` if the name is taken.
    fn link(&self, dir: DirId, key: Key, parent: Key, name: &[u8]) -> Result<(), i32>;
    /// # Errors
    /// As the trait says; `EEXIST` if the new name is taken.
    fn rename(&self, dir: DirId, from: (Key, &[u8]), to: (Key, &[u8])) -> Result<(), i32>;
    /// Removes one of several names of a file.
    ///
    /// # Errors
    /// As the trait says.
    fn unlink(&self, dir: DirId, parent: Key, name: &[u8]) -> Result<(), i32>;
    /// # Errors
    /// As the trait says.
    fn set_uid(&self, dir: DirId, key: Key, uid: Uid) -> Result<(), i32>;
    /// Before an entry is parked under `parked`, when things are kept aside.
    ///
    /// # Errors
    /// As the trait says.
    fn note_parked(&self, dir: DirId, from: (Key, &[u8]), parked: &[u8]) -> Result<(), i32>;
    /// Before the content of a file is changed, when things are kept aside.
    ///
    /// # Errors
    /// As the trait says.
    fn keep(&self, dir: DirId, key: Key, attrs: Option<&Attrs>) -> Result<(), i32>;
    /// Writes all of `data`.
    ///
    /// # Errors
    /// As the trait says.
    fn write(&self, dir: DirId, key: Key, offset: u64, data: &[u8]) -> Result<(), i32>;
    /// Makes a hole; a shorter file grows.
    ///
    /// # Errors
    /// As the trait says.
    fn zero(&self, dir: DirId, key: Key, offset: u64, len: u64) -> Result<(), i32>;
    /// Makes attributes exactly these, extended ones except `others`, and the size of a regular
    /// file; then sets the identity.
    ///
    /// # Errors
    /// As the trait says.
    fn set_attrs(
        &self,
        dir: DirId,
        key: Key,
        attrs: &Attrs,
        others: &[Vec<u8>],
        uid: Option<Uid>,
    ) -> Result<(), i32>;
    /// # Errors
    /// As the trait says.
    fn set_xattrs(&self, dir: DirId, key: Key, set: &[(Vec<u8>, Vec<u8>)]) -> Result<(), i32>;
    /// Hashes of `count` blocks from `offset` on, the last one ending at `size`; beyond its end the
    /// file reads as a hole.
    ///
    /// # Errors
    /// As the trait says.
    fn hashes(
        &self,
        dir: DirId,
        key: Key,
        offset: u64,
        count: usize,
        size: u64,
    ) -> Result<Vec<Hash>, i32>;
    /// Takes what is parked out of sight, to be removed or kept aside later; the resync has ended.
    ///
    /// # Errors
    /// As the trait says.
    fn sweep(&self) -> Result<(), i32>;
    /// # Errors
    /// As the trait says.
    fn flush(&self) -> Result<(), i32>;
}

/// One session's target.
pub struct Target<T: ?Sized> {
    tree: Arc<T>,
    rules: Rules,
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    known: Known,
    /// Something about a file went wrong in this pass.
    failed: bool,
    /// Differing content is kept aside.
    aside: bool,
    /// Names given to things parked without an identity.
    nameless: u64,
}

impl<T: TargetTree + ?Sized> Target<T> {
    /// A target for one session: one connection to the source.
    pub fn new(tree: Arc<T>, rules: Rules) -> Self {
        Self {
            tree,
            rules,
            session: Mutex::default(),
        }
    }

    pub fn tree(&self) -> &Arc<T> {
        &self.tree
    }

    /// Does one request.
    pub fn handle(&self, request: &Request) -> Reply {
        let result = match request {
            Request::Open(open) => self.open(open),
            Request::Marks { from } => {
                let (everything, marks, next) = self.tree.marks(*from);
                Ok(Reply::Marks {
                    everything,
                    marks,
                    next,
                })
            }
            Request::Pass { walks, .. } => self.pass(*walks),
            Request::Resolve { dir, ways } => self.resolve(*dir, ways),
            Request::Check {
                dir,
                parent,
                entries,
            } => self.check(*dir, *parent, entries),
            Request::List {
                dir,
                parent,
                cookie,
            } => self.list(*dir, *parent, *cookie),
            Request::Put {
                dir,
                parent,
                entries,
            } => self.put(*dir, *parent, entries),
            Request::Files { dir, files } => Ok(self.files(*dir, files)),
            Request::Xattrs { dir, at, set } => {
                Ok(self.one(*dir, at, |key| self.tree.set_xattrs(*dir, key, set)))
            }
            Request::Hashes { dir, files } => Ok(self.hashes(*dir, files)),
            Request::Data {
                dir,
                at,
                offset,
                data,
            } => Ok(self.one(*dir, at, |key| {
                self.keep(*dir, key, at.uid)?;
                self.tree.write(*dir, key, *offset, &data.0)
            })),
            Request::Zero {
                dir,
                at,
                offset,
                len,
            } => Ok(self.one(*dir, at, |key| {
                self.keep(*dir, key, at.uid)?;
                self.tree.zero(*dir, key, *offset, *len)
            })),
            Request::Settle { dir, dirs } => Ok(self.settle(*dir, dirs)),
            Request::Forget { dir, uids } => {
                let mut session = self.session();
                uids.iter().for_each(|uid| session.known.forget(*dir, *uid));
                Ok(Reply::Done(vec![0]))
            }
            Request::Sweep => self.tree.sweep().map(|()| Reply::Done(vec![0])),
            Request::Flush => self.tree.flush().map(|()| Reply::Done(vec![0])),
        };
        result.unwrap_or_else(|errno| Reply::Failed {
            errno,
            what: doing(request).into(),
        })
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        // Every change of the session is one step.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, open: &Open) -> Result<Reply, i32> {
        let mut session = self.session();
        *session = Session::default();
        session.aside = open.aside.is_some();
        let Begun {
            boot,
            suspect,
            resumed,
            checkpoints,
        } = self.tree.begin(open)?;
        Ok(Reply::Opened {
            boot,
            suspect,
            resumed,
            checkpoints,
        })
    }

    fn pass(&self, walks: bool) -> Result<Reply, i32> {
        self.session().failed = false;
        if walks {
            self.tree.walking()?;
        }
        Ok(Reply::Done(vec![0]))
    }
}

/// For the report of a failure.
fn doing(request: &Request) -> &'static str {
    match request {
        Request::Open(_) => "beginning a resync",
        Request::Marks { .. } => "telling marks",
        Request::Pass { .. } => "beginning a pass",
        Request::Resolve { .. } => "finding a directory",
        Request::Check { .. } => "parking what is not at the source",
        Request::List { .. } => "listing a directory",
        Request::Put { .. } => "placing an entry",
        Request::Files { .. } => "setting attributes",
        Request::Xattrs { .. } => "setting extended attributes",
        Request::Hashes { .. } => "reading a file",
        Request::Data { .. } => "writing a file",
        Request::Zero { .. } => "making a hole",
        Request::Settle { .. } => "setting a directory's attributes",
        Request::Forget { .. } => "forgetting",
        Request::Sweep => "sweeping",
        Request::Flush => "writing to disk",
    }
}
