//! Certificates, directories, room.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tandem_failover::client::{ControlClient, STATUS_LIMIT};
use tandem_fs::MountError;
use tandem_repl::control::{Answer, Request};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Report;
use crate::commands::init::plan::CA_KEY;
use crate::config::{Config, Dirs};
use crate::lab::free_space;

const DAY: i64 = 24 * 3600;
/// Time enough to replace a certificate.
const SOON: i64 = 30 * DAY;
/// Below this there is no room for what the next days bring.
const LITTLE: u64 = 1 << 30;
/// Below this the record and the journal of marks may not be writable any more.
const TOO_LITTLE: u64 = 64 << 20;

pub(super) fn look(dirs: &Dirs, config: &Config, report: &mut Report) {
    for name in ["ca.pem", "node.pem"] {
        certificate(&dirs.config.join("pki").join(name), report);
    }
    let key = dirs.config.join(CA_KEY);
    if key.exists() {
        report.warn(
            "authority",
            format!("{} can issue a certificate for any node", key.display()),
            "when all nodes have joined, move it to a safe place off this machine",
        );
    }
    room("room (state)", &dirs.state, report);
    for module in &config.modules {
        if !module.nodes.contains(&config.node) {
            continue;
        }
        for directory in &module.directories {
            let path = &directory.value.path;
            if covered(dirs, &module.name, path, report) {
                room("room", path, report);
            }
            apart(dirs, path, report);
        }
    }
}

fn certificate(path: &Path, report: &mut Report) {
    let shown = path.display();
    let Ok(pem) = fs::read(path) else {
        // It was read a moment ago.
        return report.skip("certificates", format!("{shown} cannot be read"));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    match ends(&pem) {
        Some(end) if end - now < SOON => {
            let days = (end - now) / DAY;
            report.warn(
                "certificates",
                format!("{shown} ends in {days} days"),
                "issue a new one with `tandem pki issue`, before replication stops",
            );
        }
        Some(end) => report.ok(
            "certificates",
            format!("{shown} is good for {} days", (end - now) / DAY),
        ),
        None => report.skip(
            "certificates",
            format!("the end of {shown} is not understood"),
        ),
    }
}

/// When a certificate ends, in seconds since 1970.
fn ends(pem: &[u8]) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Whether the directory can be covered, or is. False: there is nothing to look at.
pub(super) fn covered(dirs: &Dirs, module: &str, path: &Path, report: &mut Report) -> bool {
    let shown = path.display();
    match tandem_fs::examine(path) {
        Ok(()) => {
            let options = &mut fs::OpenOptions::new();
            let unnamed = options.write(true).custom_flags(libc::O_TMPFILE).open(path);
            match unnamed {
                Ok(_) => report.ok("directory", format!("{shown} can be replicated")),
                Err(e) => report.warn(
                    "directory",
                    format!("{shown}: its file system makes no unnamed files ({e})"),
                    "use ext4, xfs or btrfs",
                ),
            }
            true
        }
        Err(MountError::AlreadyMounted { .. }) if is_running(dirs, module) => {
            report.ok(
                "directory",
                format!("{shown} is replicated by the running module"),
            );
            true
        }
        Err(MountError::AlreadyMounted { .. }) => {
            report.fail(
                "directory",
                format!("{shown} is covered, and the daemon of {module} does not answer"),
                format!("umount {shown}"),
            );
            false
        }
        Err(MountError::Directory { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let found = format!("{shown} does not exist");
            report.fail("directory", found, format!("mkdir -p {shown}"));
            false
        }
        Err(error) => {
            let text = error.to_string();
            let (found, remedy) = text.rsplit_once("; ").unwrap_or((&text, "see its message"));
            report.fail("directory", found, remedy);
            true
        }
    }
}

/// Whether the module's daemon answers.
pub(super) fn is_running(dirs: &Dirs, module: &str) -> bool {
    let client = ControlClient::connect(dirs.socket(module));
    client.is_ok_and(|mut client| {
        let answer = client.request_within(&Request::Status, STATUS_LIMIT);
        matches!(answer, Ok(Answer::Status(_)))
    })
}

/// Room in the file system of a path, or of what is there of it.
fn room(check: &'static str, path: &Path, report: &mut Report) {
    let there = path.ancestors().find(|path| path.exists());
    let there = there.unwrap_or(Path::new("/"));
    let shown = there.display();
    match free_space(there) {
        Ok((free, _)) => {
            let found = format!("{} MiB free at {shown}", free >> 20);
            if free < TOO_LITTLE {
                report.fail(check, found, "make room, or give it a larger file system");
            } else if free < LITTLE {
                report.warn(check, found, "make room, or give it a larger file system");
            } else {
                report.ok(check, found);
            }
        }
        Err(e) => report.skip(check, format!("{shown}: {e}")),
    }
}

/// What the daemon itself writes must not be below what it covers, by whatever links.
fn apart(dirs: &Dirs, path: &Path, report: &mut Report) {
    let Ok(covered) = path.canonicalize() else {
        return;
    };
    for own in [&dirs.config, &dirs.state, &dirs.run] {
        let there = own.ancestors().find_map(|path| path.canonicalize().ok());
        if there.is_some_and(|there| there.starts_with(&covered)) {
            report.fail(
                "state",
                format!("{} lies inside {}", own.display(), path.display()),
                "name another directory: a daemon must not wait for itself",
            );
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pki;

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let ca = pki::create_ca("shop").unwrap();
        let short = pki::issue_until(&ca, "a", std::time::Duration::from_secs(3600)).unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let rest = ends(short.cert_pem.as_bytes()).unwrap() - i64::try_from(now).unwrap();
        assert!((3500..=3600).contains(&rest), "{rest}");
        assert_eq!(ends(b"nonsense"), None);
    }
}
