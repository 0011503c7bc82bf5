//! Growing, rejoining, checkpoints, swap, clean stop.

use super::*;

#[test]
fn grows_source_first_target_second() {
    let mut p = Pair::new(|_| ());
    p.connect();
    p.prim(0);
    assert_eq!(p.states(), [State::Alone, State::Wait]);
    p.log.clear();
    p.input(1, Input::Second { token: 2 });
    p.happened(&[
        "b:Join",
        "a:ResyncBegin",
        "b:record-stale",
        "b:PrepareTarget",
        "b:TargetReady",
        "a:Start",
        "a:Frozen",
        "a:Finish",
        "a:record-2",
        "a:Grow",
        "a:Replicated",
        "b:EndTarget",
        "b:Flush",
        "b:record-2",
        "b:Grown",
        "a:LeaseAsk",
    ]);
    assert_eq!(p.states(), [State::Prim, State::Second]);
    assert_eq!(p.records[0].epoch, p.records[1].epoch, "I5");
    assert_eq!(p.records[0].ended, p.records[1].ended);
    assert!(p.records[0].served && !p.records[1].served && !p.records[1].stale);
    assert_eq!(p.resolved, vec![(1, Ok(())), (2, Ok(()))]);
    assert_eq!(p.dropped, [0, 0], "I6: growth drops no mark");
}

#[test]
fn nothing_is_answered_between_the_two_records_of_a_growth() {
    let mut p = Pair::new(|_| ());
    p.connect();
    p.prim(0);
    p.mute[1] = false;
    // The target never says that it holds the record.
    p.input(1, Input::Second { token: 2 });
    let mut p = Pair { log: vec![], ..p };
    p.cut();
    p.connect();
    assert_eq!(p.states(), [State::Prim, State::Second]);

    let mut p = Pair::new(|_| ());
    p.connect();
    p.prim(0);
    p.flush_fails[1] = true;
    p.input(1, Input::Second { token: 2 });
    // It could not flush: the source is in the epoch of both, and answers nothing in it.
    assert_ne!(p.states()[1], State::Second);
    assert!(p.records[1].stale);
    let seq = p.write(0);
    if p.members[0].state() != State::Alone || p.records[0].set_size() == 2 {
        assert_eq!(p.ack(0, seq), AckOutcome::Held);
    }
    p.pass(3000);
    assert_eq!(p.records[0].set_size(), 1, "{:#?}", p.log);
    assert!(p.answered[0].contains(&seq), "after the set shrank");
}

#[test]
fn a_resync_that_does_not_end_lets_writes_flow_again() {
    let mut p = Pair::new(|_| ());
    p.connect();
    p.prim(0);
    p.finishes = false;
    p.input(1, Input::Second { token: 2 });
    assert_eq!(p.gates[0], Gate::Frozen);
    p.pass(1200);
    p.happened(&["a:Finish", "a:Resume", "a:Alone"]);
    assert_eq!(p.gates[0], Gate::Alone);
    // A last pass reported late does not count.
    let round = p.members[0].join.as_ref().unwrap().round;
    p.input(0, Input::ResyncEvent(round, ResyncEvent::Finished));
    assert_eq!(p.states()[0], State::Alone);
    p.finishes = true;
    p.input(0, Input::ResyncEvent(round, ResyncEvent::Converged));
    assert_eq!(p.states(), [State::Prim, State::Second]);
}

#[test]
fn a_failed_resync_is_tried_again_later_and_says_why_on_both_nodes() {
    let mut p = Pair::new(|_| ());
    p.connect();
    p.prim(0);
    p.finishes = false;
    p.input(1, Input::Second { token: 2 });
    let round = p.members[0].join.as_ref().unwrap().round;
    let failed = ResyncEvent::Failed("no space".into());
    p.input(0, Input::ResyncEvent(round, failed));
    assert_eq!(p.gates[0], Gate::Alone);
    assert_eq!([p.code(0), p.code(1)], ["resync-failed", "resync-failed"]);
    p.happened(&["b:EndTarget"]);
    p.finishes = true;
    p.pass(500);
    assert_eq!(p.states()[0], State::Alone, "not at once");
    p.pass(2500);
    assert_eq!(p.states(), [State::Prim, State::Second], "{:#?}", p.log);
    assert_eq!(p.members[0].why(), vec![]);
}

#[test]
fn a_checkpoint_waits_for_what_it_covers_and_for_both_disks() {
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    let pressure = Pressure {
        marked: true,
        urgent: true,
        quiet: false,
    };
    p.input(0, Input::Pressure(pressure));
    p.pass(100);
    p.happened(&["a:BeginCheckpoint"]);
    p.never("a:CheckpointFlush");
    assert_eq!(p.ack(0, seq), AckOutcome::Complete);
    p.input(0, Input::Pressure(Pressure::default()));
    p.pass(100);
    p.happened(&[
        "a:Flush",
        "a:CheckpointFlush",
        "b:Flush",
        "b:CheckpointFlushed",
        "a:DropMarks",
    ]);
    p.happened(&["a:CheckpointDone", "b:DropMarks"]);
    assert_eq!(p.dropped, [1, 1]);

    // A session that ends in between ends it: nothing is dropped.
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    p.input(0, Input::Pressure(pressure));
    p.pass(100);
    p.cut();
    assert_eq!(p.ack(0, seq), AckOutcome::Unknown);
    p.pass(500);
    assert_eq!(p.dropped, [0, 0]);
}

