//! What the manager does to the world: addresses, programs, looks at things.

pub mod witness_server;
