//! The replicated directory: covers a directory in place with a FUSE mount, applies every change
//! here and on the peer.

pub mod config;
