//! The threads that ask, against registers that answer late, wrongly, or not at all.

use super::*;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};

/// What a scripted register does with the next question: after a pause, an answer or none.
type Step = (Duration, Result<WitnessAnswer, String>);

struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    asked: Mutex<Vec<Question>>,
}

impl Register for Scripted {
    fn put(&self, _: Id128, question: &Question, limit: Duration) -> Result<WitnessAnswer, String> {
        self.asked.lock().unwrap().push(question.clone());
        let step = self.steps.lock().unwrap().pop_front();
        let (pause, result) = step.unwrap_or((Duration::ZERO, Err("nothing more".into())));
        std::thread::sleep(pause.min(limit));
        if pause > limit {
            return Err("no answer in time".into());
        }
        result
    }
}

fn start(
    steps: &[Step],
    limit: Duration,
) -> (Witness, Arc<Scripted>, Receiver<(u64, WitnessAnswer)>) {
    let scripted = Arc::new(Scripted {
        steps: Mutex::new(steps.iter().cloned().collect()),
        asked: Mutex::default(),
    });
    let (tell, told) = channel();
    let answer = move |round, said| {
        let _ = tell.send((round, said));
    };
    let witness = Witness::with(scripted.clone(), "scripted", limit, answer).unwrap();
    (witness, scripted, told)
}

fn ask(n: u8) -> Question {
    let list = vec![Id128([1; 16])];
    let new = Id128([n; 16]);
    Question::Ask { list, new }
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(500);
const VOLUME: Id128 = Id128([9; 16]);

#[test]
fn a_question_is_repeated_until_it_is_answered() {
    let lost = || (Duration::ZERO, Err("lost".to_string()));
    let granted = (Duration::ZERO, Ok(WitnessAnswer::Granted));
    let (witness, scripted, told) = start(&[lost(), lost(), granted], LONG);
    witness.put(7, VOLUME, ask(2));
    assert_eq!(told.recv_timeout(LONG), Ok((7, WitnessAnswer::Granted)));
    assert_eq!(*scripted.asked.lock().unwrap(), vec![ask(2); 3]);
    let status = witness.status();
    assert!(status.answered_ago_ms.is_some() && status.last_error.is_none());
}

#[test]
fn a_witness_that_is_gone_or_slow_is_silent_within_the_limit() {
    let slow = (LONG, Ok(WitnessAnswer::Granted));
    for steps in [&[][..], &[slow.clone(), slow][..]] {
        let (witness, _, told) = start(steps, SHORT);
        let began = Instant::now();
        witness.put(1, VOLUME, ask(2));
        assert_eq!(told.recv_timeout(LONG), Ok((1, WitnessAnswer::Silent)));
        let took = began.elapsed();
        assert!(took >= SHORT && took < SHORT * 4, "{took:?}");
        assert!(witness.status().last_error.is_some());
        assert!(told.try_recv().is_err(), "one answer each");
    }
}

#[test]
fn a_later_question_takes_an_earlier_ones_place() {
    let lost = (Duration::from_millis(50), Err("lost".to_string()));
    let granted = (Duration::ZERO, Ok(WitnessAnswer::Granted));
    let (witness, scripted, told) = start(&[lost, granted], LONG);
    witness.put(1, VOLUME, ask(2));
    while scripted.asked.lock().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    witness.put(2, VOLUME, ask(3));
    assert_eq!(told.recv_timeout(LONG), Ok((2, WitnessAnswer::Granted)));
    assert!(
        told.try_recv().is_err(),
        "the first is not answered any more"
    );
    assert_eq!(*scripted.asked.lock().unwrap(), [ask(2), ask(3)]);
}

#[test]
fn a_report_under_way_delays_no_question() {
    let slow = (Duration::from_secs(4), Ok(WitnessAnswer::Granted));
    let refused = (Duration::ZERO, Ok(WitnessAnswer::Refused(None)));
    let (witness, scripted, told) = start(&[slow, refused], LONG);
    let report = Question::Tell {
        list: Vec::new(),
        id: Id128([1; 16]),
        force: false,
    };
    witness.put(1, VOLUME, report);
    while scripted.asked.lock().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let began = Instant::now();
    witness.put(2, VOLUME, ask(2));
    assert_eq!(
        told.recv_timeout(LONG),
        Ok((2, WitnessAnswer::Refused(None)))
    );
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(told.recv_timeout(LONG), Ok((1, WitnessAnswer::Granted)));
}
