//! Units are started, stopped and looked at over a real bus (`dbus-daemon`, which must be
//! installed: package `dbus`), on which **a mock plays systemd**. What real systemd does is not
//! tested here: only our side of the conversation.
#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

mod scratch;

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use scratch::{Scratch, until};
use tandem_failover::io::services::{ServiceError, Services};
use zbus::connection::Builder;
use zbus::message::{Header, Message, Type};
use zbus::{Connection, MessageStream, OwnedObjectPath, Variant};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(400);
const SYSTEMD: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A bus with the mock on it; both end with it.
struct Bus {
    daemon: Child,
    services: Services,
    calls: Calls,
    _scratch: Scratch,
}

/// What the mock was asked, in order.
type Calls = Arc<Mutex<Vec<String>>>;

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    fn new() -> Self {
        let scratch = Scratch::new();
        let socket = scratch.path("bus");
        let address = format!("unix:path={}", socket.display());
        let config = format!(
            "<busconfig><type>session</type><listen>{address}</listen>\
            <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
            <allow send_destination=\"*\"/>\
            <allow receive_sender=\"*\"/></policy></busconfig>"
        );
        fs::write(scratch.path("config"), config).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!(
                "--config-file={}",
                scratch.path("config").display()
            ))
            .arg("--nofork")
            .stdin(Stdio::null())
            .spawn()
            .expect("dbus-daemon can be run; it is in the package dbus");
        until("the bus is there", || socket.exists());
        let bus = Self {
            daemon,
            services: Services::at(&address),
            calls: Calls::default(),
            _scratch: scratch,
        };
        let calls = bus.calls.clone();
        let (send, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let builder = Builder::address(address.as_str()).name(SYSTEMD);
                let bus = builder.build().await.unwrap();
                let mut stream = MessageStream::from(&bus);
                send.send(()).unwrap();
                let mut mock = Mock {
                    calls,
                    bus,
                    subscribed: false,
                    states: HashMap::new(),
                };
                while let Some(Ok(message)) = stream.next().await {
                    if message.message_type() == Type::MethodCall {
                        mock.answer(&message).await;
                    }
                }
            });
        });
        ready.recv_timeout(LONG).unwrap();
        bus
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

/// Plays systemd's manager, as far as units with these names need it: `good` does what it is asked,
/// `fast` before it has answered, `broken` fails, `slow` takes for ever unless it is killed or
/// cancelled, `masked` is masked, and there are no others.
struct Mock {
    calls: Calls,
    bus: Connection,
    /// Like systemd, it sends signals only to who has asked for them.
    subscribed: bool,
    states: HashMap<String, &'static str>,
}

impl Mock {
    async fn answer(&mut self, message: &Message) {
        let header = message.header();
        let member = header.member().unwrap().as_str().to_owned();
        let body = message.body();
        let unit = match member.as_str() {
            "Subscribe" => {
                self.subscribed = true;
                return self.reply(&header, &()).await;
            }
            "Cancel" => header.path().unwrap().to_string(),
            "LoadUnit" => body.deserialize::<&str>().unwrap().to_owned(),
            "KillUnit" => {
                let (unit, who, signal): (String, String, i32) = body.deserialize().unwrap();
                assert_eq!((who.as_str(), signal), ("all", 9));
                unit
            }
            "Get" => return self.get(&header, body.deserialize().unwrap()).await,
            _ => {
                let (unit, mode): (String, String) = body.deserialize().unwrap();
                assert_eq!(mode, "replace");
                unit
            }
        };
        self.calls.lock().unwrap().push(format!("{member} {unit}"));
        let name = unit.strip_suffix(".service").unwrap_or(&unit).to_owned();
        match (member.as_str(), name.as_str()) {
            ("LoadUnit", _) => {
                let path = format!("{ROOT}/unit/{name}");
                let path = OwnedObjectPath::try_from(path).unwrap();
                self.reply(&header, &path).await;
            }
            ("KillUnit", _) => {
                self.states.insert(name, "inactive");
                self.reply(&header, &()).await;
            }
            ("Cancel", _) => self.reply(&header, &()).await,
            (_, "good" | "fast" | "broken" | "slow") => self.job(&header, &member, &name).await,
            (_, "masked") => self.refuse(&header, "UnitMasked", "Unit is masked.").await,
            (_, "denied") => self.refuse(&header, "Denied", "not you").await,
            _ => self.refuse(&header, "NoSuchUnit", "Unit not found.").await,
        }
    }

    async fn job(&mut self, header: &Header<'_>, member: &str, name: &str) {
        let job = OwnedObjectPath::try_from(format!("{ROOT}/job/{name}")).unwrap();
        let done = match (member, name) {
            (_, "broken") => "failed",
            ("StartUnit", _) => "active",
            _ => "inactive",
        };
        if name != "fast" {
            self.reply(header, &job).await;
        }
        if name != "slow" {
            // Somebody else's job ends too.
            let other = OwnedObjectPath::try_from(format!("{ROOT}/job/other")).unwrap();
            self.removed(&other, "canceled").await;
            self.states.insert(name.into(), done);
            let result = if name == "broken" { "failed" } else { "done" };
            self.removed(&job, result).await;
        } else if member == "StartUnit" {
            self.states.insert(name.into(), "activating");
        }
        if name == "fast" {
            self.reply(header, &job).await;
        }
    }

