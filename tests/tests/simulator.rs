//! The simulator over seeds that found something once, and over a range of others. `tests/run` goes
//! on with a new range for each commit, `tests/simulate` for as long as one likes; what they find
//! goes to the kept seeds.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::process::Command;
use tandem_tests::sim::kept::KEPT;
use tandem_tests::sim::run::run_crude;

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

#[test]
fn seeds_that_found_something_find_it_no_more() {
    for (seed, what) in KEPT {
        let outcome = run_crude(*seed);
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}, which once found \"{what}\": {violation}");
        }
    }
}
