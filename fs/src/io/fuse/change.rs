//! Requests that change something and how they are answered.

use super::super::read::attr;
use super::super::service::{Done, Finish};
use super::convert::{cred, fail, id};
use super::{Adapter, GENERATION};
use crate::error::to_fuse;
use fuser::{Errno, FileHandle, INodeNo, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, Request};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use tandem_repl::ids::{FileId, Uid};
use tandem_repl::limits::MAX_NAME;
use tandem_repl::op::{Cred, Kind, Op, Privileges};

impl Adapter {
    pub(super) fn change(&self, op: &Op<'_>, finish: Finish) {
        self.service.change(&self.volume, op, finish);
    }

    /// A change that answers nothing but done.
    pub(super) fn change_empty(&self, op: &Op<'_>, reply: ReplyEmpty) {
        let finish = move |result: Result<Done, i32>| match result {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.change(op, Box::new(finish));
    }

    pub(super) fn make(
        &self,
        req: &Request,
        what: (INodeNo, &OsStr),
        kind: Kind<'_>,
        mode: (u32, u32),
        reply: ReplyEntry,
    ) {
        let (parent, name) = what;
        if name.len() > MAX_NAME {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let op = Op::Make {
            id: FileId(u64::MAX),
            uid: Uid::NONE,
            parent: id(parent),
            name: name.as_bytes(),
            kind,
            mode: mode.0,
            umask: mode.1,
            cred: cred(req),
        };
        let ttl = self.service.ttl();
        let finish = move |result: Result<Done, i32>| match result {
            Ok(Done {
                stat: Some(stat),
                node: Some(node),
                ..
            }) => {
                reply.entry(&ttl, &attr(node.id, &stat), GENERATION);
            }
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.change(&op, Box::new(finish));
    }

    /// `open` with `O_CREAT` of a name that exists after all.
    pub(super) fn open_existing(
        &self,
        parent: INodeNo,
        name: &OsStr,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let ttl = self.service.ttl();
        let found = self.volume.look_up(id(parent), name.as_bytes());
        let opened =
            found.and_then(
                |(node, stat)| match self.service.open(&self.volume, node.id, flags) {
                    Ok(how) => Ok((node, stat, how)),
                    Err(e) => {
                        self.volume.nodes.forget(node.id, 1);
                        Err(e)
                    }
                },
            );
        match opened {
            Ok((node, stat, how)) => {
                let attr = attr(node.id, &stat);
                reply.created(&ttl, &attr, GENERATION, FileHandle(0), how);
            }
            Err(e) => reply.error(fail(&e)),
        }
    }

    /// What the disk here cannot read; aside, because it waits for the peer.
    pub(super) fn read_from_peer(&self, id: FileId, offset: u64, size: usize, reply: ReplyData) {
        let volume = self.volume.clone();
        self.service.in_background(Box::new(move |service| {
            match service.read_repaired(&volume, id, offset, size) {
                Ok(data) => reply.data(&data),
                Err(errno) => reply.error(to_fuse(errno)),
            }
        }));
    }

    pub(super) fn sync(&self, op: Op<'static>, reply: ReplyEmpty) {
        let finish = move |result: Result<Done, i32>| match result {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.service.sync(&self.volume, &op, Box::new(finish));
    }

    pub(super) fn forgotten(&self, ino: INodeNo, count: u64) {
        self.service
            .send_time_before_forgetting(&self.volume, id(ino));
        if let Some(node) = self.volume.nodes.forget(id(ino), count) {
            if node.is_dir() {
                self.volume.streams.drop_one(node.id);
            }
            self.service.unbind(&self.volume, &node);
        }
    }

    /// The caller, for what may clear set-id bits.
    pub(super) fn writer(&self, req: &Request, ino: INodeNo, drops: bool) -> Cred {
        let privileges = match drops && self.is_guarded(ino) {
            true if !self.outside_group(req, ino) => Privileges::DropAsMember,
            _ if drops => Privileges::Drop,
            _ => Privileges::AsRoot,
        };
        Cred {
            uid: req.uid(),
            gid: req.gid(),
            privileges,
        }
    }

    /// Whether a file has the set-group-id bit without group execution, which stays where a
    /// member of its group writes.
    fn is_guarded(&self, ino: INodeNo) -> bool {
        let mode = self.volume.mode(id(ino)).unwrap_or(0);
        mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID
    }

    /// Whether the caller belongs to none of the file's group's members. The kernel knows, but says
    /// it only in a form the crate does not read.
    pub(super) fn outside_group(&self, req: &Request, ino: INodeNo) -> bool {
        let Ok(stat) = self.volume.stat(id(ino)) else {
            return false;
        };
        if req.uid() == 0 || req.gid() == stat.st_gid {
            return false;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", req.pid()));
        let status = status.unwrap_or_default();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
        let group = stat.st_gid.to_string();
        !groups
            .unwrap_or_default()
            .split_whitespace()
            .any(|g| g == group)
    }
}
