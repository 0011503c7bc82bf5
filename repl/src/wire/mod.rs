//! Frames of the replication stream: bytes to messages and back. Pure, versioned, bounded.
//!
//! ```text
//!  0        4      5      6       8          16
//!  ├ body   ├ kind ├ zero ├ dir ──┤ sequence ┤ body: fixed fields ┤ names, data
//!  │ length │ u8   │ u8   │ u16   │ u64
//! ```
//! All numbers are little-endian. `body length` counts everything after the 16 byte header. A
//! frame that is longer than [`crate::limits::MAX_BODY`], has an unknown kind, or does not use
//! exactly its length is refused; the session then ends, the daemon goes on.

mod control;
mod fields;
mod frame;
mod ops;
mod probe;
mod raw;
mod resync;
mod witness;

pub use control::{Control, Hello, Meet, Reject};
pub use frame::{
    Frame, FrameHeader, HEADER, Message, encode_ack, encode_control, encode_data, encode_op,
    encode_reply, encode_request,
};
pub use probe::{PROBE_KEY, decode_probe, encode_probe, is_probe};
pub use raw::WireError;
pub use witness::{
    Held, Trouble, WITNESS_ALPN, WITNESS_HEADER, WITNESS_VERSION, WitnessReply, WitnessRequest,
    decode_witness, encode_witness, witness_body,
};

/// Version of the stream. Both ends name the range they speak in their hello and use the highest
/// common one; a change that an old node would misread raises it.
pub const WIRE_VERSION: u16 = 3;
/// Oldest version still spoken.
pub const WIRE_VERSION_MIN: u16 = 3;
