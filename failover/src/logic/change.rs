//! A changed configuration is brought to both nodes of a module, or to none.
//!
//! * [`keys`]: what may change while a module runs, and where two nodes differ.
//! * [`pact`]: the two nodes' agreement, step by step, whatever is lost in between.

pub mod keys;
pub mod pact;
#[cfg(test)]
mod tests;
