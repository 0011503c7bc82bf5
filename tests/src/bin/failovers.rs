//! A long series of failovers in one lab, see [`tandem_tests::failovers`].

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;
use tandem_tests::failovers::{self, Options};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = Options::parse(&words)?;
    let binary = std::env::var_os("TANDEM_BIN").map(PathBuf::from);
    let binary = binary.context("TANDEM_BIN does not name the tandem program")?;
    let helper = std::env::current_exe()?.with_file_name("inside");
    let helper = helper.to_str().context("the helper's path is text")?;
    failovers::run(binary, helper, &options)
}
