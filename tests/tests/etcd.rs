//! A real etcd as the register of a volume, asked by the client that a node's daemon uses.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tandem_repl::ids::Id128;
use tandem_repl::io::tls::Pem;
use tandem_repl::io::witness::{Asker, Witness, WitnessConfig};
use tandem_repl::logic::member::WitnessAnswer::{self, Granted, Refused, Silent};
use tandem_repl::logic::witness::Question;
use tandem_tests::cluster::binary;
use tandem_tests::etcd::{Directory, Etcd, free_ports, program};
use tandem_tests::sys;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(2);
const VOLUME: Id128 = Id128([9; 16]);

struct Client {
    witness: Witness,
    told: Receiver<(u64, WitnessAnswer)>,
    round: u64,
}

impl Client {
    fn new(config: &WitnessConfig, limit: Duration) -> Self {
        let none = Pem {
            ca: "",
            cert: "",
            key: "",
        };
        let asker = Asker {
            cluster: "shop",
            node: "a",
            pem: none,
        };
        let (tell, told) = channel();
        let answered = move |round, answer| {
            let _ = tell.send((round, answer));
        };
        Self {
            witness: Witness::start(config, &asker, limit, answered).unwrap(),
            told,
            round: 0,
        }
    }

    fn begin(&mut self, question: Question) {
        self.round += 1;
        self.witness.put(self.round, VOLUME, question);
    }

    fn answer(&mut self) -> WitnessAnswer {
        let (round, answer) = self.told.recv_timeout(LIMIT * 2).unwrap();
        assert_eq!(round, self.round);
        answer
    }

    fn put(&mut self, question: Question) -> WitnessAnswer {
        self.begin(question);
        self.answer()
    }

    fn error(&self) -> String {
        self.witness.status().last_error.unwrap_or_default()
    }
}

fn plain(url: &str) -> WitnessConfig {
    WitnessConfig::Etcd {
        endpoints: vec![url.into()],
        prefix: "/tandem/".into(),
        ca_pem: None,
        identity: None,
    }
}

fn id(n: u8) -> Id128 {
    Id128([n; 16])
}

fn ask(list: &[u8], new: u8) -> Question {
    let list = list.iter().map(|n| id(*n)).collect();
    Question::Ask { list, new: id(new) }
}

fn tell(n: u8, force: bool) -> Question {
    let (list, id) = (vec![id(n)], id(n));
    Question::Tell { list, id, force }
}

fn urls() -> (String, String) {
    let [clients, peers] = free_ports().unwrap();
    let url = |port| format!("http://127.0.0.1:{port}");
    (url(clients), url(peers))
}

