//! The `tandem` program: one binary for the daemons and for every command.

mod lab;
#[allow(dead_code, reason = "used by the commands that follow")]
mod pki;

fn main() {}
