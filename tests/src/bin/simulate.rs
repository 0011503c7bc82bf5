//! Runs the simulator for many seeds or hours, or replays one. `tests/simulate` builds and starts
//! it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tandem_tests::sim::attacks::{self, Attack, attack};
use tandem_tests::sim::run::{run_with, shrink};
use tandem_tests::sim::sharp::{Case, Switch, switch, switches};

const USAGE: &str =
    "simulate --seeds N | --hours N | --seconds N | --seed S [--trace] [--from S] [--all]
         [--without RULE] [--attack NAME] [--manager M]

--seeds N   so many seeds, the first is --from, else TANDEM_SEED, else a new one
--hours N   so long, as --seconds N
--seed S    one seed, with the faults that are enough to make it fail
--trace     with everything that happened
--all       go on after a finding: each, and how many of each kind
--without R with a rule switched off; `--without all` lists them
--manager M `product`: with the failover manager in every run; `crude`: in none
--attack A  seeds of a scenario against some rule; `--attack all` lists them";

struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    limit: Duration,
    from: u64,
    trace: bool,
    all: bool,
    without: Option<Switch>,
    attack: Attack,
    managed: Option<bool>,
}

fn parse() -> Option<Arguments> {
    let mut found = Arguments {
        seed: None,
        seeds: u64::MAX,
        limit: Duration::MAX,
        from: tandem_tests::rng::seed("simulate"),
        trace: false,
        all: false,
        without: None,
        attack: Case::random,
        managed: None,
    };
    let mut chosen = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u64>().ok());
        match word.as_str() {
            "--seed" => found.seed = Some(number()?),
            "--seeds" => found.seeds = number()?,
            "--hours" => found.limit = Duration::from_secs(number()? * 3600),
            "--seconds" => found.limit = Duration::from_secs(number()?),
            "--from" => found.from = number()?,
            "--all" => found.all = true,
            "--trace" => found.trace = true,
            "--attack" => found.attack = attack_named(&words.next()?)?,
            "--without" => found.without = Some(named(&words.next()?)?),
            "--manager" => found.managed = Some(manager_named(&words.next()?)?),
            _ => return None,
        }
        chosen |= matches!(
            word.as_str(),
            "--seed" | "--seeds" | "--hours" | "--seconds"
        );
    }
    chosen.then_some(found)
}

fn main() -> ExitCode {
    let Some(arguments) = parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match arguments.seed {
        Some(seed) => replay(seed, arguments.trace, &arguments),
        None => hunt(&arguments),
    }
}

fn named(name: &str) -> Option<Switch> {
    let found = switch(name);
    if found.is_none() {
        switches().iter().for_each(|s| eprintln!("{}", s.name));
    }
    found
}

fn manager_named(name: &str) -> Option<bool> {
    ["crude", "product"]
        .iter()
        .position(|n| *n == name)
        .map(|at| at == 1)
}

fn attack_named(name: &str) -> Option<Attack> {
    let found = attack(name);
    if found.is_none() {
        attacks::ALL
            .iter()
            .for_each(|(name, _)| eprintln!("{name}"));
    }
    found
}

fn hunt(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let (mut runs, mut events) = (0u64, 0u64);
    let mut totals = (0, 0, 0);
    let mut kinds = BTreeMap::new();
    while runs < arguments.seeds && begun.elapsed() < arguments.limit {
        let seed = arguments.from.wrapping_add(runs);
        let case = case(seed, arguments);
        let outcome = run_with(seed, case.options, case.schedule, false);
        runs += 1;
        events += outcome.stats.events;
        totals.0 += outcome.stats.acknowledged;
        totals.1 += outcome.stats.resyncs;
        totals.2 += outcome.stats.serves;
        match outcome.violation {
            Some(violation) if arguments.all => {
                println!("seed {seed}: {}", violation.oracle);
                let kind = kinds.entry(violation.oracle).or_insert((0, seed));
                kind.0 += 1;
            }
            Some(_) => {
                println!("{runs} seeds, then:");
                return replay(seed, true, arguments);
            }
            None => {}
        }
    }
    for (oracle, (count, seed)) in &kinds {
        println!("{count:>6} {oracle}, first at seed {seed}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{runs} seeds from {}, {} findings, in {seconds:.0} s ({:.0} a second, {events} \
         events, {} answers, {} resyncs, {} promotions)",
        arguments.from,
        kinds.values().map(|(count, _)| count).sum::<u64>(),
        runs as f64 / seconds,
        totals.0,
        totals.1,
        totals.2,
    );
    if kinds.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn case(seed: u64, arguments: &Arguments) -> Case {
    let mut case = match arguments.managed {
        Some(managed) => Case::with_manager(seed, managed),
        None => (arguments.attack)(seed),
    };
    if let Some(switch) = arguments.without {
        switch.off(&mut case.options.rules);
    }
    case
}

/// The rest of the command line that makes the same runs.
fn again(arguments: &Arguments) -> String {
    let off = arguments.without.map(|s| format!(" --without {}", s.name));
    let all = attacks::ALL.iter();
    let name = all
        .filter(|(_, attack)| std::ptr::fn_addr_eq(*attack, arguments.attack))
        .map(|(name, _)| format!(" --attack {name}"));
    let manager = arguments.managed.map(|managed| {
        let name = if managed { "product" } else { "crude" };
        format!(" --manager {name}")
    });
    off.into_iter().chain(name).chain(manager).collect()
}

/// Shows a seed: what is found, with the fewest faults, and the trace.
fn replay(seed: u64, trace: bool, arguments: &Arguments) -> ExitCode {
    let Case {
        options, schedule, ..
    } = case(seed, arguments);
    let first = run_with(seed, options.clone(), schedule.clone(), false);
    let Some(violation) = &first.violation else {
        if trace {
            let outcome = run_with(seed, options, schedule, true);
            outcome.trace.iter().for_each(|l| println!("{l}"));
        }
        println!("seed {seed}: nothing found, {:?}", first.stats);
        return ExitCode::SUCCESS;
    };
    let fewer = shrink(seed, &options, &schedule, violation.oracle);
    let last = run_with(seed, options.clone(), fewer.clone(), true);
    if trace {
        last.trace.iter().for_each(|l| println!("{l}"));
    }
    println!("\n{options:?}\nfaults that are enough:");
    for (at, fault) in &fewer.0 {
        println!("  {:>10.3} {fault:?}", *at as f64 / 1000.0);
    }
    if let Some(found) = &last.violation {
        println!("\nwith these: {found}");
    }
    println!("\nseed {seed} fails: {violation}");
    println!(
        "replay it: tests/simulate --seed {seed} --trace{}",
        again(arguments)
    );
    ExitCode::FAILURE
}
