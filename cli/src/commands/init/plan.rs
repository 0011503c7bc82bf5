//! What a new cluster is to be, and its files.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};

use super::files::Files;
use crate::exit::UsageError;
use crate::pki;

/// What decides when the two nodes have lost each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    Wait,
    Ping(Vec<IpAddr>),
    Alone,
    Witness(SocketAddr),
}

impl Apart {
    /// What follows from it, in plain words.
    pub(crate) fn consequence(&self) -> String {
        match self {
            Self::Wait => "When the nodes lose each other, the one that serves goes on and the \
                other waits for your word. Nothing is ever served twice, and nothing takes over by \
                itself."
                .into(),
            Self::Ping(addresses) => format!(
                "When the nodes lose each other, one that still reaches {} takes over or goes on. \
                That is a policy, not a proof: if both reach it and not each other, both serve, \
                and what one of them wrote meanwhile is set aside afterwards.",
                addresses[0]
            ),
            Self::Alone => "When the nodes lose each other, both serve: a broken cable between \
                them is enough, and what one of them wrote meanwhile is set aside afterwards."
                .into(),
            Self::Witness(address) => format!(
                "When the nodes lose each other, the witness at {address} decides which one goes \
                on. Both never serve at the same time."
            ),
        }
    }

    /// What two machines alone cannot do.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        let safe = matches!(self, Self::Witness(_) | Self::Wait);
        (!safe).then_some(
            "Only a witness (`tandem witness` on a third machine, or an etcd) or a fence command \
             makes two nodes safe: see --witness, and `fence` in the module's file.",
        )
    }
}

/// The answers to all questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Of the cluster and of its module.
    pub(crate) name: String,
    /// This node first.
    pub(crate) nodes: [PlannedNode; 2],
    pub(crate) directories: Vec<String>,
    pub(crate) virtual_ips: Vec<IpAddr>,
    pub(crate) services: Vec<String>,
    pub(crate) apart: Apart,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedNode {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

impl std::str::FromStr for PlannedNode {
    type Err = String;

    /// Reads `a=10.0.0.1,10.1.0.1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("found `{text}`, expected NAME=ADDRESS[,ADDRESS] as in a=10.0.0.1");
        let (name, addresses) = text.split_once('=').ok_or_else(expected)?;
        if let Some(fault) = crate::config::name_fault(name) {
            return Err(fault);
        }
        Ok(Self {
            name: name.into(),
            addresses: read_addresses(addresses)?,
        })
    }
}

/// Reads `10.0.0.1,10.1.0.1`.
pub(super) fn read_addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    text.split(',')
        .map(|address| crate::config::address(address.trim()))
        .collect()
}

/// Names of the files that a node has besides its modules'.
pub(crate) const COMMON: [&str; 5] = [
    "cluster.ron",
    "node.ron",
    "pki/ca.pem",
    "pki/node.pem",
    "pki/node-key.pem",
];
pub(crate) const CA_KEY: &str = "pki/ca-key.pem";

impl Plan {
    /// Everything this node needs, with a new authority.
    ///
    /// # Errors
    /// When certificates cannot be made.
    pub(crate) fn files(&self) -> Result<Files> {
        let ca = pki::create_ca(&self.name)?;
        let [own, _] = &self.nodes;
        let cert = pki::issue(&ca, &own.name)?;
        let mut files = Files::default();
        files.add("pki/ca.pem", &*ca.cert_pem);
        files.add_secret(CA_KEY, &*ca.key_pem);
        files.add("pki/node.pem", &*cert.cert_pem);
        files.add_secret("pki/node-key.pem", &*cert.key_pem);
        files.add(&self.module_file(), self.module_ron()?);
        files.add("cluster.ron", self.cluster_ron()?);
        files.add("node.ron", node_ron(&own.name)?);
        Ok(files)
    }

    pub(crate) fn module_file(&self) -> String {
        format!("modules/{}.ron", self.name)
    }

    /// Nodes in the order of their names: the file is the same whichever node it is made on.
    fn sorted(&self) -> Vec<&PlannedNode> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| &node.name);
        nodes
    }

    fn cluster_ron(&self) -> Result<String> {
        let mut text = format!(
            "// The cluster and its nodes; the same file on every node.\n(\n    name: {},\n    \
             nodes: [\n",
            quoted(&self.name)?
        );
        for node in self.sorted() {
            let addresses = list(&node.addresses)?;
            text += &format!(
                "        (name: {}, addresses: {addresses}),\n",
                quoted(&node.name)?
            );
        }
        text += "    ],\n";
        if let Apart::Witness(address) = &self.apart {
            text += &format!(
                "    // It needs this cluster's ca.pem, and a certificate: tandem pki issue \
                 witness.\n    witness: (tandem: [{}]),\n",
                quoted(&address.to_string())?
            );
        }
        Ok(text + ")\n")
    }

    fn module_ron(&self) -> Result<String> {
        let names: Vec<_> = self.sorted().iter().map(|node| &node.name).collect();
        let mut text = format!(
            "// One protected application; the same file on both nodes.\n(\n    mode: mirror,\n    \
             nodes: {},\n    directories: {},\n",
            list(&names)?,
            list(&self.directories)?
        );
        if !self.virtual_ips.is_empty() {
            text += &format!("    virtual_ips: {},\n", list(&self.virtual_ips)?);
        }
        if !self.services.is_empty() {
            text += &format!("    services: {},\n", list(&self.services)?);
        }
        let word = match &self.apart {
            Apart::Wait => "wait",
            Apart::Ping(_) => "ping",
            Apart::Alone => "alone",
            Apart::Witness(_) => return Ok(text + ")\n"),
        };
        text += &commented(&self.apart.consequence());
        text += &self.apart.warning().map(commented).unwrap_or_default();
        text += &format!("    isolation: {word},\n");
        if let Apart::Ping(addresses) = &self.apart {
            text += &format!("    ping: {},\n", list(addresses)?);
        }
        Ok(text + ")\n")
    }
}

