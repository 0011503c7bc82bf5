//! A short series of power cuts, and the proof that they would show a forgotten flush. The long
//! series is `tests/power --rounds N`.

use tandem_tests::power::available::{lacks, run};
use tandem_tests::power::postgresql::WITHOUT_POSTGRESQL;

fn power(test: &str, arguments: &[&str]) {
    let said = run(test, env!("CARGO_BIN_EXE_power"), arguments);
    if said.is_some_and(|said| said.contains(WITHOUT_POSTGRESQL)) {
        lacks(test, WITHOUT_POSTGRESQL);
    }
}

#[test]
fn nothing_promised_is_lost_by_three_power_cuts() {
    power("three power cuts", &["--rounds", "3"]);
}

#[test]
fn a_forgotten_flush_is_noticed() {
    power("a forgotten flush", &["--self-test"]);
}
