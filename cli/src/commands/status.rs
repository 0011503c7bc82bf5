//! `tandem status`: what the daemons say, for people or as JSON.

use std::fmt;

use anyhow::{Result, bail};
use tandem_failover::client::{ClientError, STATUS_LIMIT};
use tandem_repl::control::{
    Answer, PathStatus, PeerStatus, Readiness, Refusal, Request, ResyncStatus, State, Status,
    VerifyStatus, WitnessStatus,
};

use super::{ask, choose_module, managed, node_status, progress};
use crate::config::{Dirs, module_names};
use crate::exit::Exit;

/// Asks one module, or all, and prints the answers. The exit code is the worst of them.
pub(crate) fn run(
    dirs: &Dirs,
    named: Option<&str>,
    node: Option<&str>,
    json: bool,
) -> Result<Exit> {
    let request = tandem_failover::control::Request::Status;
    if let Some(answer) = managed::ask(dirs, node, request, STATUS_LIMIT)? {
        return node_status::show(dirs, named, answer, json);
    }
    if let Some(node) = node {
        bail!("no failover manager runs on this node, so {node} cannot be asked");
    }
    let known = module_names(dirs)?;
    let modules = match named {
        None if known.len() > 1 => known,
        _ => vec![choose_module(&known, named)?],
    };
    let mut worst = Exit::Done;
    for module in &modules {
        let (answer, exit) = match ask(dirs, module, &Request::Status, STATUS_LIMIT) {
            Ok(answer) => (answer, Exit::Done),
            Err(error) => (
                Answer::Refused(unreachable(module, &error)),
                Exit::of(&error),
            ),
        };
        worst = worst.max(exit);
        if json {
            println!("{}", serde_json::to_string(&answer)?);
        }
        match answer {
            Answer::Status(status) | Answer::Done(status) if !json => {
                print!("{}", Shown(&status));
            }
            Answer::Refused(refusal) => {
                eprintln!("tandem: module {module}: {refusal}");
                worst = worst.max(Exit::Failed);
            }
            _ => {}
        }
    }
    Ok(worst)
}

pub(super) fn readiness(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::NotReady => "not ready",
        Readiness::Transient => "moving",
        Readiness::Ready => "ready",
    }
}

/// What stands in for the answer of a daemon that gave none.
fn unreachable(module: &str, error: &anyhow::Error) -> Refusal {
    let reason = error.root_cause().to_string();
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::NotRunning { .. }) => Refusal::new(
            "not-running",
            reason,
            format!("start it with `tandem fs {module}`"),
        ),
        _ => Refusal::new("no-answer", reason, "see the daemon's log"),
    }
}

/// A status as a few aligned lines, ending in a newline.
pub(crate) struct Shown<'s>(pub(crate) &'s Status);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let state = state_name(status.state);
        let readiness = readiness(status.readiness);
        writeln!(
            f,
            "{} on {}: {state}, {readiness}",
            status.module, status.node
        )?;
        if let Some(reason) = &status.reason {
            writeln!(f, "  reason       {} ({})", reason.reason, reason.code)?;
            writeln!(f, "  remedy       {}", reason.remedy)?;
        }
        details(f, status)
    }
}

/// What a daemon tells beside its state.
pub(super) fn details(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    match &status.epoch {
        Some((number, id)) => writeln!(f, "  epoch        {number} ({id})")?,
        None => writeln!(f, "  epoch        none yet")?,
    }
    let in_sync = match status.in_sync.as_slice() {
        [] => "none".into(),
        nodes => nodes.join(", "),
    };
    writeln!(f, "  in sync      {in_sync}")?;
    writeln!(f, "  peer         {}", peer_text(&status.peer))?;
    // One network alone is as the link is.
    if let [_, _, ..] = status.peer.paths[..] {
        for (index, path) in status.peer.paths.iter().enumerate() {
            let label = if index == 0 { "networks" } else { "" };
            writeln!(f, "  {label:<12} {}", path_text(path))?;
        }
    }
    for (index, directory) in status.directories.iter().enumerate() {
        let label = if index == 0 { "directories" } else { "" };
        let mounted = if directory.mounted {
            "mounted"
        } else {
            "not mounted"
        };
        writeln!(f, "  {label:<12} {} ({mounted})", directory.path)?;
    }
    replica_lines(f, status)?;
    let counters = &status.counters;
    writeln!(
        f,
        "  operations   {} acknowledged, {} applied from the peer, {} in flight",
        counters.acknowledged, counters.applied, counters.in_flight
    )?;
    writeln!(
        f,
        "  bytes        {} sent, {} received",
        size(counters.bytes_sent),
        size(counters.bytes_received)
    )?;
    writeln!(
        f,
        "  daemon       pid {}, {} resident, {:.1} s of CPU",
        status.pid,
        size(counters.rss_bytes),
        counters.cpu_us as f64 / 1e6
    )
}

