//! Whole configurations: what is accepted, what it means, and every refusal with its exact text,
//! because the text is what an operator works with.
#![allow(clippy::unwrap_used)]

mod networks;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use tandem_fs::config::{Ack, ModuleConfig};

use super::testing::{CLUSTER, Example};
use super::{ModuleError, load, module_names};
use crate::pki;

const LEDGER: &str = r#"(mode: mirror, nodes: ["a", "b"], directories: ["/nowhere/ledger"])"#;

fn config(example: &Example, module: &str) -> ModuleConfig {
    load(&example.dirs)
        .complete()
        .unwrap()
        .module_config(module)
        .unwrap()
}

#[track_caller]
fn assert_problems(example: &Example, expected: &[&str]) {
    let count = match expected.len() {
        1 => "1 problem".into(),
        count => format!("{count} problems"),
    };
    let expected = format!("{}\nthe configuration has {count}", expected.join("\n"));
    assert_eq!(example.problems(), expected);
}

#[test]
fn the_short_form_has_the_documented_defaults() {
    let example = Example::new().with("modules/ledger.ron", LEDGER);
    let config = config(&example, "ledger");
    assert_eq!(config.cluster, "shop");
    assert_eq!(
        (config.local.name.as_str(), config.peer.name.as_str()),
        ("a", "b")
    );
    assert_eq!(config.local.addresses, ["10.0.0.1:7400".parse().unwrap()]);
    assert_eq!(config.peer.addresses, ["10.0.0.2:7400".parse().unwrap()]);
    assert_eq!(config.ack, Ack::Written);
    assert_eq!(config.stall_limit, Duration::from_secs(3));
    assert_eq!(config.hot_limit, 1 << 30);
    assert!(!config.devices);
    assert_eq!(config.state_dir, example.dirs.state.join("ledger"));
    assert_eq!(config.socket, example.dirs.run.join("ledger.sock"));
    assert!(config.directories[0].direct.is_empty());
}

#[test]
fn the_long_form_is_read() {
    let text = r#"( // the books
        mode: mirror, nodes: ["b", "a"],
        directories: ["/nowhere/ledger", (path: "/nowhere/db", direct: ["*.ibd", r"log/**"])],
        port: 7401, ack: durable, stall_limit: "500ms", devices: true,
        hot_limit: "64MiB", aside_limit: "1GiB", resync_slowdown: "50%", scrub: "off",
    )"#;
    let example = Example::new().with("modules/ledger.ron", text);
    let config = config(&example, "ledger");
    assert_eq!(config.local.addresses[0].port(), 7401);
    assert_eq!(config.directories[1].path.to_str(), Some("/nowhere/db"));
    assert_eq!(config.directories[1].direct, ["*.ibd", "log/**"]);
    assert_eq!((config.ack, config.devices), (Ack::Durable, true));
    assert_eq!(config.stall_limit, Duration::from_millis(500));
    assert_eq!(config.hot_limit, 64 << 20);
    assert_eq!((config.aside_limit, config.scrub), (1 << 30, None));
    assert_eq!(config.resync_slowdown, Some(50));
}

#[test]
fn the_digest_is_of_the_meaning() {
    let digest = |module: &str, node: &str| {
        let example = Example::new().with("modules/ledger.ron", module);
        let example = example
            .issue(node)
            .with("node.ron", &format!("(name: \"{node}\")"));
        config(&example, "ledger").digest
    };
    let short = digest(LEDGER, "a");
    assert_eq!(short, digest(LEDGER, "b"), "both nodes agree");
    let spelt_out = r#"(
        mode: mirror, devices: false, stall_limit: "3000ms", ack: written, port: 7400,
        directories: [(path: "/nowhere/ledger")], nodes: ["b", "a"], // the same
    )"#;
    assert_eq!(short, digest(spelt_out, "a"));
    let with = |more: &str| LEDGER.replace("mirror,", &format!("mirror, {more},"));
    for more in [
        "port: 7401",
        "ack: durable",
        "stall_limit: \"4s\"",
        "devices: true",
        "isolation: alone",
        "isolation: ping, ping: [\"10.0.0.254\"]",
        "after_power_loss: \"1m\"",
    ] {
        assert_ne!(short, digest(&with(more), "a"), "{more}");
    }
    assert_ne!(short, digest(&LEDGER.replace("/ledger", "/other"), "a"));
    // The format itself: if this changes, nodes of two versions no longer meet; raise its version.
    let hex: String = short
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, "72dad7de3333b323");
}

/// The text an operator sees after many mistakes, in `testdata/problems.txt`.
#[test]
fn all_problems_of_all_files_come_together() {
    let example = Example::new()
        .with("modules/bad.ron", include_str!("testdata/bad.ron"))
        .with("modules/worse.ron", "(mode: farm, nodes: [\"a\" \"b\"])")
        .with("cluster.ron", &CLUSTER.replace("10.0.0.2", "node-b"))
        .with("node.ron", "(name: \"A\")");
    assert_eq!(
        example.problems() + "\n",
        include_str!("testdata/problems.txt")
    );
}

