//! `tandem pki`: the cluster's certificate authority and the nodes' certificates, as files.

use std::fs::{DirBuilder, read_to_string};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::args::PkiCommand;
use crate::config::name_fault;
use crate::exit::{Exit, UsageError};
use crate::pki::{Ca, create_ca, issue, write_private, write_public};

pub(crate) fn run(command: &PkiCommand) -> Result<Exit> {
    match command {
        PkiCommand::Init { cluster, out } => init(cluster, out),
        PkiCommand::Issue { node, ca, out } => {
            let beside = ca.join(node);
            issue_node(node, ca, out.as_deref().unwrap_or(&beside))
        }
    }
}

fn init(cluster: &str, out: &Path) -> Result<Exit> {
    check_name(cluster)?;
    let ca = create_ca(cluster)?;
    make_directory(out)?;
    // The key first: it fails where a CA exists already, and then nothing has changed.
    write_private(&out.join("ca-key.pem"), &ca.key_pem)?;
    write_public(&out.join("ca.pem"), &ca.cert_pem)?;
    println!("made the CA of cluster {cluster} in {}", out.display());
    println!("ca-key.pem can issue a certificate for any node: keep it off the nodes");
    Ok(Exit::Done)
}

fn issue_node(node: &str, ca_dir: &Path, out: &Path) -> Result<Exit> {
    check_name(node)?;
    let read = |name: &str| {
        let path = ca_dir.join(name);
        read_to_string(&path).with_context(|| {
            format!(
                "reading {}; make a CA with `tandem pki init`, or name it with --ca",
                path.display()
            )
        })
    };
    let ca = Ca {
        cert_pem: read("ca.pem")?,
        key_pem: read("ca-key.pem")?,
    };
    let cert = issue(&ca, node)?;
    make_directory(out)?;
    write_private(&out.join("node-key.pem"), &cert.key_pem)?;
    write_public(&out.join("node.pem"), &cert.cert_pem)?;
    let copy = out.join("ca.pem");
    // The same CA may be there already when a node gets a new certificate.
    if read_to_string(&copy).ok().as_ref() != Some(&ca.cert_pem) {
        write_public(&copy, &ca.cert_pem)?;
    }
    println!("issued the certificate of node {node} in {}", out.display());
    println!("copy the three files to the directory pki/ of that node's configuration");
    Ok(Exit::Done)
}

fn check_name(name: &str) -> Result<(), UsageError> {
    name_fault(name).map_or(Ok(()), |fault| Err(UsageError(fault)))
}

/// Makes a directory only its owner can enter, if it is missing.
fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::testing::Directory;

    #[test]
    fn keys_are_secret_and_never_overwritten() {
        let directory = Directory::new();
        let ca = directory.path().join("ca");
        init("shop", &ca).unwrap();
        let node = directory.path().join("a");
        issue_node("a", &ca, &node).unwrap();
        for key in [ca.join("ca-key.pem"), node.join("node-key.pem")] {
            assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let before = read_to_string(ca.join("ca-key.pem")).unwrap();
        assert!(init("shop", &ca).is_err());
        assert!(issue_node("a", &ca, &node).is_err());
        assert_eq!(read_to_string(ca.join("ca-key.pem")).unwrap(), before);
    }
}
