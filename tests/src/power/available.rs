//! The program of the guests as tests run it.

use super::engine::USER_MODE_LINUX;
use crate::cluster::{binary, skipped};
use std::process::Command;
use std::sync::Mutex;

/// Guests have little to do with each other, but there are few processors.
static ONE_AFTER_THE_OTHER: Mutex<()> = Mutex::new(());

/// Runs the program outside the guests, unless this machine cannot run guests; what it said.
///
/// # Panics
/// It fails, or cannot run where it must.
pub fn run(test: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let binary = binary(test)?;
    if !cfg!(target_arch = "x86_64") {
        skipped(test, "Debian has User-Mode Linux for x86-64 only");
        return None;
    }
    let version = Command::new(USER_MODE_LINUX).arg("--version").output();
    if !version.is_ok_and(|version| version.status.success()) {
        lacks(
            test,
            &format!("{USER_MODE_LINUX} does not run; apt-get install user-mode-linux"),
        );
        return None;
    }
    let _turn = ONE_AFTER_THE_OTHER.lock();
    // Its own limits end it when a guest hangs.
    let mut power = Command::new(program);
    let power = power.args(arguments).env("TANDEM_BIN", binary);
    let output = match power.output() {
        Ok(output) => output,
        Err(error) => panic!("{test}: {program}: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}{errors}");
    assert!(output.status.success(), "{test}: {}", output.status);
    Some(said)
}

/// A test cannot run here, for want of something that can be installed.
///
/// # Panics
/// It must run.
pub fn lacks(test: &str, why: &str) {
    assert!(
        std::env::var_os("TANDEM_REQUIRE_CLUSTER").is_none(),
        "{test}: {why}"
    );
    skipped(test, why);
}