#[test]
fn an_empty_directory_is_told_what_belongs_there() {
    let example = Example::new();
    fs::remove_dir_all(&example.dirs.config).unwrap();
    let problems = example.problems();
    for file in [
        "cluster.ron",
        "node.ron",
        "modules",
        "pki/ca.pem",
        "pki/node-key.pem",
    ] {
        assert!(
            problems.contains(&format!("etc/{file}: cannot be read")),
            "{problems}"
        );
    }
}

#[test]
fn missing_keys_are_named_with_an_example() {
    let example = Example::new().with("modules/ledger.ron", "(mode: mirror, node: [])");
    assert_problems(
        &example,
        &[
            "etc/modules/ledger.ron:1:1: key `directories` is missing; \
         add `directories: [\"/var/lib/NAME\"]`",
            "etc/modules/ledger.ron:1:16: unknown key `node`, expected mode, nodes, directories, \
         port, ack, stall_limit, hot_limit, aside_limit, \
         resync_slowdown, scrub, devices, preferred, failover, boot, max_restarts, \
         restart_window, virtual_ips, services, scripts, variables, checkers, fence, isolation, \
         ping, after_power_loss; did you mean `nodes`?",
        ],
    );
}

#[test]
fn the_cluster_has_two_nodes_or_more_each_itself() {
    let text = "(name: \"Shop\", nodes: [(name: \"a\", addresses: [\"10.0.0.1\"]),\n\
                (name: \"a\", addresses: []), (name: \"b\", addresses: [\"10.0.0.1\"])])";
    let example = Example::new().with("cluster.ron", text);
    assert_problems(
        &example,
        &[
            "etc/cluster.ron:1:8: found name `Shop`, expected 1 to 31 of a-z, 0-9 and `-`, \
         beginning with a letter and not ending in `-`",
            "etc/cluster.ron:2:1: a node needs at least one address; \
         add `addresses: [\"10.0.0.1\"]`",
            "etc/cluster.ron:2:8: node `a` is named again, first at etc/cluster.ron:1:31",
            "etc/cluster.ron:2:53: address `10.0.0.1` is used again, first at etc/cluster.ron:1:48",
        ],
    );
}

#[test]
fn a_mirror_has_exactly_two_nodes() {
    let example = Example::new()
        .with("modules/one.ron", &LEDGER.replace(", \"b\"", ""))
        .with(
            "modules/same.ron",
            &LEDGER.replace("\"b\"", "\"a\"").replace("ledger", "x"),
        );
    let problems = example.problems();
    assert!(
        problems.contains("found 1 node(s), expected exactly two"),
        "{problems}"
    );
    assert!(problems.contains("node `a` is named twice"), "{problems}");
}

#[test]
fn the_stall_limit_has_bounds() {
    for (limit, good) in [
        ("499ms", false),
        ("500ms", true),
        ("1m", true),
        ("61s", false),
    ] {
        let text = LEDGER.replace("mirror,", &format!("mirror, stall_limit: \"{limit}\","));
        let problems = Example::new().with("modules/ledger.ron", &text).problems();
        assert_eq!(problems == "valid", good, "{limit}: {problems}");
    }
}

#[test]
fn the_hot_limit_has_bounds() {
    for (limit, good) in [
        ("15MiB", false),
        ("16MiB", true),
        ("1TiB", true),
        ("2TiB", false),
    ] {
        let text = LEDGER.replace("mirror,", &format!("mirror, hot_limit: \"{limit}\","));
        let problems = Example::new().with("modules/ledger.ron", &text).problems();
        assert_eq!(problems == "valid", good, "{limit}: {problems}");
    }
}

#[test]
fn ports_are_not_shared() {
    let other = LEDGER.replace("ledger", "other");
    let example = Example::new()
        .with("modules/ledger.ron", LEDGER)
        .with("modules/other.ron", &other)
        .with(
            "modules/third.ron",
            &other.replace("mirror,", "mirror, port: 7401,\n"),
        );
    let problems = example.problems();
    assert!(
        problems.contains(
            "etc/modules/other.ron: port 7400 is the port of module `ledger` too; \
            write `port: 7402`"
        ),
        "{problems}"
    );
}

