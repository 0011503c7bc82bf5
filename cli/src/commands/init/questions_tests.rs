//! Tests of the questions: answers are given as text, questions are read back.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use super::*;
use crate::network::Own;

fn network() -> Network {
    let own = |interface: &str, address: &str| Own {
        interface: interface.into(),
        address: address.parse().unwrap(),
        prefix: 24,
    };
    Network {
        own: vec![own("eth0", "10.0.0.1"), own("eth1", "10.1.0.1")],
        gateways: vec!["10.0.0.254".parse().unwrap()],
    }
}

fn arguments(text: &str) -> InitArgs {
    use clap::Parser;
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: InitArgs,
    }
    let words = std::iter::once("init").chain(text.split_whitespace());
    Only::try_parse_from(words).unwrap().args
}

/// The plan from these answers, and what was shown.
fn asked(args: &str, answers: &str) -> (Result<Plan>, String) {
    let (mut input, mut output) = (Cursor::new(answers.to_string()), Vec::new());
    let mut asker = Asker {
        terminal: Some((&mut input, &mut output)),
    };
    let plan = plan(&arguments(args), &network(), "web1", &mut asker);
    (plan, String::from_utf8(output).unwrap())
}

fn silent(args: &str) -> Result<Plan> {
    let mut asker = Asker { terminal: None };
    plan(&arguments(args), &network(), "web1", &mut asker)
}

#[test]
fn proposals_are_taken_by_an_empty_answer() {
    let answers = "shop\n\n\nweb2\n10.0.0.2,10.1.0.2\n\n\n\n\n";
    let (plan, shown) = asked("", answers);
    let plan = plan.unwrap();
    assert_eq!(plan.nodes[0].name, "web1");
    assert_eq!(plan.nodes[0].addresses.len(), 2);
    assert_eq!(plan.directories, ["/var/lib/shop"]);
    assert!(plan.virtual_ips.is_empty() && plan.services.is_empty());
    let gateway = "10.0.0.254".parse().unwrap();
    assert_eq!(plan.apart, Apart::Ping(vec![gateway]));
    assert!(shown.contains("Name of this node [web1]"), "{shown}");
    assert!(shown.contains("[10.0.0.1,10.1.0.1]"), "{shown}");
    assert!(shown.contains("(wait, ping or alone) [ping]"), "{shown}");
    assert!(shown.contains("Only a witness"), "{shown}");
}

#[test]
fn an_answer_that_does_not_fit_is_asked_again() {
    let answers = "My Shop\nshop\n\n\nweb1\nweb2\n10.0.0.2\n10.0.0.2,10.1.0.2\nsrv\n/srv/db/\n\
                   300.0.0.1\n10.0.0.9\nnginx, postgresql\nperhaps\nwait\n";
    let (plan, shown) = asked("", answers);
    let plan = plan.unwrap();
    assert_eq!(plan.name, "shop");
    assert_eq!(plan.directories, ["/srv/db"]);
    assert_eq!(plan.services, ["nginx", "postgresql"]);
    assert_eq!(plan.virtual_ips.len(), 1);
    assert_eq!(plan.apart, Apart::Wait);
    assert!(shown.contains("that is this node"), "{shown}");
    assert!(shown.contains("found 1, expected 2"), "{shown}");
}

#[test]
fn only_what_is_missing_is_asked() {
    let args = "--name shop --node a=10.0.0.1 --node b=10.0.0.2 --directory /srv --service x \
                --virtual-ip 10.0.0.9 --isolation wait";
    let (plan, shown) = asked(args, "");
    assert_eq!(plan.unwrap().nodes[1].name, "b");
    assert_eq!(shown, "");
}

#[test]
fn answers_that_end_are_an_error() {
    assert!(asked("", "shop\n").0.is_err());
}

#[test]
fn without_a_terminal_what_is_missing_is_named() {
    let error = silent("--node a=10.0.0.1 --node b=10.0.0.2 --directory /srv").unwrap_err();
    assert!(error.is::<UsageError>());
    assert!(error.to_string().contains("--name is missing"), "{error}");
    let plan = silent("--name shop --node b=10.0.0.2 --node a=10.0.0.1 --directory /srv").unwrap();
    // This machine has 10.0.0.1.
    assert_eq!(plan.nodes[0].name, "a");
    assert!(matches!(plan.apart, Apart::Ping(_)));
}

#[test]
fn which_node_this_is_must_be_clear() {
    let error =
        silent("--name s --node a=10.9.0.1 --node b=10.9.0.2 --directory /srv").unwrap_err();
    assert!(error.to_string().contains("add --as a"), "{error}");
    let given = "--name s --node a=10.9.0.1 --node b=10.9.0.2 --directory /srv --as b";
    assert_eq!(silent(given).unwrap().nodes[0].name, "b");
}
