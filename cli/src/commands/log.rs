//! `tandem log`: what the failover manager decided and did, and how long failovers took.

use anyhow::{Result, bail};
use tandem_failover::client::STATUS_LIMIT;
use tandem_failover::control::{Answer, Failover, Request};

use super::{choose_module, managed};
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

pub(crate) fn run(
    dirs: &Dirs,
    module: Option<String>,
    lines: usize,
    (failovers, json): (bool, bool),
) -> Result<Exit> {
    let request = if failovers {
        let module = choose_module(&module_names(dirs)?, module.as_deref())?;
        Request::Failovers { module }
    } else {
        Request::Log { module, lines }
    };
    let Some(answer) = managed::ask(dirs, None, request, STATUS_LIMIT)? else {
        eprintln!("tandem: no failover manager runs on this node");
        return Ok(Exit::NotRunning);
    };
    if json {
        println!("{}", serde_json::to_string(&answer)?);
        return Ok(Exit::Done);
    }
    match answer {
        Answer::Log(lines) => lines.iter().for_each(|line| println!("{line}")),
        Answer::Failovers(all) => all.iter().for_each(show),
        Answer::Refused(refusal) => {
            eprintln!("tandem: {refusal}");
            return Ok(Exit::Failed);
        }
        _ => bail!("the manager answered another question"),
    }
    Ok(Exit::Done)
}

fn show(failover: &Failover) {
    let began = i64::try_from(failover.began).unwrap_or_default();
    let time = time::OffsetDateTime::from_unix_timestamp(began);
    let time = time.map(|t| t.to_string()).unwrap_or_default();
    println!("{time}  {}", failover.reason);
    let mut before = 0;
    for (phase, at) in &failover.phases {
        let name = format!("{phase:?}").to_lowercase();
        println!("  {name:<12} at {at:>6} ms  (+{} ms)", at - before);
        before = *at;
    }
}
