//! `tandem why`: what blocks or degrades a module, and what would release it.

use anyhow::{Result, bail};
use tandem_failover::client::STATUS_LIMIT;
use tandem_failover::control::Answer as ManagerAnswer;
use tandem_repl::control::{Answer, Refusal, Request, Status};

use super::{ask, choose_module, managed};
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

/// Asks one module, or all. Fails if anything blocks, so that scripts can ask as well.
pub(crate) fn run(dirs: &Dirs, named: Option<&str>) -> Result<Exit> {
    let request = tandem_failover::control::Request::Status;
    if let Some(answer) = managed::ask(dirs, None, request, STATUS_LIMIT)? {
        return managed_why(dirs, named, answer);
    }
    let known = module_names(dirs)?;
    let modules = match named {
        None if known.len() > 1 => known,
        _ => vec![choose_module(&known, named)?],
    };
    let mut worst = Exit::Done;
    for module in &modules {
        match ask(dirs, module, &Request::Status, STATUS_LIMIT) {
            Ok(Answer::Status(status) | Answer::Done(status)) => {
                if print_reasons(&status) {
                    worst = worst.max(Exit::Failed);
                }
            }
            Ok(Answer::Refused(refusal)) => {
                eprintln!("tandem: module {module}: {refusal}");
                worst = worst.max(Exit::Failed);
            }
            Ok(Answer::Divergence(_)) => {}
            Err(error) => {
                eprintln!("tandem: {error:#}");
                worst = worst.max(Exit::of(&error));
            }
        }
    }
    Ok(worst)
}

/// What the failover manager knows of all modules, or of one.
fn managed_why(dirs: &Dirs, named: Option<&str>, answer: ManagerAnswer) -> Result<Exit> {
    let ManagerAnswer::Status(mut node) = answer else {
        bail!("the manager answered another question");
    };
    if let Some(named) = named {
        let named = choose_module(&module_names(dirs)?, Some(named))?;
        node.modules.retain(|module| module.module == named);
    }
    let mut exit = Exit::Done;
    for module in &node.modules {
        // What the daemon says beside what the manager made of it.
        let mut all: Vec<&Refusal> = module.why.iter().collect();
        if let Some(daemon) = &module.daemon {
            let more = daemon.why.iter();
            all.extend(more.filter(|r| !module.why.contains(r) && r.code != "no-role"));
        }
        if print_all(&module.module, &module.node, &all) {
            exit = Exit::Failed;
        }
        for note in &module.notes {
            println!(
                "{} on {}: note: {} ({})",
                module.module, module.node, note.reason, note.code
            );
            println!("  remedy: {}", note.remedy);
        }
    }
    Ok(exit)
}

/// Whether there was anything to tell.
fn print_reasons(status: &Status) -> bool {
    let mut reasons: Vec<_> = status.why.iter().collect();
    if reasons.is_empty() {
        reasons.extend(&status.reason);
    }
    print_all(&status.module, &status.node, &reasons)
}

fn print_all(module: &str, node: &str, reasons: &[&Refusal]) -> bool {
    if reasons.is_empty() {
        println!("{module} on {node}: nothing is wrong");
    }
    for reason in reasons {
        println!("{module} on {node}: {} ({})", reason.reason, reason.code);
        println!("  to release it: {}", reason.remedy);
    }
    !reasons.is_empty()
}
