//! One module's file system daemon: its directories covered, its driver running, its control socket
//! open, until it is told to stop.

mod process;
mod status;

use crate::config::ModuleConfig;
use crate::io::backing::Backing;
use crate::io::control;
use crate::io::fuse::Adapter;
use crate::io::lasting;
use crate::io::marks::{Marks, Opening};
use crate::io::mount::{self, MountError, Mounted};
use crate::io::mounted_at::{self, Elsewhere};
use crate::io::outside::{self, Window};
use crate::io::resync::aside;
use crate::io::resync::tidy_at_start;
use crate::io::scrub;
use crate::io::service::{Service, Volume};
use process::{Signals, drop_groups, raise_open_files};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tandem_repl::control::{Answer, Divergence, Refusal, Request, WATCH_LIMIT_MS};
use tandem_repl::ids::DirId;
use tandem_repl::io::driver::{Command, Driver, DriverConfig, DriverError};
use tandem_repl::io::journal::JournalError;
use tandem_repl::io::record::{RecordError, RecordStore, boot_id};
use tandem_repl::io::tls::Pem;
use thiserror::Error;

/// Files kept aside that are listed at once.
const MAX_ASIDE: usize = 2000;
/// How long after a change a file's times are sent to the peer.
const TIMES_DELAY: Duration = Duration::from_millis(100);

