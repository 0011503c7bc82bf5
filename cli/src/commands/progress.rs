//! Watching something that takes long: a bar on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use tandem_failover::client::STATUS_LIMIT;
use tandem_repl::control::{Answer, Request, Status};

use super::ask;
use crate::config::Dirs;
use crate::exit::Exit;

/// How often the daemon is asked.
const PACE: Duration = Duration::from_millis(250);
/// How often a line is printed where there is no terminal.
const LINES: Duration = Duration::from_secs(5);

/// How far it is.
pub(super) enum Step {
    /// Bytes done, of so many as far as is known, and the same in words.
    Running {
        done: u64,
        total: u64,
        text: String,
    },
    Done,
    Failed,
}

/// Asks until it is done or failed; then prints the status.
pub(super) fn watch(
    dirs: &Dirs,
    module: &str,
    json: bool,
    step: impl Fn(&Status) -> Step,
) -> Result<Exit> {
    let shown = Shown::new(json);
    let mut printed: Option<Instant> = None;
    loop {
        let status = match ask(dirs, module, &Request::Status, STATUS_LIMIT)? {
            Answer::Status(status) | Answer::Done(status) => status,
            Answer::Refused(refusal) => {
                eprintln!("tandem: module {module}: {refusal}");
                return Ok(Exit::Failed);
            }
            Answer::Divergence(_) => continue,
        };
        let exit = match step(&status) {
            Step::Running { done, total, text } => {
                match &shown {
                    Shown::Bar(bar) => {
                        bar.set_length(total);
                        bar.set_position(done);
                        bar.set_message(text);
                    }
                    Shown::Lines if printed.is_none_or(|at| at.elapsed() >= LINES) => {
                        println!("{text}");
                        printed = Some(Instant::now());
                    }
                    _ => {}
                }
                std::thread::sleep(PACE);
                continue;
            }
            Step::Done => Exit::Done,
            Step::Failed => Exit::Failed,
        };
        if let Shown::Bar(bar) = &shown {
            bar.finish_and_clear();
        }
        if json {
            println!("{}", serde_json::to_string(&Answer::Status(status))?);
        } else {
            print!("{}", super::status::Shown(&status));
        }
        return Ok(exit);
    }
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Shown {
    fn new(json: bool) -> Self {
        if json {
            return Self::Nothing;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("[{bar:30}] {percent:>3} %  {msg}");
        bar.set_style(style.expect("the template is a constant that parses"));
        Self::Bar(bar)
    }
}

/// `[######--------------]  30 %  `, or nothing where it is not known how much there is.
pub(super) fn bar(done: u64, total: u64) -> String {
    const WIDTH: u64 = 20;
    if total == 0 {
        return String::new();
    }
    let done = done.min(total);
    let share = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total)) as u64;
    let full = share(WIDTH) as usize;
    let (full, rest) = ("#".repeat(full), "-".repeat(WIDTH as usize - full));
    format!("[{full}{rest}] {:>3} %  ", share(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_is_done() {
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(3, 10), "[######--------------]  30 %  ");
        assert_eq!(bar(u64::MAX, 7), "[####################] 100 %  ");
    }
}
