//! A short series of power cuts, and the proof that they would show a forgotten flush. The long
//! series is `tests/power --rounds N`.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::process::Command;
use std::sync::Mutex;
use tandem_tests::cluster::{binary, skipped};
use tandem_tests::power::engine::USER_MODE_LINUX;
use tandem_tests::power::postgresql::WITHOUT_POSTGRESQL;

/// Guests have little to do with each other, but there are few processors.
static ONE_AFTER_THE_OTHER: Mutex<()> = Mutex::new(());

/// Runs the program outside the guests, unless this machine cannot run guests.
fn power(test: &str, arguments: &[&str]) {
    let Some(binary) = binary(test) else {
        return;
    };
    if !cfg!(target_arch = "x86_64") {
        return skipped(test, "Debian has User-Mode Linux for x86-64 only");
    }
    let version = Command::new(USER_MODE_LINUX).arg("--version").output();
    if !version.is_ok_and(|version| version.status.success()) {
        let why = format!("{USER_MODE_LINUX} does not run; apt-get install user-mode-linux");
        assert!(
            std::env::var_os("TANDEM_REQUIRE_CLUSTER").is_none(),
            "{test}: {why}"
        );
        return skipped(test, &why);
    }
    let _turn = ONE_AFTER_THE_OTHER.lock();
    // Its own limits end it when a guest hangs.
    let mut power = Command::new(env!("CARGO_BIN_EXE_power"));
    let power = power.args(arguments).env("TANDEM_BIN", binary);
    let output = power.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}{errors}");
    assert!(output.status.success(), "{test}: {}", output.status);
    if said.contains(WITHOUT_POSTGRESQL) {
        assert!(
            std::env::var_os("TANDEM_REQUIRE_CLUSTER").is_none(),
            "{test}: {WITHOUT_POSTGRESQL}"
        );
        skipped(test, WITHOUT_POSTGRESQL);
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
