//! Random operations on a subject and on a plain directory, answer by answer.
//!
//! `TANDEM_SEED` repeats a run, `TANDEM_STEPS` makes it longer.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::collections::BTreeMap;
use tandem_tests::cluster::{Cluster, binary};
use tandem_tests::generate::{Features, Generator, Step};
use tandem_tests::model::{self, Arena};
use tandem_tests::ops::{Op, Outcome, Side, Value};
use tandem_tests::rng::{Rng, seed, setting};
use tandem_tests::scratch::{Scratch, inside, subdir};
use tandem_tests::sys;

#[test]
fn a_bare_directory_behaves_like_a_bare_directory() {
    let mut seeds = Rng::new(seed("model"));
    let steps = setting("TANDEM_STEPS", 3000) as usize;
    for _ in 0..4 {
        let (subject, reference) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let (subject, reference) = (subject.dir(), reference.dir());
        let arena = Arena {
            subject,
            reference,
            tamper: None,
        };
        let mut generator = Generator::new(seeds.next_u64(), Features::ALL);
        arena
            .explore(&mut generator, steps)
            .unwrap_or_else(|text| panic!("{text}"));
    }
}

/// Runs a fixed seed with a subject that lies, and expects the report to say this.
fn caught(tamper: fn(&Step, &mut Outcome, &Side), words: &[&str], at_most_steps: usize) {
    let (subject, reference) = (Scratch::new().unwrap(), Scratch::new().unwrap());
    let (subject, reference) = (subject.dir(), reference.dir());
    let arena = Arena {
        subject,
        reference,
        tamper: Some(tamper),
    };
    let text = arena
        .explore(&mut Generator::new(7, Features::ALL), 600)
        .expect_err("a wrong answer must be found");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let listed = text
        .lines()
        .filter(|line| line.starts_with("  uid "))
        .count();
    assert!(listed <= at_most_steps, "{listed} steps are left:\n{text}");
}

#[test]
fn a_wrong_answer_is_found_and_shortened_to_its_cause() {
    let wrong = |step: &Step, outcome: &mut Outcome, _: &Side| {
        if let (Op::Pwrite { .. }, Ok(Value::Number(len))) = (&step.op, outcome)
            && *len > 0
        {
            *len -= 1;
        }
    };
    // An open file and the write to it.
    caught(wrong, &["Pwrite", "on a plain directory"], 2);
}

#[test]
fn a_silent_change_of_the_tree_is_found() {
    let silent = |step: &Step, outcome: &mut Outcome, side: &Side| {
        if let (Op::Mkdir { path, .. }, Ok(_)) = (&step.op, outcome) {
            sys::fchdir(side.dir()).unwrap();
            sys::setxattr(path, "user.stray", b"1", 0).unwrap();
        }
    };
    // Seen by the comparison of the trees, or earlier by a later listing.
    caught(silent, &["Mkdir", "user.stray"], 2);
}

#[test]
fn every_operation_succeeds_often_and_fails_sometimes() {
    let place = Scratch::new().unwrap();
    let mut generator = Generator::new(11, Features::ALL);
    let mut counts = BTreeMap::<String, [u32; 2]>::new();
    let mut errors = BTreeMap::<String, BTreeMap<String, u32>>::new();
    let mut side = Side::new(subdir(place.dir(), "run").unwrap());
    inside(place.dir(), || {
        for _ in 0..12_000 {
            let step = generator.step();
            let outcome = model::take(&step, &mut side);
            generator.learn(&step, &outcome);
            let name = format!("{:?}", step.op);
            let name = name.split(' ').next().unwrap().to_string();
            if let Err(error) = outcome {
                let errors: &mut BTreeMap<_, u32> = errors.entry(name.clone()).or_default();
                *errors.entry(error.to_string()).or_default() += 1;
            }
            counts.entry(name).or_default()[usize::from(outcome.is_err())] += 1;
        }
    });
    for (name, [good, bad]) in &counts {
        let share = 100 * good / (good + bad);
        let errors: Vec<_> = errors.get(name).into_iter().flatten().collect();
        println!("{name:12} {good:5} succeeded {bad:5} failed {share:3} % {errors:?}");
        assert!(*good >= 5, "{name} hardly ever succeeds");
        assert!(*bad > 0, "{name} never fails");
    }
    assert_eq!(counts.len(), 42, "every operation is generated");
}

#[test]
fn two_nodes_behave_like_a_bare_directory() {
    let Some(binary) = binary("random operations") else {
        return;
    };
    let cluster = Cluster::up(binary, env!("CARGO_BIN_EXE_inside"), &[]).unwrap();
    let seed = seed("model").to_string();
    let steps = setting("TANDEM_STEPS", 3000).to_string();
    let found = cluster.inside("node1", "model", &[&seed, "3", &steps]);
    let equal = cluster.replicas_are_equal("node1");
    found.unwrap();
    equal.unwrap();
}
