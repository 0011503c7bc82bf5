//! lab
pub(crate) mod loopdev;
pub(crate) mod mkext4;
pub(crate) mod mounts;
pub(crate) mod signals;
pub(crate) mod sys;
