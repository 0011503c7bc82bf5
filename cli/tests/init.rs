//! `tandem init` and `tandem join` over loopback: a node joins, and everybody whom a token does not
//! let in stays out. In a lab of bare nodes: `bare.rs`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::setup::{Pair, text, words};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_joins_with_the_token_and_its_key_never_travels() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    assert_eq!(join[1], pair.at());
    let output = pair.run("b", &words(&join));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (code, rest, errors) = host.end();
    assert_eq!(code, Some(0), "{rest}{errors}");
    assert!(rest.contains("b has joined"), "{rest}");
    for node in ["a", "b"] {
        let checked = pair.run(node, &["config", "check"]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        let words = format!("cluster shop, node {node}, module shop");
        assert!(text(&checked.stdout).contains(&words));
    }
    let same = |name: &str| {
        let [one, other] =
            ["a", "b"].map(|n| fs::read(pair.path(n).join("etc").join(name)).unwrap());
        one == other
    };
    assert!(same("cluster.ron") && same("modules/shop.ron") && same("pki/ca.pem"));
    assert!(!same("pki/node-key.pem") && !same("pki/node.pem"));
    assert_eq!(mode(&pair.path("a/etc/pki/ca-key.pem")), 0o600);
    assert_eq!(mode(&pair.path("b/etc/pki/node-key.pem")), 0o600);
    assert!(!pair.path("b/etc/pki/ca-key.pem").exists());
    assert!(!pair.path("a/state/join.json").exists());
}

#[test]
fn a_used_a_wrong_and_a_voided_token_are_refused() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));

    // The same again, while the node waits for another: wrong, as the new one is another.
    let mut host = pair.serve(&[]);
    let next = host.invitation();
    assert_ne!(next[2], join[2]);
    pair.refused("c", &words(&join), "the token is wrong");
    // A mistake in the node's name costs nothing.
    pair.refused(
        "c",
        &["join", &next[1], &next[2], "--as", "d"],
        "no node `d`",
    );
    pair.refused(
        "c",
        &["join", &next[1], &next[2], "--as", "a"],
        "is the node that was asked",
    );
    for _ in 0..3 {
        pair.refused("c", &words(&join), "the token is wrong");
    }
    pair.refused("c", &words(&join), "there is none any more");
    let (code, _, errors) = host.end();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("5 wrong tokens were tried"), "{errors}");
    // Nothing was written by those who were refused.
    assert!(!pair.path("c/etc/node.ron").exists());
    let left: Vec<_> = fs::read_dir(pair.path("c")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");

    // After that also the right one is void.
    let mut host = pair.serve(&["--new-token"]);
    host.invitation();
    pair.refused("c", &words(&next), "the token is wrong");
    drop(host);
}

#[test]
fn a_stranger_who_answers_gets_nothing() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    // The token of another cluster's authority.
    let (secret, fingerprint) = join[2].split_once('-').unwrap();
    let other = if fingerprint.starts_with('0') {
        "1"
    } else {
        "0"
    };
    let forged = format!("{secret}-{other}{}", &fingerprint[1..]);
    pair.refused(
        "b",
        &["join", &join[1], &forged, "--as", "b"],
        "is not the node that made this token",
    );
    // The secret was not sent: no wrong try is counted, and the token is still good.
    let kept = fs::read_to_string(pair.path("a/state/join.json")).unwrap();
    assert!(kept.contains("\"failures\":0"), "{kept}");
    assert!(!kept.contains(secret), "{kept}");
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));
}

#[test]
fn an_expired_token_is_refused() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    drop(host);
    // As if an hour had passed.
    let file = pair.path("a/state/join.json");
    let mut kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    kept["until"] = 0.into();
    fs::write(&file, kept.to_string()).unwrap();
    // The node that serves again makes a new one, so the old one is wrong.
    let mut host = pair.serve(&[]);
    let next = host.invitation();
    pair.refused("b", &words(&join), "the token is wrong");
    // And one that ends while it is served ends the serving.
    fs::write(&file, kept.to_string()).unwrap();
    pair.refused("b", &words(&next), "the token");
    let (code, _, errors) = host.end();
    assert_eq!(code, Some(1), "{errors}");
}

#[test]
fn a_token_survives_the_end_of_the_command_that_showed_it() {
    let pair = Pair::new();
    pair.init();
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    drop(host);
    let mut host = pair.serve(&[]);
    let mut line = String::new();
    host.lines.read_line(&mut line).unwrap();
    assert!(line.contains("is good for"), "{line}");
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));
}

#[test]
fn what_is_there_is_never_overwritten() {
    let pair = Pair::new();
    pair.init();
    let before = fs::read(pair.path("a/etc/pki/ca-key.pem")).unwrap();
    let again = ["init", "--name", "shop", "--no-wait"];
    pair.refused("a", &again, "exists already and is not overwritten");
    assert_eq!(fs::read(pair.path("a/etc/pki/ca-key.pem")).unwrap(), before);
    // Nor by joining; and then the token is not used up.
    let mut host = pair.serve(&["--new-token"]);
    let join = host.invitation();
    fs::create_dir_all(pair.path("b/etc")).unwrap();
    fs::write(pair.path("b/etc/cluster.ron"), "mine").unwrap();
    pair.refused("b", &words(&join), "exists already and is not overwritten");
    fs::remove_file(pair.path("b/etc/cluster.ron")).unwrap();
    assert!(pair.run("b", &words(&join)).status.success());
    assert_eq!(host.end().0, Some(0));
}

#[test]
fn without_a_terminal_what_is_missing_is_a_mistake_of_usage() {
    let pair = Pair::new();
    let output = pair.run("a", &["init", "--name", "shop"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(errors.contains("--node is missing"), "{errors}");
    assert!(!pair.path("a/etc").exists());
}