/// `node.ron`.
pub(crate) fn node_ron(name: &str) -> Result<String> {
    Ok(format!("(name: {})\n", quoted(name)?))
}

/// A directory as it stands in a module: absolute and plain, as the configuration wants it.
pub(super) fn directory(text: &str) -> Result<String, UsageError> {
    let plain: std::path::PathBuf = Path::new(text).components().collect();
    let plain = plain.to_str().unwrap_or(text);
    match crate::config::path_fault(plain) {
        None => Ok(plain.into()),
        Some(fault) => Err(UsageError(fault)),
    }
}

fn quoted(text: &str) -> Result<String> {
    ron::to_string(text).with_context(|| format!("writing {text:?} as RON"))
}

fn list<T: ToString>(items: &[T]) -> Result<String> {
    let items: Result<Vec<_>> = items.iter().map(|item| quoted(&item.to_string())).collect();
    Ok(format!("[{}]", items?.join(", ")))
}

/// A comment of lines that are short enough to be read.
fn commented(text: &str) -> String {
    const WIDTH: usize = 90;
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() + word.len() > WIDTH {
            out += &format!("    //{line}\n");
            line.clear();
        }
        line = line + " " + word;
    }
    out + &format!("    //{line}\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::Directory;
    use crate::config::{Dirs, load};

    fn plan(apart: Apart) -> Plan {
        Plan {
            name: "shop".into(),
            nodes: ["b=10.0.0.2,10.1.0.2", "a=10.0.0.1,10.1.0.1"].map(|n| n.parse().unwrap()),
            directories: vec!["/nowhere/a b".into()],
            virtual_ips: vec!["10.0.0.9".parse().unwrap()],
            services: vec!["postgresql".into()],
            apart,
        }
    }

    fn dirs(root: &Directory) -> Dirs {
        let [config, state, run] = ["etc", "state", "run"].map(|name| root.path().join(name));
        Dirs { config, state, run }
    }

    #[test]
    fn every_plan_is_a_valid_configuration() {
        let gateway = "10.0.0.254".parse().unwrap();
        for apart in [
            Apart::Wait,
            Apart::Alone,
            Apart::Ping(vec![gateway]),
            Apart::Witness("10.0.0.8:7402".parse().unwrap()),
        ] {
            let root = Directory::new();
            let config = plan(apart).files().unwrap().write(&dirs(&root)).unwrap();
            assert_eq!(config.node, "b");
            assert_eq!(config.modules[0].nodes, ["a", "b"]);
            assert_eq!(
                config.modules[0].directories[0].value.path,
                Path::new("/nowhere/a b")
            );
            load(&dirs(&root)).complete().unwrap();
        }
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_behind() {
        let root = Directory::new();
        let dirs = dirs(&root);
        std::fs::create_dir_all(dirs.config.join("modules")).unwrap();
        let taken = dirs.config.join("modules/shop.ron");
        std::fs::write(&taken, "mine").unwrap();
        let files = plan(Apart::Wait).files().unwrap();
        let error = files.write(&dirs).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("modules/shop.ron exists already"), "{error}");
        assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");
        let names: Vec<_> = std::fs::read_dir(&dirs.config)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["modules"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_final_place_and_nothing_is_written() {
        let root = Directory::new();
        let dirs = dirs(&root);
        let mut wrong = plan(Apart::Wait);
        wrong.nodes[0].addresses = wrong.nodes[1].addresses.clone();
        let error = wrong.files().unwrap().write(&dirs).map(|_| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("etc/cluster.ron:"), "{error}");
        assert!(!error.contains(".new-"), "{error}");
        assert_eq!(std::fs::read_dir(&dirs.config).unwrap().count(), 0);
    }

    #[test]
    fn a_node_is_a_name_and_its_addresses() {
        let node: PlannedNode = "a=10.0.0.1, fd00::1".parse().unwrap();
        assert_eq!(node.addresses.len(), 2);
        for bad in [
            "a",
            "a=",
            "=10.0.0.1",
            "A=10.0.0.1",
            "a=host",
            "a=10.0.0.1,",
        ] {
            assert!(bad.parse::<PlannedNode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_may_serve_twice_is_warned_about() {
        assert!(Apart::Alone.warning().is_some());
        assert!(
            Apart::Ping(vec!["10.0.0.254".parse().unwrap()])
                .warning()
                .is_some()
        );
        assert!(Apart::Wait.warning().is_none());
    }
}
