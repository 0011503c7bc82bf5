//! What an application does to the tree, and the registers it is checked by: every name of a
//! directory, every page, size and mode of a file is a register of its own, named by the lasting
//! identity, so that two replicas and a history can be compared without regard to places.

use super::tree::{EISDIR, ENOENT, Ino, Name, PAGE, Tree};
use tandem_repl::ids::{DirId, Uid};
use tandem_repl::logic::dirty::{DirRef, FileRef, Touch};
use tandem_repl::logic::resync::messages::Kind;

/// The one replicated directory.
pub const DIR: DirId = DirId(0);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reg {
    /// Which file the name of a directory leads to.
    Entry(Uid, Name),
    Page(Uid, u64),
    Size(Uid),
    Mode(Uid),
}

impl std::fmt::Debug for Reg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entry(uid, name) => {
                write!(f, "{}/{}", show(*uid), String::from_utf8_lossy(name))
            }
            Self::Page(uid, page) => write!(f, "{}[{page}]", show(*uid)),
            Self::Size(uid) => write!(f, "{}.size", show(*uid)),
            Self::Mode(uid) => write!(f, "{}.mode", show(*uid)),
        }
    }
}

pub fn show(uid: Uid) -> String {
    format!("{:x}:{}", uid.origin & 0xffff, uid.number)
}

impl Reg {
    /// The file or directory it belongs to.
    pub fn uid(&self) -> Uid {
        match self {
            Self::Entry(uid, _) | Self::Page(uid, _) | Self::Size(uid) | Self::Mode(uid) => *uid,
        }
    }
}

/// A number, or an identity in two; nothing for a hole or a name that leads nowhere.
pub type Value = Option<(u64, u64)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Make {
        uid: Uid,
        dir: Uid,
        name: Name,
        kind: Kind,
    },
    Link {
        uid: Uid,
        dir: Uid,
        name: Name,
    },
    Unlink {
        dir: Uid,
        name: Name,
    },
    Rmdir {
        dir: Uid,
        name: Name,
    },
    Rename {
        dir: Uid,
        name: Name,
        new_dir: Uid,
        new_name: Name,
    },
    Write {
        uid: Uid,
        page: u64,
        value: u64,
    },
    Truncate {
        uid: Uid,
        size: u64,
    },
    Mode {
        uid: Uid,
        mode: u32,
    },
    Fsync {
        uid: Uid,
    },
    SyncAll,
}

