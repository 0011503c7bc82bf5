//! Running a program inside a node: `tandem lab exec`.
//!
//! The process that runs it stays outside, reaps it, and passes signals and the exit code on; a
//! node's init could not end while somebody outside has not reaped one of its processes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};

use super::place::NodePlace;
use super::signals::{Arrived, Blocked};
use super::state::Init;
use super::sys;

/// As shells have it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const SIGNALLED: i32 = 128;

const PASSED_ON: [libc::c_int; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

const ALL: libc::c_int = libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC;

/// What to run.
pub(crate) struct Program {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// `NAME=VALUE`.
    pub(crate) environment: Vec<String>,
    /// Name or number of the user to become; root otherwise.
    pub(crate) user: Option<String>,
}

/// Moves this process into the namespaces of `init`, runs the program, and returns its exit code.
/// This process must have one thread.
pub(crate) fn run(init: &Init, place: &NodePlace, program: &Program) -> Result<ExitCode> {
    let Some((name, arguments)) = program.command.split_first() else {
        bail!("no command given; write it after `--`")
    };
    let mut command = Command::new(name);
    command.args(arguments).envs(place.environment());
    for pair in &program.environment {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("--env {pair:?}: write it as NAME=VALUE"))?;
        command.env(key, value);
    }
    if let Some(user) = &program.user {
        let (user, group) = look_up(user)?;
        command.uid(user).gid(group);
    }
    sys::die_with_parent(&mut command);
    sys::unblock_signals(&mut command);

    let mut signals = PASSED_ON.to_vec();
    signals.push(libc::SIGCHLD);
    let signals = Blocked::new(&signals)?;
    let pidfd = init.pidfd().context("the node is down")?;
    sys::setns(&pidfd, ALL).context("enter the node's namespaces")?;
    std::env::set_current_dir("/")?;
    match command.spawn() {
        Ok(child) => Ok(exit_code(attend(child, &signals)?)),
        Err(error) => {
            eprintln!("tandem lab exec: {}: {error}", name.display());
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            Ok(ExitCode::from(if missing {
                NOT_FOUND
            } else {
                NOT_EXECUTABLE
            }))
        }
    }
}

/// Waits for the child and passes on every signal it has not got itself.
fn attend(mut child: Child, signals: &Blocked) -> Result<ExitStatus> {
    loop {
        let Arrived { signal, by_kernel } = signals.wait()?;
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // Keys pressed on a terminal reach the whole foreground group, the child included.
        if signal != libc::SIGCHLD && !by_kernel {
            // It may have just ended; then there is nobody to tell.
            let _ = sys::kill(child.id(), signal);
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// User and group number of a user, from `/etc/passwd`.
fn look_up(user: &str) -> Result<(u32, u32)> {
    if let Ok(number) = user.parse() {
        return Ok((number, number));
    }
    let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line = users
        .lines()
        .find(|line| line.split(':').next() == Some(user));
    let line = line.with_context(|| format!("--user {user}: not in /etc/passwd"))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok((user, group)),
        _ => bail!("--user {user}: its line in /etc/passwd has no numbers"),
    }
}
