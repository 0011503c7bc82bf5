//! The replicated directory: covers a directory in place with a FUSE mount, applies every change
//! here and on the peer.

pub mod config;
pub mod daemon;
mod error;
mod io;
pub mod logic;

pub use io::mount::MountError;
