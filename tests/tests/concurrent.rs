//! Several clients at once, on a bare directory and on two nodes.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use tandem_tests::cluster::{Cluster, binary};
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

#[test]
fn every_case_holds_on_two_nodes_and_leaves_equal_replicas() {
    let Some(binary) = binary("concurrent clients") else {
        return;
    };
    let cluster = Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), &[]).unwrap();
    let seed = seed("concurrent").to_string();
    let mut failed = Vec::new();
    for case in CASES {
        let ended = cluster.inside("node1", "concurrent", &[&seed, case.name]);
        failed.extend(ended.err().map(|error| format!("{error:#}")));
        let equal = cluster.replicas_are_equal("node1");
        failed.extend(
            equal
                .err()
                .map(|error| format!("after {}: {error:#}", case.name)),
        );
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
