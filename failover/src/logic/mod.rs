//! What the failover manager decides. Nothing here reads a clock, a file, a socket or a random
//! source: inputs and the time come in, outputs go out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod checker;
