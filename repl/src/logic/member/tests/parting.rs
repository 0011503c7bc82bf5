//! Losing the peer: who goes on, in what order, and who must not.

use super::*;

#[test]
fn shrinks_by_intent_question_record_and_only_then_answers() {
    let mut p = Pair::witnessed().in_sync();
    let seq = p.write(0);
    p.cut();
    p.happened(&[
        "a:Frozen",
        "a:record-intent",
        "a:AskWitness",
        "a:record-1",
        "a:CompleteAll",
    ]);
    p.happened(&["a:CompleteAll", "a:Alone", "a:Flush"]);
    assert_eq!(p.answered[0], vec![seq]);
    assert_eq!(p.ack(0, seq), AckOutcome::Unknown);
    assert_eq!(p.states(), [State::Alone, State::Wait]);
    assert_eq!(p.witness.as_ref().unwrap().id(), p.records[0].epoch_id());
    assert_eq!(p.refused(1).as_deref(), Some("granted-to-peer"), "W3");
    assert!(!p.records[1].stale, "a refusal changes no flag");
    // The refused one follows again.
    p.input(1, Input::Second { token: 4 });
    p.connect();
    assert_eq!(p.states(), [State::Prim, State::Second], "{:#?}", p.log);
}

#[test]
fn without_the_witness_the_serving_node_stops_too() {
    let mut p = Pair::witnessed().in_sync();
    p.witness = None;
    p.write(0);
    p.cut();
    assert_eq!(p.states(), [State::Wait, State::Wait], "W7");
    assert_eq!(p.code(0), "witness-silent");
    assert_eq!((p.failed[0], p.answered[0].len()), (1, 0), "I4");
    assert_eq!(p.gates[0], Gate::ReadOnly);
    assert_eq!(p.refused(1).as_deref(), Some("witness-silent"));
}

#[test]
fn the_survivor_waits_the_lease_out_and_asks() {
    let mut p = Pair::witnessed().in_sync();
    p.up = false;
    p.input(1, Input::SessionDown("power".into()));
    p.log.clear();
    let prim = Input::Prim {
        token: 3,
        force: false,
    };
    p.input(1, prim);
    let pass = |p: &mut Pair, ms| {
        p.now += Duration::from_millis(ms);
        p.input(1, Input::Tick);
    };
    pass(&mut p, 1000);
    p.never("b:AskWitness");
    pass(&mut p, 1000);
    p.never("b:AskWitness");
    assert!(!p.members[0].may_acknowledge(p.now), "its lease is over");
    pass(&mut p, GRACE_MS);
    p.happened(&[
        "b:record-intent",
        "b:AskWitness",
        "b:record-1",
        "b:Alone",
        "b:Flush",
    ]);
    assert_eq!(p.states()[1], State::Alone);
    // The old server wakes up: its lease is over, and the witness refuses it.
    assert!(!p.members[0].may_acknowledge(p.now));
    p.input(0, Input::SessionDown("late".into()));
    assert_eq!(p.states()[0], State::Wait);
    assert_eq!(p.code(0), "granted-to-peer");
    p.connect();
    assert!(p.records[0].stale);
    assert_eq!(p.refused(0).as_deref(), Some("peer-serves"));
}

#[test]
fn a_lease_that_is_not_renewed_stops_the_acknowledgements() {
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    p.now += LEASE;
    assert!(!p.members[0].may_acknowledge(p.now), "I13");
    assert_eq!(p.ack(0, seq), AckOutcome::Held);
    assert!(p.answered[0].is_empty());
    p.mute[1] = true;
    p.pass(1500);
    assert_eq!(p.records[0].set_size(), 1);
    assert_eq!(p.answered[0], vec![seq], "by the shrunken set");
}

#[test]
fn a_renewed_lease_releases_what_was_held() {
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    p.now += LEASE - Duration::from_millis(100);
    p.input(0, Input::Tick);
    p.now += Duration::from_millis(100);
    assert_eq!(p.ack(0, seq), AckOutcome::Complete, "renewed in time");
}

#[test]
fn a_lease_counts_from_its_request() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.pass(1000);
    p.mute[0] = true;
    p.pass(500);
    let asked = p.members[0].lease_number();
    p.now += Duration::from_millis(700);
    p.mute[0] = false;
    p.input(0, Input::Control(Control::LeaseGrant(asked)));
    p.now += LEASE - Duration::from_millis(600);
    assert!(!p.members[0].may_acknowledge(p.now), "not from the grant");
}