    async fn get(&self, header: &Header<'_>, (interface, property): (String, String)) {
        let path = header.path().unwrap().to_string();
        let name = path.rsplit('/').next().unwrap();
        let known = ["good", "fast", "broken", "slow", "masked"].contains(&name);
        let state = *self.states.get(name).unwrap_or(&"inactive");
        let value = match property.as_str() {
            "LoadState" if name == "masked" => "masked",
            "LoadState" if known => "loaded",
            "LoadState" => "not-found",
            "ActiveState" => state,
            "SubState" if state == "active" => "running",
            "SubState" => "dead",
            "Result" if state == "failed" => "exit-code",
            _ => "success",
        };
        assert!(interface.starts_with(SYSTEMD), "{interface}");
        self.reply(header, &Variant::from(value)).await;
    }

    async fn removed(&self, job: &OwnedObjectPath, result: &str) {
        if self.subscribed {
            let body = (7u32, job, "unit.service", result);
            let to = None::<&str>;
            let sent = self.bus.emit_signal(to, ROOT, MANAGER, "JobRemoved", &body);
            sent.await.unwrap();
        }
    }

    async fn reply<B: serde::Serialize + zbus::DynamicType>(&self, to: &Header<'_>, body: &B) {
        self.bus.reply(to, body).await.unwrap();
    }

    async fn refuse(&self, to: &Header<'_>, error: &str, text: &str) {
        let name = format!("{SYSTEMD}.{error}");
        self.bus.reply_error(to, name, &text).await.unwrap();
    }
}

#[test]
fn units_are_started_looked_at_and_stopped() {
    let bus = Bus::new();
    for name in ["good", "fast"] {
        let state = bus.services.is_active(name, LONG).unwrap();
        assert!(!state.active, "{state}");
        bus.services.start(name, LONG).unwrap();
        let state = bus
            .services
            .is_active(&format!("{name}.service"), LONG)
            .unwrap();
        assert!(
            state.active && state.to_string() == "active (running)",
            "{state}"
        );
        bus.services.stop(name, LONG).unwrap();
        assert!(!bus.services.is_active(name, LONG).unwrap().active);
    }
}

#[test]
fn failures_name_the_unit_and_what_became_of_it() {
    let bus = Bus::new();
    let start = |unit: &str| bus.services.start(unit, LONG).unwrap_err().to_string();
    assert_eq!(
        start("broken"),
        "unit broken.service: starting ended with \"failed\"; see journalctl -u broken.service"
    );
    let state = bus.services.is_active("broken", LONG).unwrap();
    assert_eq!(state.to_string(), "failed (dead), result exit-code");
    assert!(start("absent").contains("no unit absent.service; install it"));
    assert!(start("masked").contains("systemctl unmask masked.service"));
    assert_eq!(
        start("denied"),
        "unit denied.service: starting was refused: not you"
    );
    let error = bus.services.is_active("absent", LONG).unwrap_err();
    assert!(matches!(error, ServiceError::NoUnit { .. }), "{error}");
    let error = bus.services.is_active("masked", LONG).unwrap_err();
    assert!(matches!(error, ServiceError::Masked { .. }), "{error}");
    let error = bus.services.stop("absent", LONG).unwrap_err();
    assert!(matches!(error, ServiceError::NoUnit { .. }), "{error}");
}

#[test]
fn a_start_that_takes_too_long_is_cancelled_and_a_stop_is_not() {
    let bus = Bus::new();
    let begin = Instant::now();
    let error = bus.services.start("slow", SHORT).unwrap_err();
    let took = begin.elapsed();
    assert_eq!(
        error.to_string(),
        "unit slow.service: starting did not end within 400 ms"
    );
    assert!(took >= SHORT && took < SHORT * 3, "{took:?}");
    let cancelled = format!("Cancel {ROOT}/job/slow");
    assert_eq!(bus.calls(), ["StartUnit slow.service", &cancelled]);
    let error = bus.services.stop("slow", SHORT).unwrap_err();
    assert!(matches!(error, ServiceError::TimedOut { .. }), "{error}");
    assert_eq!(bus.calls().len(), 3, "nothing is cancelled");
    assert!(
        !bus.services.is_active("slow", LONG).unwrap().active,
        "activating"
    );
    bus.services.kill("slow", LONG).unwrap();
    assert_eq!(
        bus.services.is_active("slow", LONG).unwrap().state,
        "inactive"
    );
}

#[test]
fn where_no_systemd_answers_it_is_said_in_time() {
    let scratch = Scratch::new();
    let path = scratch.path("bus");
    let services = Services::at(&format!("unix:path={}", path.display()));
    let error = services.start("good", LONG).unwrap_err();
    assert!(matches!(error, ServiceError::NoBus { .. }), "{error}");
    // A bus that is there and silent.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let begin = Instant::now();
    let error = services.is_active("good", SHORT).unwrap_err();
    assert!(matches!(error, ServiceError::TimedOut { .. }), "{error}");
    assert!(begin.elapsed() < SHORT * 3);
}

#[test]
fn a_bus_that_ends_ends_the_wait() {
    let mut bus = Bus::new();
    let services = bus.services.clone();
    let calls = bus.calls.clone();
    let waiting = std::thread::spawn(move || services.start("slow", LONG));
    until("it waits", || !calls.lock().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    bus.daemon.kill().unwrap();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(begin.elapsed() < LONG / 2, "{error}");
    assert!(matches!(error, ServiceError::Refused { .. }), "{error}");
}
