//! Several clients at once, on a bare directory and on two nodes.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use tandem_tests::concurrent::{CASES, run};
use tandem_tests::rng::seed;
use tandem_tests::scratch::Scratch;

#[test]
fn every_case_holds_on_a_bare_directory() {
    let place = Scratch::new().unwrap();
    let seed = seed("concurrent");
    let failed = CASES
        .iter()
        .filter_map(|case| run(place.place(), case, seed).err());
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
