//! A mirror on two servers that systemd runs, with the unit that is delivered: shutdown, reboot, and
//! what systemd does with a manager that dies or hangs (acceptance rows M08, M30; M23 and M24 below
//! systemd).

use std::path::Path;
use tandem_tests::power::available::{lacks, run};
use tandem_tests::power::inside::boot::SYSTEMD;

/// Of the package `dbus`, beside its programs.
const DBUS: &str = "/usr/lib/systemd/system/dbus.service";

fn boot(test: &str, story: &str) {
    for file in [SYSTEMD, DBUS] {
        if !Path::new(file).exists() {
            return lacks(
                test,
                &format!("there is no {file}; apt-get install systemd dbus"),
            );
        }
    }
    run(test, env!("CARGO_BIN_EXE_power"), &["boot", story]);
}

#[test]
fn m08_a_shutdown_hands_over_at_once_and_a_boot_makes_a_follower() {
    boot("M08", "shutdown");
}

#[test]
fn m30_a_reboot_starts_what_is_to_be_started() {
    boot("M30", "reboot");
}

#[test]
fn m24_systemd_starts_a_manager_anew_that_dies_or_hangs() {
    boot("M24, M23 below systemd", "manager");
}
