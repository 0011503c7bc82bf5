//! The command line of `tests/power`.

use super::engine;
use crate::rng;
use anyhow::{Context, Result, bail};

pub const USAGE: &str =
    "tests/power [--rounds N] [--seed S] [--engine uml|qemu] [--keep] [--self-test]";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub rounds: u64,
    pub seed: u64,
    pub engine: engine::Kind,
    /// Leaves disks and logs.
    pub keep: bool,
    pub self_test: bool,
}

impl Options {
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut rounds = 3;
        let mut seed = None;
        let mut engine = engine::Kind::default();
        let (mut keep, mut self_test) = (false, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64> {
                let value = words
                    .next()
                    .with_context(|| format!("{word} needs a number"))?;
                value.parse().with_context(|| format!("{word} {value}"))
            };
            match *word {
                "--rounds" => rounds = number()?,
                "--seed" => seed = Some(number()?),
                "--engine" => {
                    engine = engine::Kind::parse(words.next().context("--engine needs a name")?)?;
                }
                "--keep" => keep = true,
                "--self-test" => self_test = true,
                _ => bail!("unknown: {word}\nusage: {USAGE}"),
            }
        }
        // Printed by the generator, too, when it chooses.
        let seed = match seed {
            Some(seed) => {
                println!("seed {seed}");
                seed
            }
            None => rng::seed("power"),
        };
        Ok(Self {
            rounds,
            seed,
            engine,
            keep,
            self_test,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        let options = Options::parse(&["--rounds", "20", "--seed", "7", "--keep"]).unwrap();
        assert_eq!((options.rounds, options.seed, options.keep), (20, 7, true));
        assert!(Options::parse(&["--rounds"]).is_err());
        assert!(Options::parse(&["--rounds", "many"]).is_err());
        assert!(Options::parse(&["--round", "1"]).is_err());
    }
}
