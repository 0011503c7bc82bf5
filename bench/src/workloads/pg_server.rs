//! A PostgreSQL server on a data directory, for as long as a run needs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::sys;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
/// Debian and others keep the programs here, below a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The server refuses to run as root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A running server. Dropping it kills it.
pub(super) struct Server {
    process: Child,
    socket_dir: PathBuf,
}

/// Whether all programs are there.
pub(crate) fn is_installed() -> bool {
    ["initdb", "postgres", "pgbench", "psql"]
        .iter()
        .all(|name| program(name).is_ok())
}

/// Makes an empty database cluster.
pub(super) fn create(data: &Path) -> Result<()> {
    fs::create_dir(data).with_context(|| format!("create {}", data.display()))?;
    fs::set_permissions(data, Permissions::from_mode(0o700))?;
    if let Some((user, group)) = user()? {
        chown(data, Some(user), Some(group)).context("give the data directory away")?;
    }
    let mut command = command("initdb")?;
    command
        .args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
            "-D",
        ])
        .arg(data);
    finish(&mut command).map(drop)
}

impl Server {
    pub(super) fn start(data: &Path, socket_dir: &Path) -> Result<Self> {
        let log = socket_dir.join("postgres.log");
        let mut command = command("postgres")?;
        command.arg("-D").arg(data).arg("-k").arg(socket_dir);
        command.args(["-c", "listen_addresses=", "-c", "shared_buffers=256MB"]);
        let output = fs::File::create(&log).with_context(|| format!("{}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output);
        sys::die_with_parent(&mut command);
        let process = command.spawn().context("start postgres")?;
        let mut server = Self {
            process,
            socket_dir: socket_dir.to_path_buf(),
        };
        let start = Instant::now();
        while let Err(error) = server.client("psql", &["-q", "-c", "SELECT 1"]) {
            let ended = server.process.try_wait()?;
            if ended.is_some() || start.elapsed() > START_LIMIT {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("postgres does not answer ({ended:?}): {error:#}; its log:\n{log}");
            }
            thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// Runs a client program to its end; its output.
    pub(super) fn client(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut command = command(name)?;
        command
            .arg("-h")
            .arg(&self.socket_dir)
            .args(["-U", "postgres"])
            .args(arguments);
        command.arg("postgres");
        finish(&mut command)
    }

    pub(super) fn stop(mut self) -> Result<()> {
        // SIGINT: ends the connections, then everything is written out.
        sys::kill(self.process.id().cast_signed(), libc::SIGINT);
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "postgres: {status}");
                return Ok(());
            }
            ensure!(
                start.elapsed() < STOP_LIMIT,
                "postgres did not stop in {STOP_LIMIT:?}"
            );
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended. Its helpers end when they miss it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that runs `name` as an unprivileged user.
fn command(name: &str) -> Result<Command> {
    let mut command = Command::new(program(name)?);
    command
        .current_dir("/")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if let Some((user, group)) = user()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}

fn finish(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    sys::die_with_parent(command);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().with_context(|| name.clone())?;
    ensure!(
        status.success(),
        "{name}: {status}: {}",
        String::from_utf8_lossy(&stderr).trim()
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Finds a program of the newest installed version, or in PATH.
fn program(name: &str) -> Result<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    versions.sort_by_key(|entry| {
        entry
            .file_name()
            .to_str()
            .and_then(|version| version.parse::<u32>().ok())
    });
    let versions = versions.iter().rev().map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = versions.chain(std::env::split_paths(&path));
    let found = places.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()));
    found.with_context(|| format!("{name}: neither in PATH nor in {VERSIONS}/*/bin"))
}

/// Who runs the server when we are root, and its group.
pub(crate) fn user() -> Result<Option<(u32, u32)>> {
    if !sys::is_root() {
        return Ok(None);
    }
    let table = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let numbers = |user: &&str| {
        let line = table
            .lines()
            .find_map(|line| line.strip_prefix(*user)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1).map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    let found = USERS.iter().find_map(numbers);
    Ok(Some(found.with_context(|| {
        format!("no user of {USERS:?} to run PostgreSQL as")
    })?))
}
