//! Replication of one module between two nodes: what can change a tree, how it travels, who must
//! hold it before it is acknowledged. Knows neither FUSE nor failover.

pub mod control;
pub mod ids;