#[test]
fn directories_do_not_overlap_not_even_through_links() {
    let example = Example::new();
    let root = example.root.path().to_path_buf();
    fs::create_dir_all(root.join("data/db")).unwrap();
    symlink(root.join("data"), root.join("link")).unwrap();
    let module = |port: u16, directories: &str| {
        let directories = directories.replace('~', root.to_str().unwrap());
        format!(
            "(mode: mirror, port: {port}, nodes: [\"a\", \"b\"],\ndirectories: [{directories}])"
        )
    };
    let example = example
        .with("modules/one.ron", &module(1, "\"~/data/db\""))
        // Another mistake in the file does not hide the overlap.
        .with("modules/two.ron", &module(0, "\"~/link/db/new\""))
        .with(
            "modules/three.ron",
            &module(3, "\"/nowhere/x\", \"/nowhere/x/y\""),
        );
    let problems = example.problems();
    let first = "`data/db` of module `one` (etc/modules/one.ron:2:15)";
    for expected in [
        format!("two.ron:2:15: `link/db/new` lies inside {first} (through a symbolic link); "),
        "three.ron:2:29: `/nowhere/x/y` lies inside `/nowhere/x` of module `three`".into(),
        "two.ron:1:22: found port 0".into(),
        "the configuration has 3 problems".into(),
    ] {
        assert!(problems.contains(&expected), "{expected}\n{problems}");
    }
}

#[test]
fn tandem_does_not_replicate_itself() {
    let example = Example::new();
    let root = example.root.path().to_str().unwrap().to_string();
    let with = |path: &str| LEDGER.replace("/nowhere/ledger", path);
    let example = example.with("modules/ledger.ron", &with(&root));
    let problems = example.problems();
    for what in ["state", "run", "configuration"] {
        assert!(
            problems.contains(&format!("contains Tandem's {what} directory")),
            "{problems}"
        );
    }
    let example = example.with("modules/ledger.ron", &with(&format!("{root}/state/x")));
    assert!(
        example
            .problems()
            .contains("lies inside Tandem's state directory")
    );
    let example = example.with("modules/ledger.ron", &with("/"));
    assert!(example.problems().contains("`/` cannot be replicated"));
}

#[test]
fn a_key_others_can_read_is_refused_with_the_command_to_run() {
    let example = Example::new();
    let key = example.dirs.config.join("pki/node-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_problems(
        &example,
        &[
            "etc/pki/node-key.pem: the private key can be read by others (mode 0640), expected \
             0600; \
         run `chmod 600 etc/pki/node-key.pem`",
        ],
    );
}

#[test]
fn certificates_that_do_not_fit_together_are_told_apart() {
    let of_another_node = Example::new().issue("b");
    assert_problems(
        &of_another_node,
        &["etc/pki/node.pem: is the certificate of another node; run `tandem pki issue a`"],
    );
    let other = pki::create_ca("shop").unwrap();
    let of_another_ca = Example::new().with("pki/ca.pem", &other.cert_pem);
    assert_problems(
        &of_another_ca,
        &[
            "etc/pki/node.pem: was not issued by the CA in ca.pem; take both from the same \
             `tandem pki`",
        ],
    );
    let other = pki::issue(&other, "a").unwrap();
    let with_another_key = Example::new().with("pki/node-key.pem", &other.key_pem);
    assert_problems(
        &with_another_key,
        &["etc/pki/node-key.pem: is not the key of the certificate in node.pem"],
    );
    let damaged = Example::new()
        .with("pki/ca.pem", "none")
        .with("pki/node-key.pem", "none");
    let problems = damaged.problems();
    assert!(
        problems.contains("etc/pki/ca.pem: is not a certificate"),
        "{problems}"
    );
    assert!(
        problems.contains("etc/pki/node-key.pem: is not a private key"),
        "{problems}"
    );
}

#[test]
fn a_mistake_in_one_module_does_not_stop_another() {
    let example = Example::new()
        .with("modules/ledger.ron", LEDGER)
        .with("modules/broken.ron", "(mode: ");
    assert!(load(&example.dirs).complete().is_err());
    assert!(load(&example.dirs).for_module("broken").is_err());
    let config = load(&example.dirs).for_module("ledger").unwrap();
    assert!(config.module_config("ledger").is_ok());
    // One in a file that all share does.
    let example = example.with("cluster.ron", "(");
    assert!(load(&example.dirs).for_module("ledger").is_err());
}

#[test]
fn other_files_between_the_modules_are_named_not_read() {
    let example = Example::new()
        .with("modules/ledger.ron", LEDGER)
        .with("modules/ledger.ron~", "?")
        .with("modules/ledger.rno", "?");
    let loaded = load(&example.dirs);
    assert_eq!(loaded.ignored.len(), 2);
    assert_eq!(module_names(&example.dirs).unwrap(), ["ledger"]);
    assert!(loaded.complete().is_ok());
}

#[test]
fn a_module_of_other_nodes_is_not_ours() {
    let cluster = CLUSTER.replace("])\n", "(name: \"c\", addresses: [\"10.0.0.3\"])])");
    let example = Example::new()
        .with("cluster.ron", &cluster)
        .with("modules/ledger.ron", &LEDGER.replace("\"a\"", "\"c\""));
    let config = load(&example.dirs).complete().unwrap();
    let error = config.module_config("ledger").err().unwrap();
    assert!(matches!(error, ModuleError::Elsewhere { .. }), "{error}");
    let error = config.module_config("leger").err().unwrap().to_string();
    assert_eq!(
        error,
        "module `leger` is not configured; did you mean `ledger`?"
    );
}