#[test]
fn an_idle_pair_ends_with_an_empty_map() {
    let mut p = Pair::new(|_| ()).in_sync();
    let quiet = Pressure {
        marked: true,
        urgent: false,
        quiet: true,
    };
    p.input(0, Input::Pressure(quiet));
    p.pass(900);
    assert_eq!(p.dropped[0], 0);
    p.input(0, Input::Pressure(quiet));
    p.pass(300);
    assert_eq!(p.dropped[0], 1);
}

#[test]
fn the_followers_marks_go_though_the_server_has_none() {
    let mut p = Pair::new(|_| ()).in_sync();
    let quiet = Pressure {
        marked: false,
        urgent: false,
        quiet: true,
    };
    for _ in 0..3 {
        p.input(0, Input::Pressure(quiet));
        p.pass(1100);
    }
    assert_eq!(p.dropped, [1, 1], "once after growth, and no more");
}

#[test]
fn a_failed_flush_at_the_peer_costs_it_its_place() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.flush_fails[1] = true;
    let pressure = Pressure {
        marked: true,
        urgent: true,
        quiet: false,
    };
    p.input(0, Input::Pressure(pressure));
    p.pass(100);
    assert_eq!(p.dropped[0], 0);
    assert!(p.records[1].stale);
    assert_eq!(p.records[0].set_size(), 1);
    assert_eq!(p.states()[0], State::Alone);
}

#[test]
fn a_swap_is_drained_and_recorded_on_both_in_order() {
    let mut p = Pair::new(|_| ()).in_sync();
    let seq = p.write(0);
    p.input(0, Input::Swap { token: 5 });
    assert_eq!(p.gates[0], Gate::Frozen);
    p.never("a:record-2");
    assert_eq!(p.ack(0, seq), AckOutcome::Complete);
    p.pass(100);
    p.happened(&[
        "a:Frozen",
        "a:record-2",
        "a:ReadOnly",
        "a:Swap",
        "b:record-2",
        "b:Swapped",
        "b:LeaseAsk",
        "b:Replicated",
    ]);
    assert_eq!(p.states(), [State::Second, State::Prim]);
    assert_eq!(p.resolved, vec![(5, Ok(()))]);
    assert!(!p.records[0].served && p.records[1].served);
    assert!(
        p.members[1].may_acknowledge(p.now),
        "under the other's lease"
    );
    // And back, asked for on the follower.
    p.input(0, Input::Swap { token: 6 });
    p.pass(100);
    assert_eq!(p.states(), [State::Prim, State::Second]);
    assert_eq!(p.resolved.last(), Some(&(6, Ok(()))));
}

#[test]
fn a_swap_that_is_not_taken_up_steps_back() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.mute[0] = true;
    p.input(0, Input::Swap { token: 5 });
    assert_eq!(p.gates[0], Gate::ReadOnly);
    p.mute[0] = false;
    p.cut();
    assert!(p.resolved[0].1.is_err());
    p.connect();
    let verdict = p.members[0].verdict().unwrap();
    assert_eq!(verdict.stepped_back, vec!["a"], "V5a");
    assert_eq!(p.refused(0), None);
    p.happened(&["b:record-stale", "b:Told", "a:record-1", "a:Alone"]);
    assert_eq!(p.states(), [State::Prim, State::Second]);
}

#[test]
fn the_server_stops_and_the_other_goes_on() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.input(0, Input::Stop { token: 5 });
    p.happened(&[
        "a:Frozen",
        "a:CheckpointFlush",
        "b:Flush",
        "a:record-2",
        "a:Leave",
        "b:record-1",
        "b:Alone",
        "b:LeaveHeard",
        "a:record-stale",
    ]);
    assert!(p.exited[0] && p.records[0].left && p.records[0].clean);
    assert_eq!(p.states()[1], State::Alone);
    assert_eq!(p.code(1), "peer-left");
    p.restart(0, false);
    assert_eq!(p.refused(0).as_deref(), Some("stale"), "W6");
}

#[test]
fn the_follower_stops_and_the_server_goes_on() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.input(1, Input::Stop { token: 5 });
    p.happened(&[
        "b:Flush",
        "b:Flush",
        "b:record-2",
        "b:Leave",
        "a:record-1",
        "a:LeaveHeard",
    ]);
    assert!(p.exited[1] && p.records[1].left && p.records[1].stale);
    assert_eq!(p.states()[0], State::Alone);
    assert_eq!(p.resolved, vec![(5, Ok(()))]);
}

#[test]
fn without_an_answer_a_stop_ends_at_its_deadline() {
    let mut p = Pair::new(|_| ()).in_sync();
    p.input(1, Input::Stop { token: 4 });
    let mut p = Pair::new(|_| ()).in_sync();
    p.mute[1] = true;
    p.input(0, Input::Stop { token: 5 });
    p.pass(9000);
    assert!(p.exited[0], "{:#?}", p.log);
}
