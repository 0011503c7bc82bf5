//! Whole-system tests and what they are made of: oracles, generators, and the harness that runs
//! them on a bare directory and on a cluster of two nodes.
//!
//! Everything here works relative to an open directory, so the same test runs on an ext4, on a
//! mount inside another node's namespace, and on the tree below that mount.

pub mod acl;
pub mod application;
pub mod broken_disk;
pub mod cluster;
pub mod concurrent;
pub mod etcd;
pub mod failovers;
pub mod frames;
pub mod generate;
pub mod load;
pub mod managed;
pub mod managed_world;
pub mod mirror;
pub mod model;
pub mod ops;
pub mod posix;
pub mod power;
pub mod rng;
pub mod running;
pub mod scratch;
pub mod sim;
pub mod sys;
pub mod tidy;
pub mod tree;
