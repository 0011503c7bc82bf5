//! The simulator over seeds that were clean when they were chosen. `tests/simulate` goes on with
//! others; what it finds is kept here by its seed.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::process::Command;

/// Runs the program with these arguments; it fails on a finding and says how to replay it.
fn simulate(arguments: &[&str]) {
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_simulate"));
    let output = simulate.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}{errors}");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
}

#[test]
fn a_range_of_seeds_has_no_finding() {
    simulate(&["--seeds", "100", "--from", "1"]);
}
