//! What is installed on the servers beside the program: units, the application, the
//! configuration.

use crate::power::inside::boot::{CLUSTER_CARD, CLUSTER_NETWORK, UNITS};
use crate::power::{DISK, HOST, network};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// The unit that is delivered, unchanged.
const TANDEM: &str = include_str!("../../../../packaging/tandem.service");
/// Units that systemd and D-Bus bring. Everything else is not known in the guests.
const THEIRS: &str = "/usr/lib/systemd/system";
const TAKEN: [&str; 21] = [
    "basic.target",
    "dbus.service",
    "dbus.socket",
    "final.target",
    "local-fs-pre.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "poweroff.target",
    "reboot.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "sysinit.target",
    "systemd-poweroff.service",
    "systemd-reboot.service",
    "time-set.target",
    "timers.target",
    "umount.target",
];

/// Ordered as Debian's `networking.service`, and with its dependencies.
const CLUSTER: &str = "\
[Unit]
Description=Network of the cluster
DefaultDependencies=no
Wants=network.target
After=local-fs.target network-pre.target
Before=network.target network-online.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip -batch @BATCH@
ExecStop=/bin/sh -c 'echo @DOWN@; ip link set $(cat @CARD@) down'
";

/// What the unit of the network says when it is stopped.
pub const NETWORK_ENDS: &str = "the network of the cluster ends";

/// An application, as its package would bring it; disabled, as the manager starts it.
const APPLICATION: &str = "\
[Unit]
Description=Application of module @NAME@

[Service]
ExecStart=@SERVE@
";

const SETTINGS: &str = "\
[Manager]
LogTarget=console
LogLevel=info
LogColor=no
ShowStatus=no
DefaultStandardOutput=tty
RebootWatchdogSec=off
";

const USERS: &str = "\
root:x:0:0::/root:/bin/sh
messagebus:x:101:101::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
";
const GROUPS: &str = "root:x:0:\ntty:x:5:\nmessagebus:x:101:\nnogroup:x:65534:\n";

/// What starts and stops the application of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    Unit,
    Scripts,
    /// The module has none, and no address.
    None,
}

/// A module of the servers.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    pub name: &'static str,
    /// Of its address and its port.
    number: u8,
    pub application: Application,
    boot: &'static str,
}

/// Both that have clients.
pub const SERVED: [Module; 2] = [
    Module::new("shop", 1, Application::Unit, "auto"),
    Module::new("desk", 2, Application::Scripts, "on"),
];
/// With those that only come back, or do not.
pub const ALL: [Module; 4] = [
    SERVED[0],
    SERVED[1],
    Module::new("night", 3, Application::None, "off"),
    Module::new("attic", 4, Application::None, "auto"),
];

impl Module {
    const fn new(
        name: &'static str,
        number: u8,
        application: Application,
        boot: &'static str,
    ) -> Self {
        Self {
            name,
            number,
            application,
            boot,
        }
    }

    /// Its address.
    pub fn address(&self) -> String {
        network::service(self.number).to_string()
    }

    /// The replicated directory.
    pub fn directory(&self) -> String {
        format!("{DISK}/{}", self.name)
    }

    /// The module's file.
    pub fn text(&self) -> String {
        let (directory, address, boot) = (self.directory(), self.address(), self.boot);
        let port = 7410 + u16::from(self.number);
        let name = self.name;
        let service = match self.application {
            Application::Unit => {
                format!("virtual_ips: [\"{address}\"], services: [\"{name}\"],")
            }
            Application::Scripts => format!(
                "virtual_ips: [\"{address}\"], scripts: (start_prim: [\"/etc/{name}/start\"], \
                 stop_prim: [\"/etc/{name}/stop\"]),"
            ),
            Application::None => String::new(),
        };
        // A resync's pace is measured by answers, which a guest with one processor gives late. The
        // stall limit is so long that what waits for it is told from what a busy machine delays.
        format!(
            "(mode: mirror, nodes: [\"a\", \"b\"], directories: [\"{directory}\"], \
             port: {port}, boot: {boot}, stall_limit: \"10s\", resync_slowdown: \"off\", \
             {service})\n"
        )
    }

