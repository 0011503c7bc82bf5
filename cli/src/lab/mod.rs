//! `tandem lab`: a whole throw-away cluster on one machine, for trying, testing and measuring.
//!
//! A node is what a container is: namespaces for processes, network, mounts, host name and IPC,
//! held by an init process of its own. Unlike a container it has a disk (a loop-mounted ext4 image
//! with a journal), and killing it takes everything in it at once. The nodes' cables end at a
//! bridge which lives in yet another namespace, so that nothing is made on the host but mounts
//! below the lab's directory.
//!
//! No external program is needed. What is a program elsewhere (`mkfs`, `mount`, `losetup`, `ip`,
//! `nsenter`) is a file here. What it is not: isolation from hostile programs, and a power cut: a
//! killed node's writes stay in the page cache, as after a crash of all its processes.
//!
//! [`cluster::Lab`] is the interface for the rest of this program.

mod args;
pub(crate) mod cluster;
mod commands;
pub(crate) mod control;
mod disk;
mod enter;
mod init;
mod launch;
mod loopdev;
mod mkext4;
mod mounts;
mod network;
pub(crate) mod place;
mod report;
mod roles;
pub(crate) mod settings;
pub(crate) mod signals;
mod state;
mod sys;
mod teardown;

pub(crate) use args::LabArgs;
pub(crate) use commands::run;
pub(crate) use init::{NodeArgs, run as run_node};
pub(crate) use sys::free_space;
