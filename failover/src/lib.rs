//! Failover: which node serves a module, and making it so.
//!
//! The failover manager watches both nodes, owns the virtual addresses and the application, and
//! starts the application only where the file system daemon proves the replica current. See
//! `docs/failover.md`. [`logic`] decides, [`io`] does, and [`driver`] connects.
//!
//! * [`config`]: what the manager must know
//! * [`control`]: what it can be asked
//! * [`client`]: the asking side of control sockets

pub mod client;
pub mod config;
pub mod control;
pub mod driver;
pub mod io;
pub mod logic;
