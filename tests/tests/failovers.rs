//! A short series of failovers; the long one is `tests/failovers --count N`.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use tandem_tests::cluster::binary;
use tandem_tests::failovers::{Options, run};
use tandem_tests::rng::seed;

#[test]
fn failovers_of_every_kind_lose_nothing() {
    let Some(binary) = binary("a series of failovers") else {
        return;
    };
    let options = Options {
        count: 10,
        seed: seed("failovers"),
        only: None,
    };
    run(binary, env!("CARGO_BIN_EXE_inside"), &options).unwrap();
}
