//! Whole clusters in one thread, in virtual time, from one seed: two nodes and a witness, with the
//! member machine, dirty map and resync of the product, under faults of network, disks, processes
//! and power, while oracles look on.
//!
//! * [`world`] is time, the queue of events, and who is there; [`options`] and [`faults`] are what
//!   the seed decides; [`run`] is one run, [`hunt`] many of them.
//! * [`node`], [`director`], [`serve`], [`follow`] and [`resync`] do what the product's driver and
//!   file system service do, over [`tree`] (a replica with a page cache), [`disk`] (record and
//!   journal) and [`net`] (connections as of QUIC).
//! * [`client`], [`manager`] and [`witness`] are who else takes part; in about half of the runs the
//!   product's failover manager ([`seat`]) instead of the crude one, which gives stranger orders.
//! * [`check`] holds the oracles, one file each.
//!
//! A rule of the product can be switched off ([`options::Rules`]); then the oracles must find
//! something, which `tests/tests/sharpness.rs` shows for each.

pub mod attacks;
pub mod change;
pub mod check;
pub mod client;
pub mod director;
pub mod disk;
pub mod faults;
pub mod follow;
pub mod hunt;
pub mod kept;
pub mod manager;
pub mod net;
pub mod node;
pub mod options;
pub mod resync;
pub mod resync_trees;
pub mod run;
pub mod seat;
pub mod serve;
pub mod sharp;
pub mod tree;
pub mod witness;
pub mod world;

use change::Change;
use tandem_repl::ids::OpSeq;
use tandem_repl::logic::resync::messages::{Reply, Request};
use tandem_repl::wire::Control;

/// Microseconds since the run began.
pub type Time = u64;

/// Version of the stream that both speak.
pub const WIRE: u16 = tandem_repl::wire::WIRE_VERSION;

/// A message of a connection.
#[derive(Clone, Debug)]
pub enum Msg {
    Control(Box<Control>),
    /// An operation, with its number among all of the run for the oracles.
    Op(OpSeq, u64, Change),
    Ack(OpSeq, i32),
    Request(u64, Box<Request>),
    Reply(u64, Box<Reply>),
}
