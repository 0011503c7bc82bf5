//! What a session begins with: the verdict, and what it makes of each node.

use super::*;
use crate::logic::verdict::Rule;

#[test]
fn a_returning_node_is_stale_and_is_brought_up() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.cut();
    assert_eq!(p.states(), [State::Alone, State::Wait]);
    assert_eq!(p.records[1].set_size(), 2, "the lost node does not know");
    p.finishes = false;
    p.connect();
    assert!(p.records[1].stale, "I3: told by the ancestry of the epochs");
    assert_eq!(p.members[0].verdict().map(|v| v.rule), Some(Rule::V5));
    assert_eq!(p.refused(1).as_deref(), Some("peer-serves"));
    p.cut();
    assert_eq!(p.refused(1).as_deref(), Some("stale"));
    p.finishes = true;
    p.connect();
    assert_eq!(p.states(), [State::Prim, State::Second]);
    assert!(!p.records[1].stale);
}

#[test]
fn two_split_servers_wait_for_the_operator_and_the_loser_keeps_its_data_aside() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.cut();
    p.prim(1);
    assert_eq!(p.states(), [State::Alone, State::Alone]);
    p.connect();
    for node in [0, 1] {
        assert_eq!(p.code(node), "diverged", "V7");
    }
    assert_eq!(
        p.states(),
        [State::Alone, State::Alone],
        "nobody is stopped by guessing"
    );
    let branch = p.records[1].epoch_id().unwrap();
    p.input(
        1,
        Input::Resync {
            token: 8,
            everything: false,
        },
    );
    assert_eq!(p.states(), [State::Prim, State::Second], "{:#?}", p.log);
    p.happened(&[
        "b:ReadOnly",
        "b:FailAll",
        "b:record-stale",
        "b:PrepareTarget",
        "a:Start",
    ]);
    assert!(
        p.records[0].ended.contains(&branch),
        "the witness may hold it"
    );
}

#[test]
fn a_split_node_that_waits_says_so_however_often_it_is_to_follow() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.cut();
    p.prim(1);
    p.restart(1, false);
    p.connect();
    assert_eq!(p.states(), [State::Alone, State::Wait]);
    for token in [7, 8] {
        p.input(1, Input::Second { token });
        assert_eq!(p.code(1), "diverged", "I12");
    }
}

#[test]
fn a_node_that_is_not_the_source_does_not_serve_while_the_other_is_there() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.restart(1, false);
    p.restart(0, false);
    // The survivor went on; take its record back to the epoch of both.
    p.records[0] = Record {
        served: true,
        ..p.records[1].clone()
    };
    let found = (p.records[0].clone(), Id128::default());
    p.members[0] = Member::new(p.configs[0].clone(), found, p.now);
    p.connect();
    let verdict = p.members[1].verdict().cloned().unwrap();
    assert_eq!((verdict.rule, verdict.source()), (Rule::V4, Some("a")));
    assert_eq!(p.refused(1).as_deref(), Some("peer-first"));
    assert_eq!(p.refused(0), None);
    p.happened(&[
        "a:ToldStale",
        "b:record-stale",
        "b:Told",
        "a:record-1",
        "a:Alone",
    ]);
}

#[test]
fn foreign_volumes_never_meet() {
    let mut p = Pair::new(|_| ());
    p.prim(0);
    p.prim(1);
    p.connect();
    for node in [0, 1] {
        assert_eq!(p.code(node), "foreign", "V1");
    }
    p.input(
        1,
        Input::Resync {
            token: 3,
            everything: true,
        },
    );
    assert!(p.resolved.last().unwrap().1.is_err());
}

#[test]
fn different_verdicts_refuse_each_other() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.cut();
    p.configs[1].rules.epoch_ids = false;
    p.restart(1, false);
    p.records[0].epoch.as_mut().unwrap().number = 1;
    let found = (p.records[0].clone(), p.records[0].boot);
    p.members[0] = Member::new(p.configs[0].clone(), found, p.now);
    p.connect();
    for node in [0, 1] {
        assert_eq!(p.code(node), "verdict-differs", "I7");
    }
    assert!(p.members[0].verdict().is_none());
}

#[test]
fn a_forced_server_says_what_is_given_up_and_keeps_the_other_data_aside() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.cut();
    p.finishes = false;
    p.connect();
    p.cut();
    assert_eq!(p.refused(1).as_deref(), Some("stale"), "W6");
    p.input(
        1,
        Input::Prim {
            token: 4,
            force: true,
        },
    );
    p.pass(2500);
    assert_eq!(p.states()[1], State::Alone);
    assert!(p.records[1].lost && !p.records[1].stale);
    assert!(p.members[1].why().iter().any(|r| r.code == "forced"));
}

#[test]
fn told_stale_is_refused_by_a_node_that_serves_or_is_elsewhere() {
    let mut p = Pair::new(|_| ()).in_sync();
    let parent = p.records[0].epoch_id().unwrap();
    let new = Id128([5; 16]);
    let told = |p: &mut Pair, node: usize, parent| {
        let outputs = p.members[node].handle(
            p.now,
            [Id128([6; 16]); 2],
            Input::Control(Control::ToldStale { parent, new }),
        );
        let refused = |o: &Output| match o {
            Output::Send(Control::Told(_, Err(reject))) => Some(reject.code.clone()),
            _ => None,
        };
        outputs.iter().find_map(refused)
    };
    assert_eq!(told(&mut p, 0, parent).as_deref(), Some("serves"));
    assert_eq!(
        told(&mut p, 1, Id128([1; 16])).as_deref(),
        Some("not-in-parent")
    );
    assert_eq!(told(&mut p, 1, parent), None);
}

#[test]
fn a_wiped_node_is_given_everything() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.cut();
    let fresh = (Record::default(), Id128::default());
    p.members[1] = Member::new(p.configs[1].clone(), fresh, p.now);
    p.records[1] = Record::default();
    p.connect();
    let verdict = p.members[1].verdict().unwrap();
    assert_eq!(verdict.rule, Rule::V2);
    assert_eq!(p.refused(1).as_deref(), Some("peer-serves"));
    p.input(1, Input::Second { token: 3 });
    assert_eq!(p.states(), [State::Prim, State::Second]);
    assert_eq!(p.records[1].volume, p.records[0].volume);
}
