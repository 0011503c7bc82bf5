//! `tandem config apply`: the managers bring a changed configuration to both nodes, or leave
//! everything as it was.

use std::fmt::Write;

use anyhow::{Result, bail};
use tandem_failover::control::{Answer, Applied, Request};
use tandem_failover::logic::change::keys::Effect;

use crate::args::ApplyArgs;
use crate::commands::{choose_module, managed};
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

pub(super) fn run(dirs: &Dirs, args: &ApplyArgs) -> Result<Exit> {
    let modules = match (&args.module, args.all) {
        (_, true) => Vec::new(),
        // Another node may have modules that this one does not.
        (Some(module), _) if args.node.is_some() => vec![module.clone()],
        (module, _) => vec![choose_module(&module_names(dirs)?, module.as_deref())?],
    };
    let request = Request::Apply { modules };
    let answer = managed::ask(dirs, args.node.as_deref(), request, args.timeout)?;
    let Some(answer) = answer else {
        eprintln!("tandem: no failover manager runs on this node; `systemctl start tandem`");
        return Ok(Exit::NotRunning);
    };
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    }
    match answer {
        Answer::Applied(applied) => {
            if !args.json {
                print!("{}", shown(&applied));
            }
            Ok(Exit::Done)
        }
        Answer::Refused(refusal) => {
            eprintln!("tandem: {refusal}");
            Ok(match refusal.code.as_str() {
                "configuration" => Exit::Configuration,
                "no-answer" | "unconfirmed" => Exit::NoAnswer,
                _ => Exit::Failed,
            })
        }
        _ => bail!("the manager answered another question"),
    }
}

fn shown(applied: &Applied) -> String {
    let mut text = format!(
        "{} in place on {} and {}\n",
        applied.files.join(", "),
        applied.node,
        applied.peer
    );
    for change in &applied.changes {
        let effect = match change.effect {
            Effect::Now | Effect::Stopped | Effect::Never => "taken over",
            Effect::NextStart => "counts when the module's daemon starts the next time",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {} of {}: {effect}", change.key, change.file);
    }
    if applied.changes.is_empty() {
        let _ = writeln!(text, "  nothing changed on {}", applied.node);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_failover::logic::change::keys::Changed;

    #[test]
    fn it_is_told_what_changed_and_when_it_counts() {
        let change = |key: &str, effect| Changed {
            file: "modules/shop.ron".into(),
            key: key.into(),
            effect,
        };
        let mut applied = Applied {
            node: "a".into(),
            peer: "b".into(),
            files: vec!["modules/shop.ron".into()],
            changes: vec![
                change("checkers", Effect::Now),
                change("scrub", Effect::NextStart),
            ],
        };
        let text = shown(&applied);
        assert!(text.starts_with("modules/shop.ron in place on a and b\n"));
        assert!(
            text.contains("checkers of modules/shop.ron: taken over"),
            "{text}"
        );
        assert!(
            text.contains("scrub of modules/shop.ron: counts when"),
            "{text}"
        );
        applied.changes.clear();
        assert!(shown(&applied).contains("nothing changed on a"));
    }
}
