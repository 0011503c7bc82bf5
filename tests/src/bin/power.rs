//! Two guests whose power is cut: the part outside, and the part inside the guests.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use tandem_tests::managed::program;
use tandem_tests::power::inside::{boot, files, init, start, tree};
use tandem_tests::power::{self, told};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["guest", ref words @ ..] => guest(words),
        ["boot", ref words @ ..] => power::boot::outside(words),
        _ => power::outside(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a guest runs of this program.
fn guest(words: &[&str]) -> Result<()> {
    match words {
        // The kernel adds words of its own.
        ["init", number, host, ..] => init::run(number.parse()?, host),
        ["boot", number, host, ..] => boot::run(number.parse()?, host),
        ["keep", number] => boot::keep(number.parse()?),
        ["serve", dir, node, ready, addresses @ ..] => {
            let served = program::serve(Path::new(dir), node, Path::new(ready), addresses);
            served.map_err(anyhow::Error::msg)
        }
        ["start", number, host, power] => start::run(number, host, power),
        ["files", dir] => files::run(Path::new(dir), false),
        ["lying-files", dir] => files::run(Path::new(dir), true),
        ["check-files", dir, level] => {
            let mut lines = String::new();
            std::io::stdin().read_to_string(&mut lines)?;
            let found = told::check(Path::new(dir), level, &lines).context("small files")?;
            println!("{found}");
            Ok(())
        }
        ["tree", dir] => {
            println!("{}", tree::send(Path::new(dir))?);
            Ok(())
        }
        _ => bail!("unknown: {words:?}"),
    }
}
