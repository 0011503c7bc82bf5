//! The kernel's types to ours.

use crate::error::{errno_of, to_fuse};
use fuser::{Errno, INodeNo, Request, TimeOrNow};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tandem_repl::ids::FileId;
use tandem_repl::op::{Cred, Privileges, TimeSet, Timespec};

pub(super) fn id(ino: INodeNo) -> FileId {
    FileId(ino.0)
}

pub(super) fn fail(error: &io::Error) -> Errno {
    to_fuse(errno_of(error))
}

/// The caller, for what it creates.
pub(super) fn cred(req: &Request) -> Cred {
    Cred {
        uid: req.uid(),
        gid: req.gid(),
        privileges: if req.uid() == 0 {
            Privileges::AsRoot
        } else {
            Privileges::Drop
        },
    }
}

pub(super) fn time_set(time: Option<TimeOrNow>) -> TimeSet {
    match time {
        None => TimeSet::Keep,
        Some(TimeOrNow::Now) => TimeSet::Now,
        Some(TimeOrNow::SpecificTime(t)) => TimeSet::To(timespec(t)),
    }
}

pub(super) fn timespec(time: SystemTime) -> Timespec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(d) => Timespec {
            sec: d.as_secs().cast_signed(),
            nsec: d.subsec_nanos(),
        },
        // fuser turns -5 s + 0.25 s into 5.25 s before 1970; the parts are told apart again here.
        Err(before) => {
            let d = before.duration();
            Timespec {
                sec: -d.as_secs().cast_signed(),
                nsec: d.subsec_nanos(),
            }
        }
    }
}
