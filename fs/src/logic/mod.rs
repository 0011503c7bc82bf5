//! What the file system decides: how a file is opened, which paths a pattern means, who may change.
//! Pure: no clock, no file, no socket.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod hold;
pub mod join;
pub mod open;
pub mod pattern;
