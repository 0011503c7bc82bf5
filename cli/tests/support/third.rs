//! Two clusters, a real `tandem witness`, and the client of a node's daemon.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tandem_repl::ids::Id128;
use tandem_repl::io::tls::Pem;
use tandem_repl::io::witness::{Asker, Witness, WitnessConfig};
use tandem_repl::logic::member::WitnessAnswer;
use tandem_repl::logic::witness::Question;

use super::tandem;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// For questions that are answered.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// For questions that are not.
pub(crate) const SHORT: Duration = Duration::from_secs(1);
pub(crate) const VOLUME: Id128 = Id128([9; 16]);

/// A directory with clusters `shop` and `barn`, node `a` and the witness of each; removed at the
/// end.
pub(crate) struct World(PathBuf);

impl World {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-third-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let world = Self(root);
        fs::create_dir_all(world.path("clients")).unwrap();
        for cluster in ["shop", "barn"] {
            let ca = world.path(&format!("{cluster}/ca"));
            let ca = ca.to_str().unwrap();
            ok(&mut tandem(&[
                "pki",
                "init",
                "--cluster",
                cluster,
                "--out",
                ca,
            ]));
            for node in ["a", "witness"] {
                let out = world.path(&format!("{cluster}/{node}"));
                let out = out.to_str().unwrap();
                ok(&mut tandem(&[
                    "pki", "issue", node, "--ca", ca, "--out", out,
                ]));
            }
            let known = world.path(&format!("clients/{cluster}.pem"));
            fs::copy(world.path(&format!("{cluster}/ca/ca.pem")), known).unwrap();
        }
        world
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    pub(crate) fn text(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    /// CA, certificate and key of a node of a cluster.
    pub(crate) fn pem(&self, who: &str) -> [String; 3] {
        let file = |name: &str| self.text(&format!("{who}/{name}"));
        ["ca.pem", "node.pem", "node-key.pem"].map(file)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path(&format!("state/witness/shop/{VOLUME}"))
    }

    /// Node `a` asks at these addresses, with its own cluster's certificate or `other`'s.
    pub(crate) fn asks(
        &self,
        cluster: &str,
        addresses: &[SocketAddr],
        other: Option<&str>,
    ) -> Client {
        self.asks_as(cluster, "a", addresses, other, LIMIT)
    }

    pub(crate) fn asks_as(
        &self,
        cluster: &str,
        node: &str,
        addresses: &[SocketAddr],
        other: Option<&str>,
        limit: Duration,
    ) -> Client {
        let [ca, cert, key] = self.pem(&format!("{}/a", other.unwrap_or(cluster)));
        let config = WitnessConfig::Tandem {
            addresses: addresses.to_vec(),
            name: "witness".into(),
            ca_pem: other.map(|_| self.text("shop/ca/ca.pem")),
        };
        let pem = Pem {
            ca: &ca,
            cert: &cert,
            key: &key,
        };
        let asker = Asker { cluster, node, pem };
        let (tell, told) = channel();
        let answered = move |round, answer| {
            let _ = tell.send((round, answer));
        };
        let witness = Witness::start(&config, &asker, limit, answered).unwrap();
        Client {
            witness,
            told,
            round: 0,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ok(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A running `tandem witness`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(world: &World, listen: &str) -> Self {
        let mut command = tandem(&["witness", "--listen", listen]);
        let option = |name: &str, below: &str| [name.to_string(), display(&world.path(below))];
        for [name, path] in [
            option("--state-dir", "state"),
            option("--clients", "clients"),
            option("--cert", "shop/witness/node.pem"),
            option("--key", "shop/witness/node-key.pem"),
        ] {
            command.args([name, path]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let (_, address) = line
            .trim_end()
            .rsplit_once("listens on ")
            .unwrap_or_else(|| panic!("{line}"));
        let address = address.parse().unwrap();
        // A full pipe would stop it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, address }
    }
}

fn display(path: &Path) -> String {
    path.to_str().unwrap().into()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Client {
    pub(crate) witness: Witness,
    pub(crate) told: Receiver<(u64, WitnessAnswer)>,
    round: u64,
}

impl Client {
    pub(crate) fn put(&mut self, question: Question) -> WitnessAnswer {
        self.round += 1;
        self.witness.put(self.round, VOLUME, question);
        let (round, answer) = self.told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(round, self.round);
        answer
    }

    pub(crate) fn error(&self) -> String {
        self.witness.status().last_error.unwrap_or_default()
    }
}

pub(crate) fn id(n: u8) -> Id128 {
    Id128([n; 16])
}

pub(crate) fn ask(list: &[u8], new: u8) -> Question {
    let list = list.iter().map(|n| id(*n)).collect();
    Question::Ask { list, new: id(new) }
}

pub(crate) fn tell(n: u8, force: bool) -> Question {
    let (list, id) = (vec![id(n)], id(n));
    Question::Tell { list, id, force }
}