/// Why a daemon cannot run.
#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("state directory {}: {source}", path.display())]
    StateDir {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "state directory {}: it lies inside the replicated directory {}, by this or another path; \
         keep it elsewhere",
        path.display(), inside.display()
    )]
    StateInside { path: PathBuf, inside: PathBuf },
    #[error("control socket {}: {source}", path.display())]
    Socket {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Marks(#[from] JournalError),
    #[error("thread: {0}")]
    Thread(std::io::Error),
}

/// A running daemon as its control socket sees it.
pub(crate) struct Daemon {
    config: ModuleConfig,
    driver: Driver,
    service: Arc<Service>,
}

/// Runs until told to stop. Everything is checked before anything is covered.
///
/// # Errors
/// What makes the module impossible to run, with its place and remedy.
pub fn run(config: ModuleConfig) -> Result<(), DaemonError> {
    // Before the first thread, so that all inherit it.
    let signals = Signals::block();
    raise_open_files();
    drop_groups();
    let backings: Result<Vec<Backing>, MountError> = config
        .directories
        .iter()
        .map(|d| mount::examine(&d.path))
        .collect();
    let backings = backings?;
    let state = config.state_dir.clone();
    refuse_state_inside(&config, &state)?;
    std::fs::create_dir_all(&state).map_err(|source| DaemonError::StateDir {
        path: state.clone(),
        source,
    })?;
    let window = Window::before_start(&state);
    let (store, record) = RecordStore::open(&state)?;
    let directories = config.directories.iter().map(|d| d.path.as_path());
    mounted_at::compare(&state, directories, record.epoch.is_some())?;
    let socket = config.socket.clone();
    let listener = control::listen(&socket).map_err(|source| DaemonError::Socket {
        path: socket.clone(),
        source,
    })?;

    let volumes = backings.into_iter().zip(&config.directories).enumerate();
    let volumes = volumes.map(|(n, (backing, directory))| {
        let id = DirId(n as u16);
        Arc::new(Volume::new(id, backing, directory.direct.clone()))
    });
    let volumes: Vec<_> = volumes.collect();
    volumes.iter().for_each(tidy_at_start);
    let opening = Opening {
        state_dir: &state,
        boot: boot_id(),
        expected: record.epoch.is_some(),
        hot_limit: config.hot_limit,
        origin: lasting::origin(),
    };
    let marks = Marks::open(&opening, &volumes)?;
    let service = Service::new(
        volumes,
        marks,
        (config.ack, config.devices, config.aside_limit),
    );
    let service = Arc::new(service.map_err(DaemonError::Thread)?);
    let (driver, exit) = start_driver(&config, &service, (store, record))?;
    service.set_driver(driver.clone());
    let mut mounted = Vec::new();
    for volume in &service.volumes {
        let adapter = Adapter {
            service: service.clone(),
            volume: volume.clone(),
        };
        let (mount, notifier) = Mounted::start(&config.module, adapter, config.devices)?;
        let _ = volume.notifier.set(notifier);
        mounted.push(mount);
    }
    send_times_in_background(&service)?;
    if let Some(interval) = config.scrub {
        scrub::in_background(&service, &driver, interval).map_err(DaemonError::Thread)?;
    }
    let (clean, same_boot) = service.marks.last_end;
    if let Some(window) = window.judged(clean, same_boot) {
        outside::look_in_background(&service, &driver, window).map_err(DaemonError::Thread)?;
    }
    let failing = driver.clone();
    service
        .marks
        .on_failure(move |why| failing.local_failed(&why));
    let daemon = Arc::new(Daemon {
        config,
        driver,
        service,
    });
    control::serve(&daemon, listener).map_err(DaemonError::Thread)?;
    tracing::info!(
        "module {} on {} is ready",
        daemon.config.module,
        daemon.config.local.name
    );

    wait_for_end(&daemon, &exit, &signals);
    drop(mounted);
    if let Err(why) = daemon.service.marks.close() {
        tracing::warn!("{why}");
    }
    let _ = std::fs::remove_file(&socket);
    // Let the answer to `stop` leave before the process does.
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// A record must not be replicated with the data it speaks of. Paths are compared elsewhere; here
/// the directories themselves are, because a bind mount gives one directory two paths.
fn refuse_state_inside(config: &ModuleConfig, state: &Path) -> Result<(), DaemonError> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let state = state.canonicalize().unwrap_or_else(|_| state.to_path_buf());
    for directory in &config.directories {
        let root = identity(&directory.path);
        if root.is_some() && state.ancestors().any(|above| identity(above) == root) {
            let inside = directory.path.clone();
            return Err(DaemonError::StateInside {
                path: state,
                inside,
            });
        }
    }
    Ok(())
}

fn start_driver(
    config: &ModuleConfig,
    service: &Arc<Service>,
    (store, record): (RecordStore, tandem_repl::logic::record::Record),
) -> Result<(Driver, Receiver<()>), DaemonError> {
    // Addresses at the same place of both lists are in the same network.
    let paths = config.local.addresses.iter().copied();
    let paths = paths.zip(config.peer.addresses.iter().copied()).collect();
    let driver = DriverConfig {
        cluster: config.cluster.clone(),
        module: config.module.clone(),
        local: config.local.name.clone(),
        peer: config.peer.name.clone(),
        paths,
        stall_limit: config.stall_limit,
        latency_bound: config
            .resync_slowdown
            .map(|more| 1.0 + f64::from(more) / 100.0),
        apart: config.apart.clone(),
        by_hand: !config.managed,
        digest: config.digest,
        pem: Pem {
            ca: &config.credentials.ca_pem,
            cert: &config.credentials.cert_pem,
            key: &config.credentials.key_pem,
        },
    };
    Ok(Driver::start(
        driver,
        service.clone(),
        (store, record, boot_id()),
    )?)
}

fn send_times_in_background(service: &Arc<Service>) -> Result<(), DaemonError> {
    let service = service.clone();
    let run = move || {
        loop {
            std::thread::sleep(TIMES_DELAY);
            service.send_times();
        }
    };
    let spawned = std::thread::Builder::new().name("times".into()).spawn(run);
    spawned.map(|_| ()).map_err(DaemonError::Thread)
}

/// Returns when the driver says so, or after a signal to end has been turned into a clean stop. A
/// stop that is refused because the set is just changing is repeated.
fn wait_for_end(daemon: &Daemon, exit: &Receiver<()>, signals: &Signals) {
    let mut ending = false;
    loop {
        match exit.recv_timeout(Duration::from_millis(100)) {
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody is left to say so.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        ending |= signals.pending();
        if ending {
            match daemon.driver.command(Command::Stop) {
                Ok(()) => return,
                Err(refusal) => tracing::warn!("stop: {refusal}"),
            }
        }
    }
}

impl Daemon {
    pub(crate) fn command(&self, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::Status | Request::Watch { .. } | Request::Divergence(_) => Ok(()),
            Request::Prim { force } => self.driver.command(Command::Prim { force: *force }),
            Request::Second => self.driver.command(Command::Second),
            Request::Stop => self.driver.command(Command::Stop),
            Request::Swap => self.driver.command(Command::Swap),
            Request::Fenced => self.driver.command(Command::Fenced),
            Request::Resync { everything } => self.driver.command(Command::Resync {
                everything: *everything,
            }),
            Request::Verify => scrub::ask(&self.service, &self.driver),
        }
    }

    /// Returns when the status is of another version than `after`, or after the limit.
    pub(crate) fn watch(&self, after: u64, limit_ms: u64) {
        let limit = Duration::from_millis(limit_ms.min(WATCH_LIMIT_MS));
        self.driver.changed_after(after, limit);
    }

    /// What was kept aside on this node.
    pub(crate) fn divergence(&self, what: &Divergence) -> Answer {
        let mut all = Vec::new();
        let several = self.service.volumes.len() > 1;
        for (n, volume) in self.service.volumes.iter().enumerate() {
            let done = match what {
                Divergence::List => aside::list(volume).map(|files| all.extend(files)),
                Divergence::Discard => aside::discard(volume),
                Divergence::Export { to } => {
                    let mut to = PathBuf::from(to);
                    if n == 0 && to.exists() {
                        return Answer::Refused(Refusal::new(
                            "exists",
                            format!("{} exists", to.display()),
                            "name a directory that does not exist yet",
                        ));
                    }
                    if several {
                        to.push(n.to_string());
                    }
                    std::fs::create_dir_all(&to).and_then(|()| aside::export(volume, &to))
                }
            };
            if let Err(e) = done {
                let path = volume.backing.path.display();
                let reason = format!("{path}: what is kept aside: {e}");
                return Answer::Refused(Refusal::new("aside", reason, "see the daemon's log"));
            }
        }
        // An answer is one line of bounded length.
        all.truncate(MAX_ASIDE);
        Answer::Divergence(all)
    }
}
