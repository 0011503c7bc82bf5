//! The resync on the underlying tree: [`source`] reads it, [`target`] changes it. Both name files
//! by their handles ([`ground`]).

pub(crate) mod aside;
mod attributes;
mod content;
mod ground;
mod parking;
mod peer_marks;
mod session;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use parking::tidy_at_start;
pub(crate) use source::Source;
pub(crate) use target::FsTarget;