#[test]
fn a_silent_peer_is_dropped_within_the_stall_limit() {
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    p.mute = [true; 2];
    p.pass(1900);
    assert!(p.answered[0].is_empty());
    p.pass(1100);
    assert_eq!(p.states()[0], State::Alone, "{:#?}", p.log);
    assert_eq!(p.answered[0], vec![seq]);
}

#[test]
fn a_slow_peer_says_itself_that_it_is_stale_and_stays_out_for_a_while() {
    let mut p = Pair::witnessed().in_sync();
    p.witness = None;
    let seq = p.write(0);
    p.pass(2100);
    p.happened(&[
        "a:Frozen",
        "a:ToldStale",
        "b:record-stale",
        "b:Told",
        "a:record-1",
    ]);
    p.happened(&["a:record-1", "a:CompleteAll"]);
    assert_eq!(p.answered[0], vec![seq]);
    assert_eq!(p.states()[0], State::Alone, "the witness was not needed");
    assert!(
        p.members[0]
            .why()
            .iter()
            .any(|r| r.code == "witness-silent")
    );
    // Its stream has a hole: a new session, and not before the pause is over.
    assert!(!p.up);
    p.witness = Some(Register::default());
    p.connect();
    p.input(1, Input::Second { token: 6 });
    assert_eq!(
        (p.states()[0], p.code(1)),
        (State::Alone, "back-off".into())
    );
    let refused = p.resolved.iter().any(|(_, answer)| answer.is_err());
    assert!(!refused, "a pause refuses no command: {:?}", p.resolved);
    p.pass(1500);
    assert_eq!(p.states(), [State::Prim, State::Second], "{:#?}", p.log);
    // Again: twice as long.
    p.write(0);
    p.pass(2100);
    p.connect();
    p.pass(1500);
    assert_eq!(p.states()[0], State::Alone);
    p.pass(1500);
    assert_eq!(p.states(), [State::Prim, State::Second], "{:#?}", p.log);
    p.write(0);
    p.pass(2100);
    p.connect();
    p.input(
        1,
        Input::Resync {
            token: 7,
            everything: false,
        },
    );
    assert_eq!(
        p.states(),
        [State::Prim, State::Second],
        "the operator does not wait"
    );
}

#[test]
fn a_failed_operation_spoils_the_replica_before_anything_is_answered() {
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    let what = "write: no space".to_string();
    p.input(1, Input::ApplyFailed { what });
    assert!(p.records[1].stale);
    assert_eq!(p.code(1), "apply-failed");
    p.input(0, Input::PeerFailed { errno: 28 });
    assert_eq!(p.states()[0], State::Alone);
    assert_eq!(p.answered[0], vec![seq]);
    assert_eq!(p.refused(1).as_deref(), Some("stale"));
    assert!(p.members[0].reason().unwrap().reason.contains("No space"));
}

#[test]
fn a_server_with_a_bad_disk_hands_over_without_the_witness() {
    let mut p = Pair::witnessed().in_sync();
    p.witness = None;
    p.write(0);
    let what = "fsync: EIO".to_string();
    p.input(0, Input::LocalFailed { what: what.clone() });
    p.happened(&["a:ReadOnly", "a:FailAll", "a:record-stale", "a:State"]);
    assert_eq!((p.code(0), p.failed[0]), ("local-disk".into(), 1));
    assert_eq!(p.code(1), "peer-stopped");
    p.cut();
    assert_eq!(p.refused(1), None, "I3: the peer is durably stale");
    assert_eq!(p.states(), [State::Wait, State::Alone]);
    // Alone there is nobody better.
    p.input(1, Input::LocalFailed { what });
    assert_eq!(p.states()[1], State::Alone);
    assert!(p.members[1].why().iter().any(|r| r.code == "local-disk"));
}

/// Its manager hears of it no sooner than the peer does, and has the addresses still.
#[test]
fn a_server_that_gave_up_is_left_the_grace_to_clear_the_addresses() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.pass(600);
    let what = "fsync: EIO".to_string();
    p.input(0, Input::LocalFailed { what });
    let (token, force) = (1, false);
    p.input(1, Input::Prim { token, force });
    p.pass(700);
    assert_eq!(p.states(), [State::Wait, State::Wait]);
    p.pass(100);
    assert_eq!(p.states(), [State::Wait, State::Alone]);
}

#[test]
fn an_unwritable_record_serves_nothing() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.disk_fails[0] = true;
    p.write(0);
    p.cut();
    assert_eq!((p.answered[0].len(), p.failed[0]), (0, 1), "I4");
    assert_eq!(
        (p.gates[0], p.code(0)),
        (Gate::ReadOnly, "state-directory".into())
    );
    p.disk_fails[0] = false;
    assert_eq!(p.refused(0).as_deref(), Some("state-directory"));
}