/// What is known of the difference between the replicas.
fn replica_lines(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let marks = &status.marks;
    if marks.everything {
        writeln!(f, "  marked       everything")?;
    } else if marks.files + marks.directories > 0 {
        let hot = match marks.hot_bytes {
            0 => String::new(),
            bytes => format!(", {} since the last checkpoint", size(bytes)),
        };
        writeln!(
            f,
            "  marked       {} files, {} directories{hot}",
            marks.files, marks.directories
        )?;
    }
    if let Some(witness) = &status.witness {
        writeln!(f, "  witness      {}", witness_text(witness))?;
    }
    if let Some(ms) = status.held_ms {
        let seconds = ms as f64 / 1000.0;
        writeln!(
            f,
            "  held         changes are not answered for {seconds:.1} s"
        )?;
    }
    if let Some(resync) = &status.resync {
        let done = progress::bar(resync.done_bytes, resync.total_bytes);
        writeln!(f, "  resync       {done}{}", resync_text(resync))?;
    }
    if let Some(verify) = &status.verify {
        writeln!(f, "  verify       {}", verify_text(verify))?;
    }
    Ok(())
}

/// How the witness was met last, in one line.
fn witness_text(witness: &WitnessStatus) -> String {
    let met = match witness.answered_ago_ms {
        Some(ms) => format!("answered {} s ago", ms / 1000),
        None => "has not answered yet".into(),
    };
    let error = witness.last_error.as_deref();
    let error = error.map_or(String::new(), |why| format!("; last attempt: {why}"));
    format!("{}, {met}{error}", witness.kind)
}

/// Progress of a resync in one line.
pub(super) fn resync_text(resync: &ResyncStatus) -> String {
    let mut text = format!(
        "{}: {} of {}, {} files, {} sent, {}/s",
        resync.phase,
        size(resync.done_bytes),
        size(resync.total_bytes.max(resync.done_bytes)),
        resync.files,
        size(resync.sent_bytes),
        size(resync.bytes_per_second)
    );
    if let Some(seconds) = resync.eta_s {
        text += &format!(", {seconds} s left");
    }
    match (resync.share_percent, resync.latency_percent) {
        (Some(share @ ..100), Some(latency)) => {
            text += &format!("; working {share} % of the time, answers at {latency} %");
        }
        (Some(share @ ..100), None) => text += &format!("; working {share} % of the time"),
        _ => {}
    }
    if resync.change_delay_us > 0 {
        let ms = resync.change_delay_us as f64 / 1000.0;
        text +=
            &format!("; changes come faster than they travel and are delayed by {ms:.1} ms each");
    }
    if let Some(stuck) = &resync.stuck {
        text += &format!("; nothing moves: {stuck}");
    }
    text
}

/// What a verification has seen, in one line.
pub(super) fn verify_text(verify: &VerifyStatus) -> String {
    let what = match (verify.running, verify.asked) {
        (true, true) => "running",
        (true, false) => "background scrub running",
        (false, _) => "ended",
    };
    let mut text = format!(
        "{what}: {} files, {} compared, {} differences",
        verify.files,
        size(verify.bytes),
        verify.differences
    );
    if let Some(first) = verify.differing.first() {
        text += &format!(" (first: {first})");
    }
    if let Some(why) = &verify.ended {
        text += &format!("; ended early: {why}");
    }
    text
}

