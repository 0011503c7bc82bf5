//! What the manager does to the world: addresses, programs, looks at things.
//!
//! * [`daemon`]: a module's file system daemon: started, watched, asked
//! * [`store`], [`events`]: what is kept of wishes, of what runs, and of what was decided
//! * [`inspect`]: what a node shows another, to be compared
//! * [`peers`]: the link to the other managers
//! * [`run`], [`services`]: scripts and units
//! * [`check`]: looks at things
//! * [`vip`]: virtual addresses: taken, announced, watched, released
//! * [`watchdog`]: resets a machine whose manager is silent
//! * [`witness_server`]: the third party

pub mod change;
pub mod check;
pub mod daemon;
pub mod events;
pub mod inspect;
pub mod peers;
mod proc;
pub mod run;
pub mod services;
pub mod store;
pub mod vip;
pub mod watchdog;
mod within;
pub mod witness_server;
