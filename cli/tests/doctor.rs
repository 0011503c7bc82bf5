//! `tandem doctor` as scripts use it: exit codes, JSON, and what it says of things that are wrong.
//! With two nodes: `bare.rs`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::UdpSocket;

use support::is_root;
use support::setup::{Pair, text};

/// Level and text of each finding of one check.
fn findings(json: &serde_json::Value, check: &str) -> Vec<(String, String)> {
    let all = json.as_array().unwrap().iter();
    let of = all.filter(|finding| finding["check"] == check);
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    of.map(|f| (word(&f["level"]), word(&f["found"]))).collect()
}

fn doctor(pair: &Pair) -> (Option<i32>, serde_json::Value) {
    let output = pair.run("a", &["doctor", "--json"]);
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    (output.status.code(), json)
}

#[test]
fn what_is_wrong_is_named_with_its_remedy_and_its_exit_code() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    // Nothing is configured.
    let (code, json) = doctor(&pair);
    assert_eq!(code, Some(4));
    assert!(
        findings(&json, "configuration")
            .iter()
            .all(|(level, _)| level == "fail")
    );
    assert_eq!(findings(&json, "kernel").len(), 1);

    pair.init();
    let replica = pair.path("a/replica");
    let module = pair.path("a/etc/modules/shop.ron");
    let ron = fs::read_to_string(&module).unwrap();
    let ron = ron.replace("/nowhere/shop", replica.to_str().unwrap());
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ron = ron.replace(
        "isolation:",
        &format!(
            "port: {port}, virtual_ips: [\"203.0.113.9\"],\n    \
             scripts: (start_prim: [\"/nowhere/start\"]),\n    isolation:"
        ),
    );
    fs::write(&module, &ron).unwrap();
    let (code, json) = doctor(&pair);
    assert_eq!(code, Some(1), "{json:#}");
    let fails = |check: &str, words: &str| {
        let found = findings(&json, check);
        let fits = |(level, text): &(String, String)| level == "fail" && text.contains(words);
        assert!(found.iter().any(fits), "{check}, {words}: {found:?}");
    };
    fails("directory", "does not exist");
    fails("virtual address", "203.0.113.9");
    fails("ports", &format!("UDP {port} is in use"));
    fails("scripts", "/nowhere/start");
    let remedies = json.as_array().unwrap().iter();
    for finding in remedies.filter(|f| f["level"] == "fail" || f["level"] == "warn") {
        assert!(finding["remedy"].is_string(), "{finding}");
    }
    assert!(
        findings(&json, "certificates")
            .iter()
            .all(|(level, _)| level == "ok")
    );
    assert_eq!(findings(&json, "authority")[0].0, "warn");
    assert_eq!(findings(&json, "both nodes")[0].0, "skip");

    // The same in lines, for people.
    let shown = text(&pair.run("a", &["doctor"]).stdout);
    assert!(shown.contains("FAIL  directory"), "{shown}");
    assert!(shown.contains("-> mkdir -p "), "{shown}");

    // And mended.
    fs::create_dir(&replica).unwrap();
    drop(taken);
    let (_, json) = doctor(&pair);
    assert_eq!(findings(&json, "directory")[0].0, "ok", "{json:#}");
    assert!(
        findings(&json, "ports")
            .iter()
            .any(|(_, f)| f == &format!("UDP {port} is free"))
    );
}

#[test]
fn a_state_directory_inside_the_replica_is_found_through_links() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    pair.init();
    // By its text the state directory lies elsewhere.
    fs::create_dir_all(pair.path("a/replica/below")).unwrap();
    let _ = fs::remove_dir_all(pair.path("a/state"));
    std::os::unix::fs::symlink(pair.path("a/replica/below"), pair.path("a/state")).unwrap();
    let module = pair.path("a/etc/modules/shop.ron");
    let ron = fs::read_to_string(&module).unwrap();
    let replica = pair.path("a/replica");
    fs::write(
        &module,
        ron.replace("/nowhere/shop", replica.to_str().unwrap()),
    )
    .unwrap();
    let (code, json) = doctor(&pair);
    // The check of the configuration may have seen it already.
    assert!(matches!(code, Some(1 | 4)), "{json:#}");
    let all = json.to_string();
    assert!(
        all.contains("inside") || all.contains("state directory"),
        "{json:#}"
    );
}
