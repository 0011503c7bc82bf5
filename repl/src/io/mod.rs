//! What replication does: the QUIC link, its threads, record and marks on disk.
//!
//! * [`clock`]: the time of leases and deadlines.
//! * [`tls`]: who may speak.
//! * [`paths`]: the networks between the nodes, one address to QUIC.
//! * [`link`]: one QUIC connection with the peer, without threads of its own.
//! * [`record`]: the durable record.
//! * [`journal`]: the dirty map's durable part.
//! * [`witness`]: asking the third party; [`ping`]: whether an address answers.
//! * [`timed`]: a TCP stream with one deadline.
//! * [`driver`]: the threads that join link, logic and tree.

pub mod clock;
pub mod driver;
pub mod journal;
mod link;
mod paths;
pub mod ping;
pub(crate) mod random;
pub mod record;
mod socket;
pub mod timed;
pub mod tls;
pub mod witness;
