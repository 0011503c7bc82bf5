//! What an operator may write, and what he is told when he writes something else.

use super::*;
use crate::config::problem::Source;
use std::path::Path;
use tandem_failover::config::{CheckerKind, Reaction, Script, When};

fn parse(text: &str) -> (Service, Vec<String>) {
    let source = Source {
        file: Path::new("shop.ron").into(),
        text: text.into(),
    };
    let mut reader = Reader::new(&source);
    let tree = reader.tree().unwrap();
    let keys = reader.keys(&tree, &KEYS).unwrap();
    let service = read(&mut reader, &keys, "shop");
    let problems = reader.problems.iter().map(ToString::to_string).collect();
    (service, problems)
}

#[test]
fn everything_at_once() {
    let (service, problems) = parse(
        r#"(
  preferred: "a",
  failover: off,
  boot: on,
  max_restarts: 5,
  restart_window: "1h",
  variables: (PORT: "80", URL: "http://10.0.0.9:${PORT}/"),
  virtual_ips: ["10.0.0.9", (address: "fd00::9", prefix: 64, interface: "eth1")],
  scripts: (start_prim: ["/etc/${MODULE}/start", "$$x"], stop_prim: (run: ["/bin/s"], limit: "9s")),
  checkers: [
    (name: "web", http: "${URL}", on_failure: restart, interval: "2s"),
    (name: "gw", ping: "10.0.0.254", on_failure: wait),
  ],
  fence: ["/sbin/off"],
)"#,
    );
    assert_eq!(problems, Vec::<String>::new());
    assert!(!service.failover);
    assert_eq!(service.boot, Boot::On);
    assert_eq!(service.restart_window, Duration::from_secs(3600));
    assert_eq!(service.virtual_ips[1].value.interface, Some("eth1".into()));
    let Application::Scripts(scripts) = &service.application else {
        panic!("{:?}", service.application)
    };
    assert_eq!(
        scripts[&Script::StartPrim].command,
        ["/etc/shop/start", "$x"]
    );
    assert_eq!(scripts[&Script::StopPrim].limit, Duration::from_secs(9));
    let [web, gw] = &service.checkers[..] else {
        panic!("{:?}", service.checkers)
    };
    let url = "http://10.0.0.9:80/".to_string();
    assert_eq!(
        web.kind,
        CheckerKind::Http {
            url,
            statuses: vec![]
        }
    );
    assert_eq!(
        (web.when, &web.on_failure),
        (When::Prim, &Reaction::Restart)
    );
    assert_eq!(gw.when, When::Started);
}

#[test]
fn mistakes_are_named_with_a_remedy() {
    for (text, words) in [
        ("(failover: no)", "one of on, off"),
        ("(services: [\"a\"], scripts: ())", "either"),
        (
            "(scripts: (start_primm: [\"/a\"]))",
            "did you mean `start_prim`",
        ),
        ("(scripts: (start_prim: [\"start\"]))", "whole path"),
        ("(scripts: (start_prim: []))", "no program"),
        (
            "(scripts: (start_prim: [\"/${NAM}\"]))",
            "not in `variables`",
        ),
        ("(scripts: (start_prim: [\"/$x\"]))", "`$$`"),
        ("(virtual_ips: [\"10.0.0\"])", "IP address"),
        ("(virtual_ips: [\"10.0.0.9\", \"10.0.0.9\"])", "given again"),
        (
            "(virtual_ips: [(address: \"10.0.0.9\", prefix: 33)])",
            "1 to 32",
        ),
        (
            "(checkers: [(name: \"x\", on_failure: stop)])",
            "exactly one of",
        ),
        (
            "(checkers: [(name: \"x\", tcp: \"h:1\", ping: \"h\", on_failure: stop)])",
            "tcp and ping",
        ),
        (
            "(checkers: [(name: \"x\", tcp: \"h\", on_failure: stop)])",
            "HOST:PORT",
        ),
        (
            "(checkers: [(name: \"x\", tcp: \"h:1\", on_failure: run)])",
            "add `run",
        ),
        (
            "(checkers: [(name: \"x\", http: \"https://h\", on_failure: stop)])",
            "http://",
        ),
        ("(variables: (lower: \"x\"))", "A-Z"),
        ("(restart_window: \"24\")", "with its unit"),
    ] {
        let (_, problems) = parse(text);
        let found = problems.iter().any(|p| p.contains(words));
        assert!(found, "{text}: {problems:?}");
        assert!(problems[0].starts_with("shop.ron:1:"), "{problems:?}");
    }
}
