//! `tandem divergence`: files that were kept aside before they were overwritten on this node.

use anyhow::Result;
use tandem_repl::control::{Answer, AsideFile, Divergence, Request};
use time::OffsetDateTime;

use super::{ask, choose_module, status};
use crate::args::{ActionArgs, DivergenceCommand};
use crate::config::{Dirs, module_names};
use crate::exit::{Exit, UsageError};

pub(crate) fn run(dirs: &Dirs, command: &DivergenceCommand) -> Result<Exit> {
    let (action, what) = match command {
        DivergenceCommand::List { action } => (action, Divergence::List),
        DivergenceCommand::Discard { action } => (action, Divergence::Discard),
        DivergenceCommand::Export { to, action } => {
            let to = std::path::absolute(to)?;
            let text = to
                .to_str()
                .ok_or_else(|| UsageError(format!("{}: choose a name in UTF-8", to.display())))?;
            (action, Divergence::Export { to: text.into() })
        }
    };
    ask_and_print(dirs, action, what)
}

fn ask_and_print(dirs: &Dirs, args: &ActionArgs, what: Divergence) -> Result<Exit> {
    let module = choose_module(&module_names(dirs)?, args.module.as_deref())?;
    let listed = what == Divergence::List;
    let answer = ask(dirs, &module, &Request::Divergence(what), args.timeout)?;
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    }
    match answer {
        Answer::Refused(refusal) => {
            eprintln!("tandem: module {module}: {refusal}");
            return Ok(Exit::Failed);
        }
        Answer::Divergence(files) if !args.json => {
            if listed && files.is_empty() {
                println!("{module}: nothing was kept aside on this node");
            }
            files.iter().for_each(print_file);
        }
        _ => {}
    }
    Ok(Exit::Done)
}

fn print_file(file: &AsideFile) {
    let version = |(bytes, modified): (u64, i64)| {
        format!("{}, changed {}", status::size(bytes), time_text(modified))
    };
    println!("{}", file.path);
    println!("  kept   {}", version((file.size, file.modified)));
    match file.now {
        Some(now) => println!("  now    {}", version(now)),
        None => println!("  now    removed"),
    }
    match &file.kept {
        Some(place) => println!("  at     {place}"),
        None => println!("  at     not kept: the limit was reached"),
    }
}

/// Seconds since 1970 as UTC.
fn time_text(seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(time) => {
            let (date, (hour, minute, second)) = (time.date(), time.to_hms());
            format!("{date} {hour:02}:{minute:02}:{second:02} UTC")
        }
        Err(_) => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::time_text;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(time_text(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time_text(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(time_text(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(time_text(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(time_text(1_795_219_200), "2026-11-21 00:00:00 UTC");
    }
}
