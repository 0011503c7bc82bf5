//! `tandem verify`: compare both copies under load, and watch it.

use anyhow::Result;
use tandem_repl::control::{Answer, Request, Status};

use super::progress::{Step, watch};
use super::{ask, choose_module, status};
use crate::args::ActionArgs;
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

pub(crate) fn run(dirs: &Dirs, args: &ActionArgs, wait: bool) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    if let Answer::Refused(refusal) = ask(dirs, &module, &Request::Verify, args.timeout)? {
        eprintln!("tandem: module {module}: {refusal}");
        return Ok(Exit::Failed);
    }
    if !wait {
        return Ok(Exit::Done);
    }
    let exit = watch(dirs, &module, args.json, step)?;
    let Answer::Status(now) = ask(dirs, &module, &Request::Status, args.timeout)? else {
        return Ok(exit);
    };
    if !args.json
        && let Some(verify) = &now.verify
    {
        println!("{}", status::verify_text(verify));
        verify
            .differing
            .iter()
            .for_each(|path| println!("  {path}"));
    }
    Ok(exit)
}

/// Fails where something differed, so that a script notices.
fn step(now: &Status) -> Step {
    match &now.verify {
        Some(verify) if verify.running => Step::Running {
            done: verify.bytes,
            total: 0,
            text: status::verify_text(verify),
        },
        Some(verify) if verify.differences == 0 && verify.ended.is_none() => Step::Done,
        _ => Step::Failed,
    }
}
