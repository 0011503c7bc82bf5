//! Operations that change or read what a name carries besides data.

use super::{Generator, MODES, USERS};
use crate::acl;
use crate::ops::{Bytes, Op};

const KEYS: [&str; 5] = [
    "user.one",
    "user.two",
    "trusted.three",
    "security.four",
    "security.capability",
];

impl Generator {
    /// One of a few names, so that attributes meet again.
    fn favourite(&mut self) -> Bytes {
        if self.pool.is_empty() {
            return self.any();
        }
        let index = self.rng.index(self.pool.len().min(5));
        self.pool[index].clone()
    }

    pub(super) fn attributes(&mut self) -> Op {
        let which = self.rng.below(15);
        let path = if which < 8 {
            self.old()
        } else {
            self.favourite()
        };
        let key = KEYS[self.rng.index(KEYS.len())];
        match which {
            0..=2 => Op::Chmod {
                path,
                mode: *self.rng.pick(&MODES),
            },
            3..=5 => {
                let (uid, gid) = self.ids();
                Op::Chown {
                    path,
                    uid,
                    gid,
                    follow: self.rng.chance(50),
                }
            }
            6..=7 => {
                let nanoseconds = match self.rng.below(10) {
                    0 => libc::UTIME_NOW,
                    1 => libc::UTIME_OMIT,
                    _ => self.rng.below(1_000_000_000) as i64,
                };
                let seconds = self.rng.below(900_000_000) as i64;
                Op::Utimens {
                    path,
                    seconds,
                    nanoseconds,
                }
            }
            8..=10 => {
                let flags = *self
                    .rng
                    .pick(&[0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
                Op::SetXattr {
                    path,
                    key,
                    value: Bytes(self.xattr(key)),
                    flags,
                }
            }
            11 => Op::RemoveXattr { path, key },
            12 => Op::RemoveXattr {
                path,
                key: self.acl_key(),
            },
            _ => {
                let key = self.acl_key();
                let user = self.rng.pick(&USERS).uid;
                let value = Bytes(acl::with_user(user, self.rng.below(8) as u16));
                Op::SetXattr {
                    path,
                    key,
                    value,
                    flags: 0,
                }
            }
        }
    }

    fn xattr(&mut self, key: &str) -> Vec<u8> {
        if key == "security.capability" {
            // Version 2, effective, CAP_NET_BIND_SERVICE: what `setcap` writes.
            return [[1, 0, 0, 2], [0, 4, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
        }
        // Two of the longest leave room for what Tandem keeps with each file.
        let len = *self.rng.pick(&[0, 1, 17, 300, 1900]);
        crate::ops::pattern(len, self.rng.below(256) as u8)
    }

    fn acl_key(&mut self) -> &'static str {
        if self.rng.chance(50) {
            acl::ACCESS
        } else {
            acl::DEFAULT
        }
    }

    pub(super) fn look(&mut self) -> Op {
        let which = self.rng.below(8);
        let path = if which < 5 {
            self.old()
        } else {
            self.favourite()
        };
        match which {
            0..=1 => Op::Stat { path },
            2 => Op::Readdir { path },
            3 => Op::Statfs { path },
            4 => Op::Access {
                path,
                mode: self.rng.below(8) as i32,
            },
            5 => Op::GetXattr {
                path,
                key: KEYS[self.rng.index(KEYS.len())],
            },
            6 => Op::ListXattr { path },
            _ => Op::Readlink { path },
        }
    }

    /// Owner and group to set, one of which may stay.
    pub(super) fn ids(&mut self) -> (u32, u32) {
        let mut id = || *self.rng.pick(&[0, 1001, 1002, 3000]);
        let (uid, gid) = (id(), id());
        match self.rng.below(4) {
            0 => (u32::MAX, gid),
            1 => (uid, u32::MAX),
            _ => (uid, gid),
        }
    }
}
