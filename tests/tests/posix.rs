//! The table of POSIX cases: all pass on a plain ext4, and a replicated directory passes the same.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::sync::{Mutex, PoisonError};
use tandem_tests::cluster::{Cluster, binary, skipped};
use tandem_tests::posix::{KNOWN, differing, run_all, table, unexpected};
use tandem_tests::scratch::Scratch;
use tandem_tests::sys;

/// One test at a time: a program started by another test would hold copies of this test's
/// descriptors for a moment, and with them its locks and its busy programs.
static ALONE: Mutex<()> = Mutex::new(());

/// Part of a case's name, for work on one of them.
fn filter() -> String {
    std::env::var("TANDEM_CASE").unwrap_or_default()
}

#[test]
fn all_cases_pass_on_a_bare_file_system() {
    if !sys::is_root() {
        skipped("POSIX cases", "they act as several users, which needs root");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Scratch::new().unwrap();
    let ended = run_all(place.place(), &filter());
    println!("{} cases", ended.len());
    let failed = ended
        .iter()
        .filter_map(|(name, result)| result.as_ref().err().map(|fail| format!("{name}: {fail}")));
    let failed: Vec<_> = failed.collect();
    assert!(
        failed.is_empty(),
        "{} cases fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
    let names: std::collections::BTreeSet<_> = ended.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), ended.len(), "every case has a name of its own");
}

#[test]
fn a_file_system_that_differs_is_found() {
    if !sys::is_root() {
        skipped("POSIX cases", "they act as several users, which needs root");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (bare, other) = (Scratch::new().unwrap(), Scratch::in_memory().unwrap());
    let (bare, other) = (
        run_all(bare.place(), "fallocate"),
        run_all(other.place(), "fallocate"),
    );
    assert_eq!(differing(&bare, &bare), Vec::<String>::new());
    let found = differing(&other, &bare).join("\n");
    // A tmpfs moves no ranges.
    for case in [
        "collapse moves the tail forward: unexpected EOPNOTSUPP",
        "insert moves the tail back",
    ] {
        assert!(found.contains(case), "{case:?} is not in\n{found}");
    }
}

#[test]
fn two_nodes_pass_the_same_cases() {
    let Some(binary) = binary("POSIX cases") else {
        return;
    };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), &[]).unwrap();
    let found = cluster.inside("node1", "posix", &[&filter()]);
    let equal = cluster.replicas_are_equal("node1");
    println!("{}", found.unwrap());
    equal.unwrap();
}

#[test]
fn the_list_of_known_differences_hides_nothing_else() {
    let all: Vec<String> = KNOWN
        .iter()
        .map(|(name, _)| format!("{name}: whatever"))
        .collect();
    assert_eq!(unexpected(&all), Vec::<String>::new());
    let more = [&all[..], &["open: new: fails".to_string()]].concat();
    assert_eq!(unexpected(&more), ["open: new: fails"]);
    assert!(unexpected(&all[1..])[0].contains("passes, but is listed as impossible"));
    for (name, _) in KNOWN {
        let named = |case: &&tandem_tests::posix::Case| case.full_name() == *name;
        assert_eq!(
            table().iter().filter(named).count(),
            1,
            "{name} is one case"
        );
    }
}
