//! Looking at something, and expecting an answer in time.
#![allow(dead_code, reason = "not every test uses everything")]

use std::time::{Duration, Instant};

use crate::scratch::Scratch;
use tandem_failover::config::CheckerKind;
use tandem_failover::io::check::{Context, look};
use tandem_failover::io::run::Runner;
use tandem_failover::io::services::Services;

pub(crate) fn context(scratch: &Scratch) -> Context {
    Context {
        module: "shop".into(),
        runner: Runner::new(scratch.path("log")),
        env: vec![("TANDEM_MODULE".into(), "shop".into())],
        services: Services::at("unix:path=/nonexistent/tandem-bus"),
    }
}

pub(crate) fn see(kind: &CheckerKind, timeout: Duration) -> Result<(), String> {
    let scratch = Scratch::new();
    let begin = Instant::now();
    let result = look("it", kind, timeout, &context(&scratch));
    let took = begin.elapsed();
    assert!(
        took < timeout + Duration::from_millis(700),
        "{took:?}: {result:?}"
    );
    result
}

pub(crate) fn bad(kind: &CheckerKind, timeout: Duration, words: &str) {
    let error = see(kind, timeout).unwrap_err();
    assert!(error.contains(words), "{error}");
}
