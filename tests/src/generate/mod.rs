//! Chooses random operations. It learns from the answers on the plain directory which names and
//! descriptors exist, so that most operations hit something; the list it made can be repeated (and
//! shortened) without it.

mod attributes;
mod files;
mod learn;

use crate::ops::{Bytes, Op, SLOTS};
use crate::rng::Rng;
use crate::sys::{ROOT, Who};
use std::collections::BTreeMap;

/// One operation and who does it.
#[derive(Clone, Debug)]
pub struct Step {
    pub who: Who,
    pub umask: u32,
    pub op: Op,
}

/// The users of the random test: root, one with a group of its own, one who shares it.
pub const USERS: [Who; 3] = [
    ROOT,
    Who {
        uid: 1001,
        gid: 1001,
        groups: &[3000],
    },
    Who {
        uid: 1002,
        gid: 1002,
        groups: &[1001, 3001],
    },
];

const MODES: [u32; 10] = [
    0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0o4755, 0o2775, 0o1777, 0o000,
];
const UMASKS: [u32; 6] = [0o022, 0o022, 0o022, 0, 0o027, 0o077];

/// What the subject is known to support besides the common.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Device nodes (a module may refuse them), and with them whiteouts.
    pub devices: bool,
    /// Moving the tail of a file by `fallocate`: the kernel refuses it on every FUSE mount.
    pub shifts: bool,
    /// Files that never had a name.
    pub tmpfile: bool,
}

impl Features {
    /// Everything an ext4 can do.
    pub const ALL: Self = Self {
        devices: true,
        shifts: true,
        tmpfile: true,
    };
}

/// A generator of steps.
pub struct Generator {
    rng: Rng,
    /// Names that exist, as far as the answers tell.
    pool: Vec<Bytes>,
    /// Those of them that are directories.
    dirs: Vec<Bytes>,
    /// Open descriptors, and whether they can be written.
    open: BTreeMap<usize, bool>,
    features: Features,
}

impl Generator {
    pub fn new(seed: u64, features: Features) -> Self {
        Self {
            rng: Rng::new(seed),
            pool: Vec::new(),
            dirs: Vec::new(),
            open: BTreeMap::new(),
            features,
        }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let who = if self.rng.chance(55) {
            ROOT
        } else {
            *self.rng.pick(&USERS)
        };
        let umask = *self.rng.pick(&UMASKS);
        let op = match self.rng.below(100) {
            0..=13 => self.open(),
            14..=33 => self.data(),
            34..=43 => self.ranges(),
            44..=49 => self.on_slot(),
            50..=63 => self.make(),
            64..=76 => self.change_names(),
            77..=91 => self.attributes(),
            _ => self.look(),
        };
        Step { who, umask, op }
    }

    fn open(&mut self) -> Op {
        let access = *self
            .rng
            .pick(&[libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY]);
        let mut flags = access;
        for (flag, percent) in [
            (libc::O_CREAT, 70),
            (libc::O_EXCL, 10),
            (libc::O_TRUNC, 10),
            (libc::O_APPEND, 15),
            (libc::O_SYNC, 4),
            (libc::O_DSYNC, 4),
            (libc::O_NOFOLLOW, 10),
        ] {
            if self.rng.chance(percent) {
                flags |= flag;
            }
        }
        if flags & libc::O_APPEND == 0 && self.rng.chance(15) {
            // The end of a file is at no aligned place, so appending cannot be direct.
            flags |= libc::O_DIRECT;
        }
        let slot = self.rng.index(SLOTS);
        let mode = *self.rng.pick(&MODES);
        if self.features.tmpfile && self.rng.chance(5) {
            let path = self.parent();
            return Op::Open {
                slot,
                path,
                flags: libc::O_TMPFILE | libc::O_RDWR,
                mode,
            };
        }
        let path = if flags & libc::O_CREAT == 0 {
            self.old()
        } else {
            self.any()
        };
        Op::Open {
            slot,
            path,
            flags,
            mode,
        }
    }

