//! The replicated directory: covers a directory in place with a FUSE mount, applies every change
//! here and on the peer.

pub mod config;
pub mod daemon;
mod error;
mod io;
pub mod logic;

pub use io::mount::MountError;

/// Whether a directory could be covered now, by its file system and by what is mounted there;
/// touches nothing.
///
/// # Errors
/// Why it could not be.
pub fn examine(directory: &std::path::Path) -> Result<(), MountError> {
    io::mount::examine(directory).map(|_| ())
}
