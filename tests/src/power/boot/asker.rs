//! A client outside, that asks at the address of a module without end.

use crate::managed::client::Heard;
use crate::managed::program::{ask, now};
use crate::power::patience::{PAUSE, Patience};
use anyhow::{Result, anyhow, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// So many answers show that it goes on.
const ENOUGH: usize = 5;

/// It runs until it is dropped.
pub struct Asker {
    logs: PathBuf,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Asker {
    /// Starts it; what it hears is written down in `logs`.
    pub fn start(logs: &Path, address: &str) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let (own, address) = (logs.to_path_buf(), address.to_owned());
        let thread = std::thread::spawn(move || ask(&own, &[&address]));
        Ok(Self {
            logs: logs.to_path_buf(),
            thread: Some(thread),
        })
    }

    /// What it was told until now.
    pub fn heard(&self) -> Result<Heard> {
        Heard::read(&self.logs)
    }

    /// Waits until a node answers, and goes on to do so; the process that does.
    pub fn answered_by(&self, node: &str, limit: Duration) -> Result<u32> {
        let from = now();
        let mut patience = Patience::new(limit);
        loop {
            let heard = self.heard()?;
            let later = heard.acks.iter().rev().take_while(|a| a.at > from);
            let by_node = later.take_while(|a| a.node == node).count();
            let last = heard.acks.last();
            if let (Some(last), true) = (last, by_node >= ENOUGH) {
                return Ok(last.pid);
            }
            ensure!(
                !patience.is_over(),
                "{node} does not answer; the last answer: {last:?}"
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// It asks no more.
    pub fn end(&mut self) -> Result<()> {
        fs::write(self.logs.join("end"), "")?;
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let ended = thread.join().map_err(|_| anyhow!("the client panicked"))?;
        ended.map_err(|why| anyhow!("the client: {why}"))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.end().ok();
    }
}
