//! A mirror on two servers that systemd runs, by the unit that is delivered: shutdown, reboot, and
//! what systemd does with a manager that dies or hangs (acceptance rows M08, M30; M23 and M24 below
//! systemd); and a boot without the disk.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::path::Path;
use std::time::Duration;
use tandem_repl::control::State;
use tandem_tests::managed::{Options, SOON, Service};
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

#[test]
#[ignore = "open: the guest does not come up again after the device has reset it"]
fn the_kernels_watchdog_resets_a_machine_whose_manager_hangs() {
    boot("a kernel's watchdog", "watchdog");
}

/// A directory that has a disk of its own is there without it, too, and empty.
#[test]
fn m30_a_boot_without_the_disk_does_not_serve_an_empty_directory() {
    let helper = env!("CARGO_BIN_EXE_inside");
    let Some(mut service) = Service::up("M30, no disk", helper, &Options::default()) else {
        return;
    };
    service.ask().unwrap();
    service.tandem("node2", &["stop"]).unwrap();
    service.ready("node1", State::Alone).unwrap();
    service.tandem("node1", &["stop"]).unwrap();
    let without = "mkdir -p /run/without && mount --bind /run/without /mnt/disk/data";
    let node1 = |line: &str| service.cluster.exec("node1", &["sh", "-c", line]);
    node1(without).unwrap();
    let start = service.tandem("node1", &["start"]);
    let reason = service.waits_for("node1", "daemon").unwrap();
    println!("start: {start:?}; reason: {reason}");
    std::thread::sleep(Duration::from_secs(3));
    let shown = service.module("node1").unwrap();
    let waits = shown.state == State::Wait && shown.daemon.is_none();
    assert!(waits, "{shown:?}");
    node1("umount /mnt/disk/data").unwrap();
    let serves = |m: &tandem_failover::control::ModuleStatus| m.state == State::Alone;
    service.until("node1", "serves", SOON, serves).unwrap();
    service.tandem("node2", &["start"]).unwrap();
    service.in_sync("node1", "node2").unwrap();
    service.ends_well("node1", true).unwrap();
}
