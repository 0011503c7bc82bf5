//! What the file system does.
//!
//! * [`fuse`]: the kernel's requests; [`mount`]: covering a directory and uncovering it;
//! * [`service`]: the way of a change; [`names`]: entries and introductions; [`read`], [`readdir`]:
//!   what only reads; [`tree`]: what the driver asks;
//! * [`apply`]: one operation done, the same code on both nodes; [`times`]: file times that follow;
//! * [`marks`]: what may differ from the peer, marked before it changes;
//!   [`lasting`]: who a file is;
//! * [`backing`], [`nodes`], [`identity`], [`sys`]: the underlying tree;
//!   [`fingerprint`]: what it is, in a few bytes;
//! * [`resync`]: the tree as a resync reads and changes it;
//! * [`scrub`]: when both replicas are compared;
//! * [`control`]: the control socket; [`pool`]: threads for disk waits.

pub(crate) mod apply;
pub(crate) mod backing;
pub(crate) mod control;
pub(crate) mod fingerprint;
pub(crate) mod fuse;
pub(crate) mod identity;
pub(crate) mod lasting;
pub(crate) mod marks;
pub(crate) mod mount;
pub(crate) mod mounted_at;
pub(crate) mod names;
pub(crate) mod nodes;
pub(crate) mod outside;
pub(crate) mod pool;
pub(crate) mod read;
pub(crate) mod readdir;
pub(crate) mod resync;
pub(crate) mod scrub;
pub(crate) mod service;
pub(crate) mod sys;
pub(crate) mod times;
pub(crate) mod tree;