#[test]
fn what_is_granted_is_kept_and_of_two_at_once_one_is_granted() {
    let Some(program) = program("etcd as a register") else {
        return;
    };
    let data = Directory::new().unwrap();
    let (clients, peers) = urls();
    let etcd = Etcd::start(&program, data.path(), (&clients, &peers), &[]).unwrap();
    let mut a = Client::new(&plain(&clients), LIMIT);
    let mut b = Client::new(&plain(&clients), LIMIT);
    assert_eq!(a.put(ask(&[1], 2)), Refused(None), "nothing was told");
    assert_eq!(a.put(tell(1, false)), Granted);
    assert_eq!(a.put(ask(&[1], 2)), Granted);
    assert_eq!(a.put(ask(&[1], 2)), Granted, "the answer was lost");
    assert_eq!(b.put(ask(&[1], 3)), Refused(Some(id(2))));
    assert_eq!(b.put(tell(3, true)), Granted, "the operator insists");
    let mut held = 3;
    let mut first = 0;
    for round in 0..40 {
        let [one, two] = [4 + 2 * round, 5 + 2 * round];
        a.begin(ask(&[held], one));
        b.begin(ask(&[held], two));
        let expected = match (a.answer(), b.answer()) {
            (Granted, Refused(found)) => {
                held = one;
                first += 1;
                found
            }
            (Refused(found), Granted) => {
                held = two;
                found
            }
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!(expected, Some(id(held)), "round {round}");
    }
    println!("the first was granted {first} of 40 times");
    drop(etcd);
    let _etcd = Etcd::start(&program, data.path(), (&clients, &peers), &[]).unwrap();
    assert_eq!(a.put(ask(&[1], 250)), Refused(Some(id(held))));
}

#[test]
fn what_is_no_answer_is_no_grant() {
    let Some(program) = program("an etcd that is slow or holds nonsense") else {
        return;
    };
    let data = Directory::new().unwrap();
    let (clients, peers) = urls();
    let etcd = Etcd::start(&program, data.path(), (&clients, &peers), &[]).unwrap();
    let mut patient = Client::new(&plain(&clients), LIMIT);
    assert_eq!(patient.put(tell(1, false)), Granted);
    let mut client = Client::new(&plain(&clients), SHORT);
    sys::kill(etcd.pid(), libc::SIGSTOP).unwrap();
    let began = Instant::now();
    assert_eq!(client.put(ask(&[1], 2)), Silent);
    assert!(began.elapsed() < SHORT * 2, "{:?}", began.elapsed());
    sys::kill(etcd.pid(), libc::SIGCONT).unwrap();
    assert_eq!(patient.put(ask(&[1, 2], 3)), Granted);
    // Somebody else's value at the key: never taken for an empty register, nor overwritten.
    let key = format!("/tandem/shop/{VOLUME}");
    let put = format!(
        r#"{{"key": "{}", "value": "{}"}}"#,
        base64(key.as_bytes()),
        base64(b"hello")
    );
    post(&clients, "/v3/kv/put", &put);
    for question in [ask(&[1], 4), tell(4, true)] {
        assert_eq!(client.put(question), Silent);
        assert!(client.error().contains("no epoch"), "{}", client.error());
    }
    drop(etcd);
    assert_eq!(client.put(ask(&[1], 4)), Silent);
}

#[test]
fn only_the_etcd_of_the_configured_authority_is_believed() {
    let test = "etcd over TLS";
    let (Some(program), Some(tandem)) = (program(test), binary(test)) else {
        return;
    };
    let data = Directory::new().unwrap();
    let pki = |who: &str, arguments: &[&str]| {
        let done = Command::new(&tandem).arg("pki").args(arguments).output();
        assert!(done.unwrap().status.success(), "{who}");
    };
    let path = |below: &str| data.path().join(below).to_str().unwrap().to_string();
    for ca in ["ca", "other"] {
        pki(ca, &["init", "--cluster", ca, "--out", &path(ca)]);
        let out = path(&format!("{ca}-localhost"));
        pki(
            ca,
            &["issue", "localhost", "--ca", &path(ca), "--out", &out],
        );
    }
    let (clients, peers) = urls();
    let clients = clients.replace("http:", "https:");
    let tls = [
        ("--cert-file", path("ca-localhost/node.pem")),
        ("--key-file", path("ca-localhost/node-key.pem")),
        ("--trusted-ca-file", path("ca/ca.pem")),
        ("--client-cert-auth", "true".into()),
    ];
    let tls: Vec<String> = tls.map(|(name, value)| format!("{name}={value}")).into();
    let _etcd = Etcd::start(&program, data.path(), (&clients, &peers), &tls).unwrap();
    let text = |below: &str| std::fs::read_to_string(Path::new(&path(below))).unwrap();
    let config = |ca: &str, own: Option<&str>| WitnessConfig::Etcd {
        endpoints: vec![clients.replace("127.0.0.1", "localhost")],
        prefix: "/tandem/".into(),
        ca_pem: Some(text(&format!("{ca}/ca.pem"))),
        identity: own.map(|own| {
            let file = |name: &str| text(&format!("{own}-localhost/{name}"));
            (file("node.pem"), file("node-key.pem"))
        }),
    };
    let mut good = Client::new(&config("ca", Some("ca")), LIMIT);
    assert_eq!(good.put(tell(1, false)), Granted);
    assert_eq!(good.put(ask(&[1], 2)), Granted);
    for (what, bad) in [
        ("another authority", config("other", Some("ca"))),
        ("no certificate", config("ca", None)),
        ("another certificate", config("ca", Some("other"))),
    ] {
        let mut client = Client::new(&bad, SHORT);
        assert_eq!(client.put(ask(&[2], 3)), Silent, "{what}");
        println!("{what}: {}", client.error());
    }
    assert_eq!(
        good.put(ask(&[2], 4)),
        Granted,
        "none of them changed anything"
    );
}

/// Posts to the JSON gateway without the client under test.
fn post(url: &str, path: &str, body: &str) {
    use std::io::{Read, Write};
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         \r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
