//! W11: PostgreSQL's own benchmark, with one client and with eight: an application as people run
//! it, in which replication is only a part of the cost.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::pg_server::{self, Server};
use super::{Context, Floor, Needs, PLAIN, Spec, Tally};
use crate::histogram::Histogram;

pub(super) static C1: Spec = Spec {
    id: "W11-c1",
    what: "pgbench, 1 client",
    unit: "tps",
    group: "pgbench",
    needs: Needs::Postgres,
    floor: Floor::Always(0.7),
    prepare,
    run: |context| run(context, 1),
    ..PLAIN
};

pub(super) static C8: Spec = Spec {
    id: "W11-c8",
    what: "pgbench, 8 clients",
    unit: "tps",
    group: "pgbench",
    needs: Needs::Postgres,
    floor: Floor::Always(0.6),
    prepare,
    run: |context| run(context, 8),
    ..PLAIN
};

fn data(context: &Context) -> PathBuf {
    context.dir.join("pgdata")
}

/// Stands beside the data directory when it is complete.
fn mark(context: &Context) -> PathBuf {
    context.dir.join("pgdata.filled")
}

fn prepare(context: &Context) -> Result<()> {
    if mark(context).exists() {
        return Ok(());
    }
    super::files::remove_tree(&data(context))?;
    pg_server::create(&data(context))?;
    let server = Server::start(&data(context), &context.scratch)?;
    let scale = context.sizes.pgbench_scale.to_string();
    server.client("pgbench", &["-i", "-q", "-s", &scale])?;
    server.stop()?;
    std::fs::write(mark(context), "").context("mark the database as filled")
}

fn run(context: &Context, clients: u32) -> Result<Tally> {
    let server = Server::start(&data(context), &context.scratch)?;
    server.client("psql", &["-q", "-c", "CHECKPOINT"])?;
    let seconds = context.sizes.pgbench_run.as_secs().to_string();
    let (count, threads) = (clients.to_string(), clients.min(2).to_string());
    let report = server.client(
        "pgbench",
        &["-n", "-c", &count, "-j", &threads, "-T", &seconds],
    )?;
    let tally = parse(&report).with_context(|| format!("pgbench's report: {report}"))?;
    // Each transaction adds a line to this table, so it must have as many as were counted.
    let query = "SELECT count(*) FROM pgbench_history";
    let rows = server.client("psql", &["-q", "-A", "-t", "-c", query])?;
    let rows: u64 = rows.trim().parse().context("number of transactions")?;
    ensure!(
        rows >= tally.operations,
        "{rows} transactions in the database, {tally:?}"
    );
    server.stop()?;
    Ok(tally)
}

fn parse(report: &str) -> Result<Tally> {
    let number = |before: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(before));
        line.and_then(|rest| rest.split([' ', '/']).next())
            .map(str::to_owned)
    };
    let failed = number("number of failed transactions: ").unwrap_or_else(|| "0".into());
    ensure!(failed == "0", "{failed} transactions failed");
    let operations: u64 = number("number of transactions actually processed: ")
        .context("no count")?
        .parse()?;
    let rate: f64 = number("tps = ").context("no rate")?.parse()?;
    ensure!(rate > 0.0, "no transaction");
    let elapsed = Duration::from_secs_f64(operations as f64 / rate);
    Ok(Tally {
        operations,
        elapsed,
        latency: Histogram::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report() {
        let report = "pgbench (15.20)\nnumber of transactions actually processed: 3000\n\
                      number of failed transactions: 0 (0.000%)\nlatency average = 1.0 ms\n\
                      tps = 1500.000000 (without initial connection time)\n";
        let tally = parse(report).unwrap();
        assert_eq!(
            (tally.operations, tally.elapsed),
            (3000, Duration::from_secs(2))
        );
        assert!(parse(&report.replace("transactions: 0", "transactions: 3")).is_err());
        assert!(parse("").is_err());
    }
}
