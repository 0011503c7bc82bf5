//! Replication of one module between two nodes: what can change a tree, how it travels, who must
//! hold it before it is acknowledged. Knows neither FUSE nor failover.

pub mod control;
pub mod ids;
pub mod io;
pub mod limits;
pub mod logic;
pub mod op;
pub mod wire;
