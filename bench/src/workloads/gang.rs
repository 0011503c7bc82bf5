//! Several processes doing the same at the same time: each sets itself up, all start together, and
//! what they did is added up.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Tally;
use crate::runner;
use crate::sys::{self, Kind};

const READY: u8 = b'r';

/// What a worker answers. It cannot time itself: where there are more workers than processors, it
/// may begin when others have ended.
#[derive(Serialize, Deserialize)]
struct Done {
    tally: Tally,
    /// Since the origin that all processes share.
    ended: Duration,
}

/// Runs `workers` processes. `set_up` is called in each with its number and returns the timed part.
pub(super) fn run<S, W>(workers: u64, set_up: S) -> Result<Tally>
where
    S: Fn(u64) -> Result<W>,
    W: FnOnce() -> Result<Tally>,
{
    let origin = Instant::now();
    let (gate, opener) = io::pipe()?;
    let mut opener = Some(opener);
    let mut gang = Vec::new();
    for number in 0..workers {
        let (answers, writer) = io::pipe()?;
        let child = sys::fork(Kind::Worker, || {
            // Else the gate would stay open for as long as one of us waits at it.
            opener.take();
            let done = set_up(number).and_then(|work| {
                wait_at(&gate, &writer)?;
                let tally = work()?;
                Ok(Done {
                    tally,
                    ended: origin.elapsed(),
                })
            });
            runner::reply(&writer, done)
        })?;
        gang.push((child, answers));
    }
    let mut ready = Ok(());
    for (_, answers) in &mut gang {
        let mut word = [0];
        ready = ready.and(answers.read_exact(&mut word).context("a worker has ended"));
    }
    let opened = origin.elapsed();
    drop(opener);
    let mut sum = Tally::default();
    for (child, mut answers) in gang {
        let mut text = Vec::new();
        answers.read_to_end(&mut text)?;
        child.wait()?;
        // A worker that failed early has sent its error where the word was expected.
        if text.first() != Some(&b'{') {
            text.insert(0, b'{');
        }
        let Done { mut tally, ended } = runner::parse(&text)?;
        tally.elapsed = ended - opened;
        sum.merge(&tally);
    }
    ready?;
    if sum.operations == 0 {
        bail!("nothing was done");
    }
    Ok(sum)
}

/// Says that this worker is set up and waits until all are.
fn wait_at(gate: &PipeReader, mut answers: &PipeWriter) -> Result<()> {
    answers.write_all(&[READY])?;
    let mut gate = gate;
    gate.read_to_end(&mut Vec::new())?;
    Ok(())
}