fn peer_text(peer: &PeerStatus) -> String {
    if !peer.connected {
        let reason = peer.reason.as_deref().unwrap_or("no reason given");
        return format!("{} not connected: {reason}", peer.node);
    }
    let state = peer.state.map_or("state unknown", state_name);
    let round_trip = peer
        .round_trip_us
        .map_or(String::new(), |us| format!(", {us} µs round trip"));
    format!("{} connected, {state}{round_trip}", peer.node)
}

/// One network between the nodes in one line.
fn path_text(path: &PathStatus) -> String {
    let mut text = format!("{} to {}: ", path.local, path.remote);
    text += match (path.current, path.alive) {
        (true, true) => "used",
        (true, false) => "used, but nothing is heard of the peer there",
        (false, true) => "ready",
        (false, false) => "silent",
    };
    if let Some(us) = path.round_trip_us {
        text += &format!(", {us} µs round trip");
    }
    if path.alive && path.loss_percent > 0 {
        text += &format!(", {} % lost", path.loss_percent);
    }
    text
}

pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Stop => "STOP",
        State::Wait => "WAIT",
        State::Alone => "ALONE",
        State::Prim => "PRIM",
        State::Second => "SECOND",
    }
}

/// Bytes in the largest binary unit that leaves at least one before the point.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use tandem_repl::control::{Counters, DirectoryStatus};

    use super::*;

    #[test]
    fn a_blocked_module_says_why_and_what_would_help() {
        let status = Status {
            module: "ledger".into(),
            node: "a".into(),
            state: State::Wait,
            readiness: Readiness::NotReady,
            reason: Some(Refusal::new(
                "stale",
                "this copy is not good",
                "start node b",
            )),
            pid: 4242,
            epoch: Some((3, "7f3a".into())),
            in_sync: vec!["b".into()],
            peer: PeerStatus {
                node: "b".into(),
                connected: false,
                state: None,
                round_trip_us: None,
                reason: Some("no answer from 10.0.0.2:7400".into()),
                paths: [(true, 5), (false, 100)]
                    .map(|(alive, loss_percent)| PathStatus {
                        local: "10.0.0.1".into(),
                        remote: "10.0.0.2".into(),
                        current: alive,
                        alive,
                        round_trip_us: alive.then_some(120),
                        loss_percent,
                    })
                    .into(),
            },
            directories: ["/var/lib/ledger", "/srv/db"]
                .map(|path| DirectoryStatus {
                    path: path.into(),
                    mounted: true,
                })
                .into(),
            counters: Counters {
                bytes_sent: 1536,
                rss_bytes: 5 << 20,
                cpu_us: 1_250_000,
                ..Counters::default()
            },
            why: Vec::new(),
            marks: Default::default(),
            resync: None,
            verify: None,
            version: 1,
            served: false,
            held_ms: Some(1250),
            serves_until_ms: None,
            lost: false,
            stale: false,
            left: false,
            witness: Some(WitnessStatus {
                kind: "tandem".into(),
                answered_ago_ms: Some(61_500),
                last_error: Some("10.0.0.9:7402: connecting: timed out".into()),
            }),
        };
        let expected = "\
ledger on a: WAIT, not ready
  reason       this copy is not good (stale)
  remedy       start node b
  epoch        3 (7f3a)
  in sync      b
  peer         b not connected: no answer from 10.0.0.2:7400
  networks     10.0.0.1 to 10.0.0.2: used, 120 µs round trip, 5 % lost
               10.0.0.1 to 10.0.0.2: silent
  directories  /var/lib/ledger (mounted)
               /srv/db (mounted)
  witness      tandem, answered 61 s ago; last attempt: 10.0.0.9:7402: connecting: timed out
  held         changes are not answered for 1.2 s
  operations   0 acknowledged, 0 applied from the peer, 0 in flight
  bytes        1.5 KiB sent, 0 B received
  daemon       pid 4242, 5.0 MiB resident, 1.2 s of CPU
";
        assert_eq!(Shown(&status).to_string(), expected);
    }
}
