//! The real `tandem witness` and the client that a node's daemon asks it with, over loopback: what
//! is granted stays granted, and nothing else is ever taken for a grant.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};
use support::third::{Client, PATIENCE, SHORT, Server, VOLUME, World, ask, id, tell};
use tandem_repl::io::tls::{self, Pem};
use tandem_repl::logic::member::WitnessAnswer::{Granted, Refused, Silent};
use tandem_repl::wire::{
    Held, WITNESS_ALPN, WITNESS_HEADER, WitnessReply, WitnessRequest, decode_witness,
    encode_witness, witness_body,
};

#[test]
fn one_of_two_is_granted_and_a_crash_of_the_witness_forgets_nothing() {
    let world = World::new();
    let server = Server::start(&world, "127.0.0.1:0");
    let address = server.address;
    let mut client = world.asks("shop", &[address], None);
    assert_eq!(client.put(ask(&[1], 2)), Refused(None), "nothing was told");
    assert_eq!(client.put(tell(1, false)), Granted);
    assert_eq!(client.put(ask(&[1], 2)), Granted);
    assert_eq!(client.put(ask(&[1], 2)), Granted, "the answer was lost");
    assert_eq!(client.put(ask(&[1], 3)), Refused(Some(id(2))));
    assert_eq!(client.put(tell(1, false)), Refused(Some(id(2))));
    drop(server);
    let started = Server::start(&world, &address.to_string());
    assert_eq!(client.put(ask(&[1], 3)), Refused(Some(id(2))));
    assert_eq!(client.put(tell(4, true)), Granted, "the operator insists");
    drop(started);
    let _server = Server::start(&world, &address.to_string());
    assert_eq!(client.put(ask(&[2], 5)), Refused(Some(id(4))));
}

#[test]
fn a_witness_that_comes_back_is_heard_and_one_that_stays_away_is_silent() {
    let world = World::new();
    let server = Server::start(&world, "127.0.0.1:0");
    let address = server.address;
    let mut client = world.asks("shop", &[address], None);
    assert_eq!(client.put(tell(1, false)), Granted);
    drop(server);
    client.witness.put(70, VOLUME, ask(&[1], 2));
    std::thread::sleep(Duration::from_millis(300));
    let server = Server::start(&world, &address.to_string());
    assert_eq!(client.told.recv_timeout(PATIENCE), Ok((70, Granted)));
    drop(server);
    let mut brief = world.asks_as("shop", "a", &[address], None, SHORT);
    let began = Instant::now();
    assert_eq!(brief.put(ask(&[1], 2)), Silent);
    assert!(began.elapsed() < SHORT * 3, "{:?}", began.elapsed());
    assert!(brief.error().contains("refused"), "{}", brief.error());
}

#[test]
fn a_damaged_register_grants_nothing_and_says_what_to_do() {
    let world = World::new();
    let server = Server::start(&world, "127.0.0.1:0");
    let mut client = world.asks_as("shop", "a", &[server.address], None, SHORT);
    assert_eq!(client.put(tell(1, false)), Granted);
    let whole = fs::read(world.file()).unwrap();
    for damaged in [&b""[..], &whole[..whole.len() - 1], &[0; 40]] {
        fs::write(world.file(), damaged).unwrap();
        assert_eq!(client.put(ask(&[1], 2)), Silent);
        let error = client.error();
        assert!(error.contains("is damaged; if a node"), "{error}");
        assert_eq!(client.put(tell(1, true)), Silent);
    }
    fs::write(world.file(), &whole).unwrap();
    assert_eq!(client.put(ask(&[1], 2)), Granted);
}

#[test]
fn only_nodes_of_the_cluster_that_is_meant_are_served() {
    let world = World::new();
    let server = Server::start(&world, "127.0.0.1:0");
    let addresses = [server.address];
    let mut client = world.asks("shop", &addresses, None);
    assert_eq!(client.put(tell(1, false)), Granted);
    let silent = |mut stranger: Client, expected: &str| {
        assert_eq!(stranger.put(ask(&[1], 2)), Silent);
        let error = stranger.error();
        assert!(error.contains(expected), "{error}");
    };
    // A node of the other cluster, which trusts the witness, asks for this one's volume.
    silent(
        world.asks_as("shop", "a", &addresses, Some("barn"), SHORT),
        "was not issued by the authority of cluster shop",
    );
    silent(
        world.asks_as("shop", "b", &addresses, None, SHORT),
        "is not that of node b",
    );
    silent(
        world.asks_as("farm", "a", &addresses, Some("shop"), SHORT),
        "cluster farm is not known here",
    );
    // The witness shows a certificate of an authority that cluster does not trust.
    silent(
        world.asks_as("barn", "a", &addresses, None, SHORT),
        "invalid peer certificate",
    );
    // Its own cluster's node is another cluster's stranger, and has registers of its own.
    let mut barn = world.asks("barn", &addresses, Some("barn"));
    assert_eq!(barn.put(ask(&[1], 2)), Refused(None));
    // Nobody without a certificate gets as far as a question.
    fs::remove_dir_all(world.path("barn")).unwrap();
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(&[0; 64]).unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(said.len() < 64, "{said:?}");
    assert_eq!(client.put(ask(&[1], 2)), Granted);
}