impl Change {
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Fsync { .. } | Self::SyncAll)
    }

    /// Needs room on the disk.
    pub fn grows(&self) -> bool {
        matches!(
            self,
            Self::Make { .. } | Self::Link { .. } | Self::Write { .. }
        )
    }

    /// The same code on both nodes.
    pub fn apply(&self, tree: &mut Tree) -> Result<(), i32> {
        let at = |tree: &Tree, uid: &Uid| tree.find(*uid).ok_or(ENOENT);
        match self {
            Self::Make {
                uid,
                dir,
                name,
                kind,
            } => {
                let dir = at(tree, dir)?;
                tree.make(dir, name, kind.clone(), Some(*uid)).map(drop)
            }
            Self::Link { uid, dir, name } => {
                let (ino, dir) = (at(tree, uid)?, at(tree, dir)?);
                tree.link(ino, dir, name)
            }
            Self::Unlink { dir, name } => tree.unlink(at(tree, dir)?, name),
            Self::Rmdir { dir, name } => tree.rmdir(at(tree, dir)?, name),
            Self::Rename {
                dir,
                name,
                new_dir,
                new_name,
            } => {
                let (from, to) = (at(tree, dir)?, at(tree, new_dir)?);
                tree.rename((from, name), (to, new_name))
            }
            Self::Write { uid, page, value } => tree.write(at(tree, uid)?, *page, *value),
            Self::Truncate { uid, size } => tree.truncate(at(tree, uid)?, *size),
            Self::Mode { uid, mode } => tree.set_mode(at(tree, uid)?, *mode),
            Self::Fsync { .. } | Self::SyncAll => Ok(()),
        }
    }

    /// Whether the tree would refuse it: such a change is never marked or shipped.
    pub fn check(&self, tree: &Tree) -> Result<(), i32> {
        let at = |uid: &Uid| tree.find(*uid).ok_or(ENOENT);
        match self {
            Self::Write { uid, .. } | Self::Truncate { uid, .. } => {
                if tree.get(at(uid)?)?.meta.kind == Kind::File {
                    Ok(())
                } else {
                    Err(EISDIR)
                }
            }
            Self::Mode { uid, .. } | Self::Fsync { uid } => at(uid).map(drop),
            Self::Make { dir, .. } | Self::Unlink { dir, .. } | Self::Rmdir { dir, .. } => {
                at(dir).map(drop)
            }
            Self::Link { uid, dir, .. } => at(dir).and(at(uid)).map(drop),
            Self::Rename { dir, new_dir, .. } => at(dir).and(at(new_dir)).map(drop),
            Self::SyncAll => Ok(()),
        }
    }

    /// The registers it sets, as the tree is before.
    pub fn sets(&self, tree: &Tree) -> Vec<Reg> {
        match self {
            Self::Make {
                uid,
                dir,
                name,
                kind,
            } => {
                let mut regs = vec![Reg::Entry(*dir, name.clone()), Reg::Mode(*uid)];
                if *kind == Kind::File {
                    regs.push(Reg::Size(*uid));
                }
                regs
            }
            Self::Link { dir, name, .. }
            | Self::Unlink { dir, name }
            | Self::Rmdir { dir, name } => vec![Reg::Entry(*dir, name.clone())],
            Self::Rename {
                dir,
                name,
                new_dir,
                new_name,
            } => vec![
                Reg::Entry(*dir, name.clone()),
                Reg::Entry(*new_dir, new_name.clone()),
            ],
            Self::Write { uid, page, .. } => vec![Reg::Page(*uid, *page), Reg::Size(*uid)],
            Self::Truncate { uid, size } => {
                let inode = tree.find(*uid).and_then(|ino| tree.get(ino).ok());
                let pages = inode.into_iter().flat_map(|i| i.pages.keys());
                let gone = pages.filter(|page| **page * PAGE >= *size);
                let mut regs: Vec<Reg> = gone.map(|page| Reg::Page(*uid, *page)).collect();
                regs.push(Reg::Size(*uid));
                regs
            }
            Self::Mode { uid, .. } => vec![Reg::Mode(*uid)],
            Self::Fsync { .. } | Self::SyncAll => Vec::new(),
        }
    }

    /// What has to be marked before, given to `mark` one by one.
    pub fn touches(&self, tree: &Tree, mark: &mut dyn FnMut(&Touch<'_>)) {
        let entry = |uid: &Uid, name: &Name, mark: &mut dyn FnMut(&Touch<'_>)| {
            if let Some(ino) = tree.find(*uid) {
                let dir = DirRef {
                    key: Tree::key(ino),
                    uid: *uid,
                };
                mark(&Touch::Entry { dir, name });
            }
        };
        match self {
            Self::Make { dir, name, .. }
            | Self::Unlink { dir, name }
            | Self::Rmdir { dir, name } => entry(dir, name, mark),
            Self::Link { uid, dir, name } => {
                entry(dir, name, mark);
                with_file(tree, *uid, |file, _| mark(&Touch::Meta { file }));
            }
            Self::Rename {
                dir,
                name,
                new_dir,
                new_name,
            } => {
                entry(dir, name, mark);
                entry(new_dir, new_name, mark);
            }
            Self::Write { uid, page, .. } => {
                with_file(tree, *uid, |file, size| {
                    mark(&Touch::Data {
                        file,
                        offset: page * PAGE,
                        len: PAGE,
                        size,
                    });
                });
            }
            Self::Truncate { uid, size } => {
                let from = *size;
                with_file(tree, *uid, |file, size| {
                    mark(&Touch::Meta { file });
                    mark(&Touch::Data {
                        file,
                        offset: from.min(size),
                        len: u64::MAX,
                        size,
                    });
                });
            }
            Self::Mode { uid, .. } => with_file(tree, *uid, |file, _| {
                mark(&Touch::Meta { file });
            }),
            Self::Fsync { .. } | Self::SyncAll => {}
        }
    }
}

/// The file as the dirty map names it, and its size.
fn with_file(tree: &Tree, uid: Uid, give: impl FnOnce(FileRef<'_>, u64)) {
    let Some(ino) = tree.find(uid) else { return };
    let size = tree.get(ino).map_or(0, |i| i.meta.size);
    let place: Option<(Ino, Name)> = tree.place(ino);
    let file = FileRef {
        key: Tree::key(ino),
        uid,
        place: place
            .as_ref()
            .map(|(dir, name)| (Tree::key(*dir), &name[..])),
    };
    give(file, size);
}