    fn make(&mut self) -> Op {
        let path = self.any();
        let mode = *self.rng.pick(&MODES);
        let kind = self.rng.below(10);
        match kind {
            0..=4 => Op::Mkdir {
                path,
                mode: mode | 0o700,
            },
            5 => Op::Mknod {
                path,
                mode: libc::S_IFIFO | mode,
                device: 0,
            },
            6 => Op::Mknod {
                path,
                mode: libc::S_IFSOCK | mode,
                device: 0,
            },
            7 if self.features.devices => {
                let device = libc::makedev(1, 3);
                Op::Mknod {
                    path,
                    mode: libc::S_IFCHR | mode,
                    device,
                }
            }
            7 => Op::Mknod {
                path,
                mode: libc::S_IFREG | mode,
                device: 0,
            },
            _ => {
                // Never upwards or absolute: a link must not lead out of the tree.
                let target = Bytes(self.old().0.split(|byte| *byte == b'/').next_back().map_or(
                    b"a".to_vec(),
                    |name| {
                        if name.is_empty() {
                            b"a".to_vec()
                        } else {
                            name.to_vec()
                        }
                    },
                ));
                Op::Symlink { target, path }
            }
        }
    }

    fn change_names(&mut self) -> Op {
        match self.rng.below(13) {
            0..=5 => self.rename(),
            6..=7 => {
                let (from, to) = (self.old(), self.any());
                Op::Link {
                    from,
                    to,
                    follow: self.rng.chance(20),
                }
            }
            8..=9 => Op::Unlink { path: self.old() },
            _ if self.dirs.is_empty() => Op::Rmdir { path: self.old() },
            _ => {
                let path = self.rng.pick(&self.dirs).clone();
                Op::Rmdir { path }
            }
        }
    }

    fn rename(&mut self) -> Op {
        let flags = *self.rng.pick(&[
            0,
            0,
            0,
            libc::RENAME_NOREPLACE,
            libc::RENAME_EXCHANGE,
            libc::RENAME_WHITEOUT,
        ]);
        let flags = if self.features.devices {
            flags
        } else {
            flags & !libc::RENAME_WHITEOUT
        };
        let from = self.old();
        let to = if flags & libc::RENAME_EXCHANGE == 0 {
            self.any()
        } else {
            self.old()
        };
        Op::Rename { from, to, flags }
    }

    /// A name that probably exists.
    fn old(&mut self) -> Bytes {
        if self.pool.is_empty() || self.rng.chance(3) {
            return self.any();
        }
        self.rng.pick(&self.pool).clone()
    }

    /// A name that may or may not exist.
    fn any(&mut self) -> Bytes {
        if !self.pool.is_empty() && self.rng.chance(20) {
            return self.rng.pick(&self.pool).clone();
        }
        let mut path = self.parent();
        let long = [b'l'; 255];
        let names: [&[u8]; 9] = [
            b"a",
            b"b",
            b"c",
            b"d",
            b"e.txt",
            "\u{fc}".as_bytes(),
            b"\xff\xfe\n",
            b"x y",
            &long,
        ];
        path.0.push(b'/');
        if self.rng.chance(60) {
            // Mostly a new name, or everything soon exists.
            let number = self.rng.below(300);
            path.0.extend(format!("n{number}").bytes());
        } else {
            path.0.extend_from_slice(names[self.rng.index(9)]);
        }
        if self.rng.chance(1) {
            path.0.extend_from_slice(&long);
        }
        path
    }

    fn parent(&mut self) -> Bytes {
        let top = Bytes(b".".to_vec());
        // Sometimes a name that is no directory.
        let from = if self.rng.chance(5) {
            &self.pool
        } else {
            &self.dirs
        };
        if from.is_empty() || self.rng.chance(35) {
            return top;
        }
        let parent = self.rng.pick(from).clone();
        let deep = parent.0.iter().filter(|byte| **byte == b'/').count() > 5;
        if deep { top } else { parent }
    }
}
