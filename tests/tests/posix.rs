//! The table of POSIX cases: all pass on a plain ext4, and a replicated directory passes the same.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use tandem_tests::posix::run_all;
use tandem_tests::scratch::Scratch;
use tandem_tests::sys;

/// Part of a case's name, for work on one of them.
fn filter() -> String {
    std::env::var("TANDEM_CASE").unwrap_or_default()
}

#[test]
fn all_cases_pass_on_a_bare_file_system() {
    if !sys::is_root() {
        println!("skipped: the cases act as several users, which needs root");
        return;
    }
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
