//! `tandem resync`: bring the following node's copy up, and watch it.

use anyhow::Result;
use tandem_repl::control::{Answer, Readiness, Request, State, Status};

use super::progress::{Step, watch};
use super::{ask, choose_module, status};
use crate::args::ActionArgs;
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

/// On the following node it is begun if need be; on the serving one it is only watched.
pub(crate) fn run(dirs: &Dirs, args: &ActionArgs, everything: bool, wait: bool) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    let now = ask(dirs, &module, &Request::Status, args.timeout)?;
    let serves = matches!(&now, Answer::Status(s)
        if s.state.serves() && !is_diverged(s));
    if !serves || everything {
        let answer = ask(dirs, &module, &Request::Resync { everything }, args.timeout)?;
        if let Answer::Refused(refusal) = answer {
            eprintln!("tandem: module {module}: {refusal}");
            return Ok(Exit::Failed);
        }
    }
    if wait {
        watch(dirs, &module, args.json, step)
    } else {
        Ok(Exit::Done)
    }
}

/// Both nodes served apart: the one that is told gives way.
fn is_diverged(status: &Status) -> bool {
    let mut reasons = status.why.iter().chain(&status.reason);
    reasons.any(|reason| reason.code == "diverged")
}

fn step(now: &Status) -> Step {
    if let Some(resync) = &now.resync {
        return Step::Running {
            done: resync.done_bytes,
            total: resync.total_bytes.max(resync.done_bytes),
            text: status::resync_text(resync),
        };
    }
    match (now.state, now.readiness) {
        (State::Prim | State::Second, Readiness::Ready) => Step::Done,
        (State::Wait | State::Stop, Readiness::NotReady) => Step::Failed,
        // Alone: nobody asks to be brought up, or is told why not.
        (State::Alone, _) if now.reason.is_some() => Step::Failed,
        _ => Step::Running {
            done: 0,
            total: 0,
            text: "the other node shows the progress".into(),
        },
    }
}
