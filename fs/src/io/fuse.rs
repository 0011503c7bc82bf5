//! The kernel's requests, turned into operations and reads. Decides nothing.

mod change;
mod convert;

use super::read::{attr, entry_kind};
use super::service::{Done, Service, Volume, Write};
use super::sys;
use crate::error::{errno_of, to_fuse};
use convert::{cred, fail, id, time_set};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tandem_repl::ids::{FileId, Uid};
use tandem_repl::limits::{MAX_NAME, MAX_TARGET, MAX_XATTR};
use tandem_repl::logic::latency::Class;
use tandem_repl::op::{AttrSet, Durability, Kind, Op, Privileges};

/// Handles carry generations, so ids are never used again for another file.
const GENERATION: Generation = Generation(1);
/// How long the kernel may believe that a name does not exist. Unlike what exists, such knowledge
/// cannot be taken back when this node stops serving.
const NOTHING_TTL: Duration = Duration::from_secs(1);
/// Background requests (read-ahead, page write-back) the kernel may have under way.
const MAX_BACKGROUND: u16 = 64;
/// Largest write the kernel sends at once, bytes.
const MAX_WRITE: u32 = 1 << 20;

thread_local! {
    /// Reads are answered from here; grows to the largest read, at most [`MAX_WRITE`].
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One mounted directory.
pub(crate) struct Adapter {
    pub(crate) service: Arc<Service>,
    pub(crate) volume: Arc<Volume>,
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is used where the running kernel has it; none is needed for being right.
        for wanted in [
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            if config.add_capabilities(wanted).is_err() {
                tracing::info!("the kernel lacks {wanted:?}");
            }
        }
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ttl = self.service.ttl();
        match self.volume.look_up(id(parent), name.as_bytes()) {
            Ok((node, stat)) => reply.entry(&ttl, &attr(node.id, &stat), GENERATION),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) && !ttl.is_zero() => {
                // Node id 0: the kernel may remember that there is nothing.
                // SAFETY: none needed; zeroed attributes are a value.
                let none = attr(FileId(0), &sys::no_stat());
                reply.entry(&NOTHING_TTL, &none, Generation(0));
            }
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, count: u64) {
        self.forgotten(ino, count);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.volume.stat(id(ino)) {
            Ok(stat) => reply.attr(&self.service.ttl(), &attr(id(ino), &stat)),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let clears = size.is_some() || uid.is_some() || gid.is_some();
        let (atime, mtime) = (time_set(atime), time_set(mtime));
        let set = AttrSet {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        };
        let op = Op::SetAttr {
            id: id(ino),
            set,
            cred: self.writer(req, ino, clears && req.uid() != 0),
        };
        let ttl = self.service.ttl();
        let volume = self.volume.clone();
        let finish = move |result: Result<Done, i32>| match result {
            Ok(Done {
                stat: Some(stat), ..
            }) => reply.attr(&ttl, &attr(id(ino), &volume.shown(id(ino), stat))),
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.change(&op, Box::new(finish));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.volume.readlink(id(ino)) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let format = mode & libc::S_IFMT;
        let device = matches!(format, libc::S_IFCHR | libc::S_IFBLK);
        if device && !self.service.devices {
            return reply.error(Errno::EPERM);
        }
        let kind = match format {
            0 | libc::S_IFREG => Kind::File,
            _ => Kind::Node { format, rdev },
        };
        self.make(req, (parent, name), kind, (mode & 0o7777, umask), reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.make(
            req,
            (parent, name),
            Kind::Directory,
            (mode & 0o7777, umask),
            reply,
        );
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        if target.len() > MAX_TARGET {
            return reply.error(Errno::ENAMETOOLONG);
        }
        self.make(
            req,
            (parent, name),
            Kind::Symlink(target),
            (0o777, 0),
            reply,
        );
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change_empty(
            &Op::Unlink {
                parent: id(parent),
                name: name.as_bytes(),
            },
            reply,
        );
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change_empty(
            &Op::Rmdir {
                parent: id(parent),
                name: name.as_bytes(),
            },
            reply,
        );
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if newname.len() > MAX_NAME {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let op = Op::Rename {
            parent: id(parent),
            name: name.as_bytes(),
            new_parent: id(newparent),
            new_name: newname.as_bytes(),
            flags: flags.bits(),
            cred: cred(req),
        };
        self.change_empty(&op, reply);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        if newname.len() > MAX_NAME {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let op = Op::Link {
            id: id(ino),
            parent: id(newparent),
            name: newname.as_bytes(),
        };
        let ttl = self.service.ttl();
        let volume = self.volume.clone();
        let finish = move |result: Result<Done, i32>| match result {
            Ok(Done {
                stat: Some(stat), ..
            }) => {
                // The answer counts as a lookup.
                if let Some(node) = volume.nodes.get(id(ino)) {
                    node.state().lookups += 1;
                }
                reply.entry(&ttl, &attr(id(ino), &stat), GENERATION);
            }
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.change(&op, Box::new(finish));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.service.open(&self.volume, id(ino), flags.0) {
            Ok(how) => reply.opened(FileHandle(0), how),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size.min(MAX_WRITE) as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let began = self.service.meters.is_on().then(Instant::now);
            let read = self.volume.read(id(ino), &mut buffer[..size], offset);
            self.service.note(Class::Read, began);
            match read {
                Ok(n) => reply.data(&buffer[..n]),
                Err(e) if errno_of(&e) == libc::EIO => {
                    self.read_from_peer(id(ino), offset, size, reply);
                }
                Err(e) => reply.error(fail(&e)),
            }
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // Pages of a shared mapping are written back when the kernel likes: no sync is due.
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let drops = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let mut cred = self.writer(req, ino, drops && !from_cache);
        if from_cache {
            cred.privileges = Privileges::Keep;
        }
        let durability = match flags.0 & libc::O_SYNC {
            _ if from_cache => Durability::Memory,
            0 => Durability::Memory,
            libc::O_SYNC => Durability::File,
            _ => Durability::Data,
        };
        let write = Write {
            id: id(ino),
            offset,
            data,
            durability,
            cred,
        };
        let finish = move |result: Result<usize, i32>| match result {
            Ok(written) => reply.written(written as u32),
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.service.write(&self.volume, write, Box::new(finish));
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing waits to be flushed; the kernel need not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(node) = self.volume.nodes.closed(id(ino)) {
            self.service.unbind(&self.volume, &node);
        }
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(
            Op::Fsync {
                id: id(ino),
                data_only: datasync,
            },
            reply,
        );
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Directories need no opening; the kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let read = self
            .volume
            .streams
            .get(&self.volume.nodes, id(ino))
            .and_then(|stream| {
                stream.read(id(ino), None, offset.cast_signed(), |entry| {
                    let name = OsStr::from_bytes(entry.name.to_bytes());
                    // The kernel takes 0 for unknown: the number comes with the entry's lookup.
                    let ino = INodeNo(u64::MAX);
                    !reply.add(
                        ino,
                        entry.next.cast_unsigned(),
                        entry_kind(entry.kind),
                        name,
                    )
                })
            });
        match read {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let ttl = self.service.ttl();
        let nodes = &self.volume.nodes;
        let own = self.volume.stat(id(ino));
        let mut given = 0;
        let read = own.and_then(|own| {
            let stream = self.volume.streams.get(&self.volume.nodes, id(ino))?;
            stream.read(id(ino), Some(nodes), offset.cast_signed(), |entry| {
                let name = OsStr::from_bytes(entry.name.to_bytes());
                let attr = match &entry.node {
                    Some((node, stat)) => attr(node.id, stat),
                    None if name == ".." => attr(self.volume.parent_of(id(ino)), &own),
                    None => attr(id(ino), &own),
                };
                let next = entry.next.cast_unsigned();
                given += 1;
                !reply.add(attr.ino, next, name, &ttl, &attr, GENERATION)
            })
        });
        match read {
            Ok(()) => reply.ok(),
            // What was given counts as references, so it must arrive; the error comes with the
            // next.
            Err(_) if given > 0 => reply.ok(),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(
            Op::Fsync {
                id: id(ino),
                data_only: datasync,
            },
            reply,
        );
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match sys::fstatvfs(self.volume.backing.root_fd()) {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                s.f_bsize as u32,
                s.f_namemax as u32,
                s.f_frsize as u32,
            ),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if name.len() > MAX_NAME {
            return reply.error(Errno::ERANGE);
        }
        if value.len() > MAX_XATTR {
            return reply.error(Errno::E2BIG);
        }
        let op = Op::SetXattr {
            id: id(ino),
            name: name.as_bytes(),
            value,
            flags,
            clear_setgid: name == "system.posix_acl_access" && self.outside_group(req, ino),
        };
        self.change_empty(&op, reply);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let mut buf = vec![0; (size as usize).min(MAX_XATTR)];
        match self.volume.getxattr(id(ino), name.as_bytes(), &mut buf) {
            Ok(n) if size == 0 => reply.size(n as u32),
            Ok(n) => reply.data(&buf[..n]),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.volume.listxattr(id(ino), req.uid()) {
            Ok(list) if size == 0 => reply.size(list.len() as u32),
            Ok(list) if list.len() > size as usize => reply.error(Errno::ERANGE),
            Ok(list) => reply.data(&list),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if name.len() > MAX_NAME {
            return reply.error(Errno::ERANGE);
        }
        self.change_empty(
            &Op::RemoveXattr {
                id: id(ino),
                name: name.as_bytes(),
            },
            reply,
        );
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself.
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        if name.len() > MAX_NAME {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let op = Op::Make {
            id: FileId(u64::MAX),
            uid: Uid::NONE,
            parent: id(parent),
            name: name.as_bytes(),
            kind: Kind::File,
            mode: mode & 0o7777,
            umask,
            cred: cred(req),
        };
        let ttl = self.service.ttl();
        let (service, volume) = (self.service.clone(), self.volume.clone());
        let name = name.to_os_string();
        let finish = move |result: Result<Done, i32>| match result {
            Ok(Done {
                stat: Some(stat),
                node: Some(node),
                ..
            }) => match service.open(&volume, node.id, flags) {
                Ok(how) => {
                    let attr = attr(node.id, &stat);
                    reply.created(&ttl, &attr, GENERATION, FileHandle(0), how);
                }
                Err(e) => {
                    volume.nodes.forget(node.id, 1);
                    reply.error(fail(&e));
                }
            },
            Ok(_) => reply.error(Errno::EIO),
            Err(libc::EEXIST) if flags & libc::O_EXCL == 0 => {
                Self { service, volume }.open_existing(parent, &name, flags, reply);
            }
            Err(errno) => reply.error(to_fuse(errno)),
        };
        self.change(&op, Box::new(finish));
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        if u64::from(cmd) == libc::FS_IOC_GETFLAGS {
            return match self.volume.inode_flags(id(ino)) {
                Ok(flags) => reply.ioctl(0, &flags.to_ne_bytes()),
                Err(e) => reply.error(fail(&e)),
            };
        }
        if u64::from(cmd) == libc::FS_IOC_SETFLAGS
            && let Some(bytes) = in_data.first_chunk::<4>()
        {
            let op = Op::SetFlags {
                id: id(ino),
                flags: u32::from_ne_bytes(*bytes),
            };
            let finish = move |result: Result<Done, i32>| match result {
                Ok(_) => reply.ioctl(0, &[]),
                Err(errno) => reply.error(to_fuse(errno)),
            };
            return self.change(&op, Box::new(finish));
        }
        if libc::c_ulong::from(cmd) == sys::FS_IOC_FSGETXATTR {
            // The kernel asks for this before it sets inode flags.
            return match self.volume.fs_xattr(id(ino)) {
                Ok(attr) => reply.ioctl(0, &attr),
                Err(e) => reply.error(fail(&e)),
            };
        }
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let op = Op::Fallocate {
            id: id(ino),
            mode,
            offset,
            len: length,
            cred: self.writer(req, ino, req.uid() != 0),
        };
        self.change_empty(&op, reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.volume.seek(id(ino), offset, whence) {
            Ok(at) => reply.offset(at),
            Err(e) => reply.error(fail(&e)),
        }
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then copies by reading and writing, which arrives as writes.
        reply.error(Errno::ENOSYS);
    }
}
