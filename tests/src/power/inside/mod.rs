//! What runs inside a guest.

pub mod agent;
pub mod boot;
pub mod drive;
pub mod files;
pub mod init;
pub mod start;
pub mod tree;
