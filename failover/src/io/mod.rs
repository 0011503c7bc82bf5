//! What the manager does to the world: addresses, programs, looks at things.

pub mod check;
mod proc;
pub mod run;
pub mod services;
mod within;
