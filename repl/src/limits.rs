//! Every bound of the replication stream in one place. A length from the wire, the disk or the
//! kernel is compared with one of these before it is used.

use std::time::Duration;

/// Largest payload of one write frame, bytes. The kernel sends at most 1 MiB per FUSE write
/// (`max_pages` 256 of 4 KiB); a larger one is cut into frames of this size.
pub const MAX_DATA: usize = 256 * 1024;
/// Bytes compared by one [`crate::op::Op::Check`]: the file's changes wait while they are read.
pub const MAX_CHECK: usize = 1024 * 1024;
/// Longest file name, bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;
/// Longest symbolic link target, bytes (`PATH_MAX`).
pub const MAX_TARGET: usize = 4096;
/// Longest extended attribute value, bytes (`XATTR_SIZE_MAX`).
pub const MAX_XATTR: usize = 64 * 1024;
/// Longest frame body, bytes: the largest payload and room for fixed fields and names.
pub const MAX_BODY: usize = MAX_DATA + 16 * 1024;
/// Longest control message body, bytes.
pub const MAX_CONTROL: usize = 64 * 1024;
/// Longest frame to or from the witness, bytes: every epoch a node can name, and more.
pub const MAX_WITNESS: usize = 64 * 1024;
/// Bytes a node may have in flight to its peer before writers wait, and the QUIC windows.
pub const SEND_WINDOW: u64 = 32 * 1024 * 1024;
/// Operations that may wait for the peer at once; more wait outside.
pub const MAX_PENDING: usize = 16 * 1024;
/// Operations parked while the gate is frozen; each belongs to a waiting application thread.
pub const MAX_PARKED: usize = 16 * 1024;
/// Time between attempts to reach the peer.
pub const DIAL_INTERVAL: Duration = Duration::from_millis(300);
/// Least time without any packet after which a link counts as lost; otherwise the stall limit is.
pub const MIN_IDLE: Duration = Duration::from_millis(500);
/// Interval of packets that keep an idle link alive.
pub const KEEP_ALIVE: Duration = Duration::from_millis(120);

const _: () = assert!(
    MAX_XATTR + MAX_NAME + 1024 < MAX_BODY,
    "an xattr fits one frame"
);
const _: () = assert!(MAX_BODY < SEND_WINDOW as usize, "a frame fits the window");
const _: () = assert!(
    KEEP_ALIVE.as_millis() * 4 < MIN_IDLE.as_millis(),
    "several keep-alives may be lost before the link counts as lost"
);