#[test]
fn a_fenced_peer_needs_no_witness() {
    let mut p = Pair::witnessed().in_sync();
    p.witness = None;
    p.up = false;
    p.input(1, Input::SessionDown("cut".into()));
    assert_eq!(p.refused(1).as_deref(), Some("witness-silent"));
    p.input(1, Input::Fenced);
    assert_eq!(p.refused(1), None, "W4");
    assert_eq!(p.states()[1], State::Alone);
}

#[test]
fn the_isolation_policy_decides_without_witness() {
    let policies = [
        (Isolation::Wait, false, Some("isolated")),
        (Isolation::Ping, false, Some("cut-off")),
        (Isolation::Ping, true, None),
        (Isolation::Alone, false, None),
    ];
    for (isolation, answers, expected) in policies {
        let mut p = Pair::new(|c| {
            c.by_hand = false;
            c.isolation = isolation;
        })
        .in_sync();
        p.input(0, Input::Reachable(answers));
        p.input(1, Input::Reachable(answers));
        p.cut();
        assert_eq!(p.refused(1).as_deref(), expected, "W5 {isolation:?}");
        let goes_on = isolation != Isolation::Ping || answers;
        assert_eq!(p.states()[0] == State::Alone, goes_on, "W5a {isolation:?}");
    }
}

/// Else a node that was cut off, and replaced, would serve as well in the moment of the healing.
#[test]
fn an_address_that_answers_again_counts_when_the_peer_had_time_to_be_heard() {
    let mut p = Pair::new(|c| {
        c.by_hand = false;
        c.isolation = Isolation::Ping;
    })
    .in_sync();
    p.input(0, Input::Reachable(false));
    p.input(1, Input::Reachable(true));
    p.cut();
    assert_eq!(p.refused(1), None);
    assert_eq!(p.states(), [State::Wait, State::Alone]);
    p.input(0, Input::Reachable(true));
    assert_eq!(p.refused(0).as_deref(), Some("cut-off"));
    p.pass(3000);
    assert_eq!(p.refused(0), None);
}

/// Who looks for the first time finds nothing at first: no reason to give up when the peer is lost
/// soon after.
#[test]
fn an_address_that_answers_again_counts_at_once_when_the_peer_followed_since() {
    let mut p = Pair::new(|c| {
        c.by_hand = false;
        c.isolation = Isolation::Ping;
    })
    .in_sync();
    p.input(0, Input::Reachable(false));
    p.input(0, Input::Reachable(true));
    p.pass(600);
    p.cut();
    assert_eq!(p.states()[0], State::Alone);
}

#[test]
fn after_a_power_cut_a_node_waits_for_its_peer_and_then_goes_on_openly() {
    let mut p = Pair::witnessed().in_sync();
    p.restart(1, true);
    p.restart(0, true);
    // Neither could shrink in time: the witness still holds the epoch before the last.
    p.records[0] = p.records[1].clone();
    let found = (p.records[1].clone(), Id128([9; 16]));
    p.members[1] = Member::new(p.configs[1].clone(), found, p.now);
    p.witness = Some(Register::load(p.records[1].epoch_id()));
    assert!(p.members[1].record().lost);
    assert_eq!(p.refused(1).as_deref(), Some("lost"), "W3r");
    p.pass(60_000);
    assert_eq!(p.refused(1), None);
    assert!(p.records[1].lost, "until it grows again");
}

#[test]
fn a_late_answer_to_an_intent_given_up_is_void() {
    let mut p = Pair::witnessed().in_sync();
    p.cut();
    p.pass(100);
    // b asks, and meets a again before the answer.
    p.log.clear();
    let mut late = None;
    p.now += PROMISE;
    for output in p.members[1].handle(
        p.now,
        [Id128([77; 16]); 2],
        Input::Prim {
            token: 3,
            force: false,
        },
    ) {
        if let Output::Persist(record) = output {
            p.records[1] = *record;
            for output in p.members[1].handle(p.now, [Id128([78; 16]); 2], Input::Persisted(Ok(())))
            {
                if let Output::AskWitness { round, .. } = output {
                    late = Some(round);
                }
            }
        }
    }
    let late = late.expect("it asked");
    assert!(p.records[1].intent.is_some());
    p.finishes = false;
    p.connect();
    p.input(1, Input::Witness(late, WitnessAnswer::Granted));
    assert_eq!(p.states()[0], State::Alone);
    assert_ne!(p.states()[1], State::Alone);
    assert!(p.records[1].intent.is_none());
    let void = p.records[1].void.clone();
    assert_eq!(void, vec![Id128([77; 16])]);
    assert!(p.records[0].ended.contains(&void[0]), "both list it");
}
