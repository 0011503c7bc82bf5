//! Failover: which node serves a module, and making it so.
//!
//! This crate will be the failover manager: it watches both nodes over several paths, owns the
//! virtual IP and the application, and starts the application only on a node whose copy is proven
//! current. Its decisions will live in `logic/`, its effects in `io/`.
//!
//! Today it holds one part of that, the [`client`] of a module's control socket, because the
//! command line needs it already. Nothing here starts, watches or fails over anything yet.

#![forbid(unsafe_code)]

pub mod client;
