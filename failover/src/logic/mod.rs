//! What the failover manager decides. Nothing here reads a clock, a file, a socket or a random
//! source: inputs and the time come in, outputs go out.
//!
//! * [`api`]: the words the driver and the tests share with the machine.
//! * [`change`]: a changed configuration, on both nodes or on none.
//! * [`checker`]: when something that is looked at counts as down.
//! * [`level`]: what of a module runs here, and the one next step towards what should.
//! * [`module`]: one module on one node.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod api;
pub mod change;
pub mod checker;
pub mod level;
pub mod module;
pub mod rules;
