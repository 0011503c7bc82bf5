//! `tandem why`: what blocks or degrades a module, and what would release it.

use anyhow::Result;
use tandem_failover::client::STATUS_LIMIT;
use tandem_repl::control::{Answer, Request, Status};

use super::{ask, choose_module};
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

/// Asks one module, or all. Fails if anything blocks, so that scripts can ask as well.
pub(crate) fn run(dirs: &Dirs, named: Option<&str>) -> Result<Exit> {
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

/// Whether there was anything to tell.
fn print_reasons(status: &Status) -> bool {
    let mut reasons: Vec<_> = status.why.iter().collect();
    if reasons.is_empty() {
        reasons.extend(&status.reason);
    }
    if reasons.is_empty() {
        println!("{} on {}: nothing is wrong", status.module, status.node);
        return false;
    }
    for reason in reasons {
        println!(
            "{} on {}: {} ({})",
            status.module, status.node, reason.reason, reason.code
        );
        println!("  to release it: {}", reason.remedy);
    }
    true
}
