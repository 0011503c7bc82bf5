//! `tandem lab-node`: process number 1 of a lab's node.
//!
//! It does what a machine's boot does (own `/proc`, disk, name), starts the module's daemon, and
//! then reaps whatever is orphaned. The node lives exactly as long as this process: the kernel
//! kills all others in the namespace with it.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::launch::{GO, HUB, READY, append};
use super::place::{DISK_INSIDE, MODULE, NodePlace, Place};
use super::signals::Blocked;
use super::state::Runs;
use super::{mounts, sys};

/// Before a manager that died is started again.
const MANAGER_PAUSE: Duration = Duration::from_millis(500);

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Arguments of the hidden command.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    node: String,
    /// What it starts
    #[arg(long)]
    runs: Runs,
    /// This is the inner of the two processes
    #[arg(long)]
    init: bool,
}

pub(crate) fn run(args: &NodeArgs) -> Result<ExitCode> {
    if args.init {
        return inner(args);
    }
    let pid = outer(args);
    match &pid {
        Ok(pid) => println!("pid {pid}"),
        Err(error) => println!("{}", one_line(error)),
    }
    pid.map(|_| ExitCode::SUCCESS)
}

/// The reader of our answers takes one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace('\n', "; ")
}

/// Makes the namespaces and starts the init in them, then ends.
fn outer(args: &NodeArgs) -> Result<u32> {
    // SysV memory belongs to an IPC namespace; in the host's it would outlive a killed node.
    const OF_A_NODE: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    sys::setsid().context("leave the session")?;
    std::env::set_current_dir("/")?;
    let own = if args.node == HUB { 0 } else { OF_A_NODE };
    sys::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNET | own)
        .context("make namespaces; a lab needs root and a kernel with PID, NET, UTS, IPC ones")?;
    let mut command = Command::new(sys::SELF);
    command
        .arg0("tandem")
        .args(["lab-node", "--init", "--node", &args.node, "--dir"]);
    command.arg(&args.dir);
    command.args(["--runs", args.runs.word()]);
    let child = command.spawn().context("start the init process")?;
    Ok(child.id())
}

fn inner(args: &NodeArgs) -> Result<ExitCode> {
    let orphans = Blocked::new(&[libc::SIGCHLD])?;
    let mut word = String::new();
    io::stdin().read_line(&mut word)?;
    if word.trim_end() != GO {
        bail!("not told to begin: the command that made this node has ended");
    }
    let booted = if args.node == HUB {
        Ok(None)
    } else {
        boot(args)
    };
    match &booted {
        Ok(_) => println!("{READY}"),
        Err(error) => println!("{}", one_line(error)),
    }
    let mut daemon = booted?;
    sys::drop_stdio()?;
    loop {
        while let Some((pid, status)) = sys::reap() {
            if Some(pid) == daemon {
                let text = format!("the daemon ended ({})", describe(status));
                eprintln!("lab: {text}");
                if args.runs == Runs::Manager && status != 0 {
                    // As its systemd unit would.
                    std::thread::sleep(MANAGER_PAUSE);
                    daemon = Some(start_daemon(&node_place(args)?, &["failover"])?);
                    continue;
                }
                // For whoever waits for the daemon; a full disk must not end the node.
                let _ = fs::write(node_place(args)?.daemon_end(), text);
            }
        }
        orphans.wait()?;
    }
}

fn node_place(args: &NodeArgs) -> Result<NodePlace> {
    Ok(Place::new(&args.node, Some(&args.dir))?.node(&args.node))
}

fn describe(status: libc::c_int) -> String {
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit code {}", libc::WEXITSTATUS(status))
    }
}

/// Everything between the birth of the namespaces and a running node: the daemon's number, if any.
fn boot(args: &NodeArgs) -> Result<Option<u32>> {
    let place = node_place(args)?;
    sys::set_hostname(&args.node).context("set the host name")?;
    set_up_mounts(&place)?;
    let program: &[&str] = match args.runs {
        Runs::Nothing => return Ok(None),
        Runs::Module => &["fs", MODULE],
        Runs::Managed => &["fs", MODULE, "--managed"],
        Runs::Manager => &["failover"],
        Runs::Witness => &["witness"],
    };
    start_daemon(&place, program).map(Some)
}

fn set_up_mounts(place: &NodePlace) -> Result<()> {
    let none = Path::new("none");
    sys::mount(none, Path::new("/"), "", libc::MS_PRIVATE | libc::MS_REC)
        .context("make the mounts private")?;
    detach_other_disks(&place.disk())?;
    let safe = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(none, Path::new("/proc"), "proc", safe).context("mount /proc")?;
    let boot_id = place.boot_id();
    if boot_id.exists() {
        sys::mount(&boot_id, Path::new(BOOT_ID), "", libc::MS_BIND)
            .context("show the node's own boot id")?;
    }
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        let safe = libc::MS_NOSUID | libc::MS_NODEV;
        sys::mount(none, shared_memory, "tmpfs", safe).context("mount /dev/shm")?;
    }
    sys::mount(none, Path::new("/mnt"), "tmpfs", libc::MS_NOSUID)
        .context("mount an own file system on /mnt; the directory must exist")?;
    let inside = Path::new(DISK_INSIDE);
    fs::create_dir(inside).with_context(|| format!("create {DISK_INSIDE}"))?;
    let disk = place.disk();
    sys::mount(&disk, inside, "", libc::MS_BIND)
        .with_context(|| format!("bind {} to {DISK_INSIDE}", disk.display()))
}

/// Our copy of the mount table holds the disks of all labs of the machine, and would keep them
/// busy after their own lab has gone.
fn detach_other_disks(own: &Path) -> Result<()> {
    for point in mounts::all()?.iter().rev() {
        let of_a_lab = || {
            let lab = point.parent().and_then(Path::parent);
            point.ends_with("disk") && lab.is_some_and(|lab| lab.join("lab.json").exists())
        };
        if point != own && of_a_lab() {
            sys::unmount(point, libc::MNT_DETACH)
                .with_context(|| format!("detach {}", point.display()))?;
        }
    }
    Ok(())
}

fn start_daemon(place: &NodePlace, program: &[&str]) -> Result<u32> {
    let log = append(&place.log())?;
    let mut command = Command::new(sys::SELF);
    sys::unblock_signals(&mut command);
    command
        .arg0("tandem")
        .args(program)
        .envs(place.environment());
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let child = command
        .spawn()
        .with_context(|| format!("start `tandem {}`", program.join(" ")))?;
    Ok(child.id())
}
