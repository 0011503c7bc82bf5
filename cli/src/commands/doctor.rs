//! `tandem doctor`: whether this machine and its configuration are fit to run, one line for each
//! thing that was looked at, with a remedy where it is not (O09).
//!
//! It changes nothing, and may be run at any time. What cannot be known from here is said to be
//! not checked, not to be well.

mod files;
mod firewall;
mod fit;
mod machine;
mod network;
mod peer;
mod programs;

pub(crate) use fit::read_files;

use anyhow::Result;
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::config::{Dirs, load};
use crate::exit::Exit;

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Could not be looked at from here.
    Skip,
    /// It runs, but not as it should, or will not for long.
    Warn,
    /// It does not run like this.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Everything that was looked at.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Level::Ok, found.into(), None);
    }

    fn skip(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, Level::Skip, why.into(), None);
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Level::Warn, found.into(), Some(remedy.into()));
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Level::Fail, found.into(), Some(remedy.into()));
    }

    fn add(&mut self, check: &'static str, level: Level, found: String, remedy: Option<String>) {
        self.0.push(Finding {
            check,
            level,
            found,
            remedy,
        });
    }

    fn worst(&self) -> Level {
        self.0.iter().map(|f| f.level).max().unwrap_or(Level::Ok)
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|f| f.level == level).count()
    }

    fn print(&self) {
        for finding in &self.0 {
            let level = match finding.level {
                Level::Ok => "ok  ",
                Level::Skip => "skip",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            println!("{level}  {:<14} {}", finding.check, finding.found);
            if let Some(remedy) = &finding.remedy {
                println!("      {:<14} -> {remedy}", "");
            }
        }
        println!(
            "{} ok, {} not checked, {} to be looked at, {} wrong",
            self.count(Level::Ok),
            self.count(Level::Skip),
            self.count(Level::Warn),
            self.count(Level::Fail)
        );
    }
}

pub(crate) fn run(dirs: &Dirs, args: &DoctorArgs) -> Result<Exit> {
    let mut report = Report::default();
    machine::look(&mut report);
    let configured = match load(dirs).complete() {
        Ok(config) => {
            let names: Vec<_> = config.modules.iter().map(|m| m.name.as_str()).collect();
            let names = names.join(", ");
            report.ok(
                "configuration",
                format!("node {} of {}: {names}", config.node, config.cluster.name),
            );
            files::look(dirs, &config, &mut report);
            network::look(dirs, &config, &mut report);
            firewall::look(&config, &mut report);
            programs::look(&config, &mut report);
            peer::look(dirs, &config, &mut report);
            true
        }
        Err(problems) => {
            for problem in &problems.0 {
                let remedy = "correct it; `tandem config check` looks again";
                report.fail("configuration", problem.to_string(), remedy);
            }
            false
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.0)?);
    } else {
        report.print();
    }
    Ok(match (configured, report.worst()) {
        (false, _) => Exit::Configuration,
        (true, Level::Fail) => Exit::Failed,
        _ => Exit::Done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Level::Ok);
        report.ok("a", "well");
        report.skip("b", "not seen");
        assert_eq!(report.worst(), Level::Skip);
        report.fail("c", "bad", "mend it");
        report.warn("d", "meagre", "feed it");
        assert_eq!(report.worst(), Level::Fail);
        assert_eq!(report.count(Level::Warn), 1);
    }
}
