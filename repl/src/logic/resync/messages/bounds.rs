//! Bounds of what came over the wire, beyond those its types keep.

use super::super::bounded::is_name;
use super::{Attrs, BLOCK, Kind, PeerMark, PeerTouch, Reply, Request};
use crate::limits::{MAX_NAME, MAX_TARGET, MAX_XATTR};

impl Request {
    /// Whether everything in it is within bounds; the types have checked the rest.
    pub(crate) fn is_sane(&self) -> bool {
        match self {
            Self::Open(open) => open.aside.as_ref().is_none_or(|a| a.reason.len() <= 4096),
            Self::Check { entries, .. } => {
                let mut kinds = entries.iter().filter_map(|e| e.there.as_ref());
                kinds.all(|has| has.kind.is_sane())
            }
            Self::Put { entries, .. } => entries.iter().all(|e| e.has.kind.is_sane()),
            Self::Files { files, .. } => files
                .iter()
                .all(|f| f.attrs.is_sane() && f.others.iter().all(|n| is_xattr_name(n))),
            Self::Xattrs { set, .. } => set.iter().all(is_xattr),
            Self::Hashes { files, .. } => files.iter().all(|f| {
                f.offset.is_multiple_of(BLOCK) && is_offset(f.offset) && is_offset(f.size)
            }),
            Self::Data { offset, .. } => is_offset(*offset),
            Self::Zero { offset, len, .. } => {
                is_offset(*offset) && offset.checked_add(*len).is_some_and(is_offset)
            }
            Self::Settle { dirs, .. } => dirs
                .iter()
                .all(|d| d.attrs.is_sane() && d.others.iter().all(|n| is_xattr_name(n))),
            _ => true,
        }
    }
}

impl Reply {
    /// As [`Request::is_sane`].
    pub(crate) fn is_sane(&self) -> bool {
        match self {
            Self::Marks { marks, .. } => marks.iter().all(PeerMark::is_sane),
            Self::Listed { entries, .. } => entries.iter().all(|(_, found)| found.kind.is_sane()),
            Self::Failed { what, .. } => what.len() <= 4096,
            _ => true,
        }
    }
}

impl PeerMark {
    fn is_sane(&self) -> bool {
        let names = match &self.what {
            PeerTouch::Names(names) => names.iter().all(|n| is_name(n)),
            _ => true,
        };
        names && self.way.iter().all(|(_, n)| is_name(n))
    }
}

impl Kind {
    fn is_sane(&self) -> bool {
        match self {
            Self::Symlink(target) => {
                !target.is_empty() && target.len() <= MAX_TARGET && !target.contains(&0)
            }
            _ => true,
        }
    }
}

impl Attrs {
    fn is_sane(&self) -> bool {
        let times = self.atime.1 < 1_000_000_000 && self.mtime.1 < 1_000_000_000;
        let mode = self.mode & !0o7777 == 0;
        mode && times && is_offset(self.size) && self.xattrs.iter().all(is_xattr)
    }
}

fn is_offset(value: u64) -> bool {
    i64::try_from(value).is_ok()
}

fn is_xattr((name, value): &(Vec<u8>, Vec<u8>)) -> bool {
    is_xattr_name(name) && value.len() <= MAX_XATTR
}

fn is_xattr_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains(&0)
}