#[test]
fn a_slow_witness_is_silent_in_time_and_one_that_answers_beside_it_is_heard() {
    let world = World::new();
    // Accepts and says nothing.
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let stuck_at = stuck.local_addr().unwrap();
    let mut client = world.asks_as("shop", "a", &[stuck_at], None, SHORT);
    let began = Instant::now();
    assert_eq!(client.put(ask(&[1], 2)), Silent);
    assert!(began.elapsed() < SHORT * 3, "{:?}", began.elapsed());
    let server = Server::start(&world, "127.0.0.1:0");
    let mut client = world.asks("shop", &[stuck_at, server.address], None);
    assert_eq!(client.put(tell(1, false)), Granted);
    assert_eq!(client.put(ask(&[1], 2)), Granted);
}

/// A witness with the right certificate that gives these answers, one after the other, then none.
fn liar(
    world: &World,
    mut answers: impl Iterator<Item = Box<dyn Fn(&WitnessRequest) -> Vec<u8>>> + Send + 'static,
) -> SocketAddr {
    let [ca, cert, key] = world.pem("shop/witness");
    let pem = Pem {
        ca: &ca,
        cert: &cert,
        key: &key,
    };
    let verifier = tls::verifier(&[&ca]).unwrap();
    let config = Arc::new(tls::server(verifier, pem, WITNESS_ALPN).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut header = [0; WITNESS_HEADER];
            if stream.read_exact(&mut header).is_err() {
                continue;
            }
            let mut body = vec![0; witness_body(&header).unwrap()];
            stream.read_exact(&mut body).unwrap();
            let request = decode_witness(&body).unwrap();
            let Some(answer) = answers.next() else { return };
            let _ = stream.write_all(&answer(&request));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

#[test]
fn a_witness_that_lies_grants_nothing() {
    let world = World::new();
    type Lie = Box<dyn Fn(&WitnessRequest) -> Vec<u8> + Send>;
    let says = |granted: bool, held: Option<u8>| -> Lie {
        Box::new(move |request| {
            encode_witness(&WitnessReply {
                nonce: request.nonce,
                result: Ok(Held {
                    granted,
                    id: held.map(id),
                }),
            })
        })
    };
    let lies: Vec<(&str, Lie)> = vec![
        ("an older epoch", says(true, Some(1))),
        ("another epoch", says(true, Some(7))),
        ("nothing held", says(true, None)),
        ("no, though it may", says(false, Some(1))),
        ("no, though it has", says(false, Some(2))),
        (
            "of another question",
            Box::new(|_| {
                encode_witness(&WitnessReply {
                    nonce: id(200),
                    result: Ok(Held {
                        granted: true,
                        id: Some(id(2)),
                    }),
                })
            }),
        ),
        ("the question itself", Box::new(encode_witness)),
        ("garbage", Box::new(|_| vec![0xa5; 300])),
        ("too long", Box::new(|_| vec![0xff, 0xff, 0xff, 0x7f, 1, 0])),
        (
            "of another version",
            Box::new(|_| vec![1, 0, 0, 0, 99, 0, 0]),
        ),
        ("half", Box::new(|_| vec![10, 0, 0, 0, 1, 0, 0])),
        ("nothing", Box::new(|_| Vec::new())),
    ];
    for (what, lie) in lies {
        let lie = Arc::new(std::sync::Mutex::new(lie));
        let again = std::iter::repeat_with(move || {
            let lie = lie.clone();
            let answer = move |request: &WitnessRequest| lie.lock().unwrap()(request);
            Box::new(answer) as Box<dyn Fn(&WitnessRequest) -> Vec<u8>>
        });
        let address = liar(&world, again);
        let mut client = world.asks_as("shop", "a", &[address], None, SHORT);
        assert_eq!(client.put(ask(&[1], 2)), Silent, "{what}");
        assert!(!client.error().is_empty(), "{what}");
    }
}
