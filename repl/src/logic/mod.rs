//! What replication decides. Nothing here reads a clock, a file, a socket or a random source:
//! inputs and the time come in, outputs go out, so that a whole cluster can run in one test thread.
//!
//! * [`record`]: what a node durably knows about its replica.
//! * [`verdict`]: what two records, or one and a witness, allow.
//! * [`witness`]: the witness' register.
//! * [`rules`]: switches for tests that prove each rule needed.
//! * [`acks`]: which operations wait for the peer, and since when.
//! * [`dirty`]: what may differ between the replicas.
//! * [`resync`]: how a stale replica is brought up.
//! * [`member`]: one node's part in the pair: role, session, growing and shrinking the in-sync set.
//! * [`paths`]: which network the link sends on.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod acks;
pub mod dirty;
pub mod latency;
pub mod member;
pub mod paths;
pub mod record;
pub mod resync;
pub mod rules;
pub mod verdict;
pub mod witness;