    /// The command line of its application on a node.
    fn serve(&self, node: &str) -> String {
        let (name, directory, address) = (self.name, self.directory(), self.address());
        format!("{HOST}/power guest serve {directory} {node} /run/{name}.ready {address}")
    }

    fn install(&self, node: &str, root: &Path) -> Result<()> {
        let (name, serve) = (self.name, self.serve(node));
        match self.application {
            Application::None => Ok(()),
            Application::Unit => {
                let unit = APPLICATION.replace("@NAME@", name);
                let unit = unit.replace("@SERVE@", &serve);
                put(root, &format!("{UNITS}/{name}.service"), &unit)
            }
            Application::Scripts => {
                let start = format!(
                    "#!/bin/sh\n{serve} </dev/null >/dev/console 2>&1 &\necho $! >/run/{name}.pid\n"
                );
                // Stopped twice, or never started, there is nothing to do.
                let stop = format!(
                    "#!/bin/sh\npid=$(cat /run/{name}.pid) || exit 0\nkill $pid\n\
                     while kill -0 $pid; do sleep 0.02; done\nrm /run/{name}.pid\n"
                );
                for (what, text) in [("start", start), ("stop", stop)] {
                    let file = format!("/etc/{name}/{what}");
                    put(root, &file, &text)?;
                    let place = below(root, &file);
                    fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
                }
                Ok(())
            }
        }
    }
}

/// Puts everything below the directory that a node copies to its root.
pub fn install(node: &str, number: u8, root: &Path, modules: &[Module]) -> Result<()> {
    let cluster = CLUSTER
        .replace("@BATCH@", CLUSTER_NETWORK)
        .replace("@CARD@", CLUSTER_CARD)
        .replace("@DOWN@", NETWORK_ENDS);
    for (file, text) in [
        ("/etc/passwd", USERS),
        ("/etc/group", GROUPS),
        ("/etc/hostname", &format!("{node}\n")),
        ("/etc/machine-id", &format!("{number:032x}\n")),
        ("/etc/os-release", "NAME=Guest\nID=guest\n"),
        ("/etc/systemd/system.conf", SETTINGS),
        (&format!("{UNITS}/cluster-network.service"), &cluster),
        (&format!("{UNITS}/tandem.service"), TANDEM),
    ] {
        put(root, file, text)?;
    }
    for unit in TAKEN {
        let source = Path::new(THEIRS).join(unit);
        fs::metadata(&source).with_context(|| source.display().to_string())?;
        link(root, &source, &format!("{UNITS}/{unit}"))?;
    }
    // As `systemctl enable` does by what the units say.
    let enabled = [
        ("default.target", "multi-user.target"),
        ("sockets.target.wants/dbus.socket", "dbus.socket"),
        (
            "network-online.target.wants/cluster-network.service",
            "cluster-network.service",
        ),
        ("multi-user.target.wants/tandem.service", "tandem.service"),
    ];
    for (name, unit) in enabled {
        link(
            root,
            &Path::new(UNITS).join(unit),
            &format!("{UNITS}/{name}"),
        )?;
    }
    modules.iter().try_for_each(|m| m.install(node, root))
}

fn below(root: &Path, file: &str) -> std::path::PathBuf {
    root.join(file.trim_start_matches('/'))
}

/// A place for a file below the root.
fn place(root: &Path, file: &str) -> Result<std::path::PathBuf> {
    let place = below(root, file);
    fs::create_dir_all(place.parent().context("a file below a directory")?)?;
    Ok(place)
}

fn put(root: &Path, file: &str, text: &str) -> Result<()> {
    fs::write(place(root, file)?, text).with_context(|| file.to_owned())
}

fn link(root: &Path, target: &Path, file: &str) -> Result<()> {
    symlink(target, place(root, file)?).with_context(|| file.to_owned())
}
