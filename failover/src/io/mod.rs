//! What the manager does to the world: addresses, programs, looks at things.

mod proc;
pub mod run;
mod within;
