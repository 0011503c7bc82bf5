//! The conversation with systemd about one unit, in a thread of its own: a bus that does not
//! answer must not stop whoever asks.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::time::timeout_at;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use super::{ServiceError, UnitState};
use crate::io::within::within;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const JOB: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long taking a job back may last, when the time for it is over.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks at a unit that was killed.
const PAUSE: Duration = Duration::from_millis(50);

/// One thing asked of systemd.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) address: Option<String>,
    pub(super) unit: String,
    pub(super) action: &'static str,
    pub(super) limit: Duration,
    pub(super) deadline: Instant,
}

/// Runs a conversation where blocking is bounded and no other runtime is in the way.
macro_rules! converse {
    ($ask:ident, $what:expr) => {{
        let ask = $ask.clone();
        let spare = $ask.limit + CANCEL_LIMIT * 2;
        let done = within(spare, "systemd", move || ask.block_on($what));
        done.unwrap_or_else(|_| Err($ask.timed_out()))
    }};
}

impl Ask {
    pub(super) fn job(&self, method: &'static str) -> Result<(), ServiceError> {
        converse!(self, async |ask: &Self| ask.finish_job(method).await)
    }

    pub(super) fn kill(&self) -> Result<(), ServiceError> {
        converse!(self, async |ask: &Self| ask.kill_unit().await)
    }

    pub(super) fn state(&self) -> Result<UnitState, ServiceError> {
        converse!(self, async |ask: &Self| {
            let bus = ask.connect().await?;
            ask.unit_state(&bus).await
        })
    }

    fn block_on<T>(
        &self,
        work: impl AsyncFnOnce(&Self) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.no_bus(&error.to_string()))?;
        runtime.block_on(work(self))
    }

    fn no_bus(&self, reason: &str) -> ServiceError {
        ServiceError::NoBus {
            unit: self.unit.clone(),
            reason: reason.to_owned(),
        }
    }

    fn timed_out(&self) -> ServiceError {
        ServiceError::TimedOut {
            unit: self.unit.clone(),
            action: self.action,
            limit: self.limit,
        }
    }

    fn refused(&self, error: zbus::Error) -> ServiceError {
        let unit = self.unit.clone();
        let reason = match error {
            zbus::Error::MethodError(name, text, _) => {
                match name.as_str().rsplit('.').next() {
                    Some("NoSuchUnit") => return ServiceError::NoUnit { unit },
                    Some("UnitMasked") => return ServiceError::Masked { unit },
                    _ => {}
                }
                text.unwrap_or_else(|| name.to_string())
            }
            error => error.to_string(),
        };
        ServiceError::Refused {
            unit,
            action: self.action,
            reason,
        }
    }

    /// What `work` gives before the time is over.
    async fn in_time<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
        explain: impl FnOnce(E) -> ServiceError,
    ) -> Result<T, ServiceError> {
        match timeout_at(self.deadline.into(), work).await {
            Ok(result) => result.map_err(explain),
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn connect(&self) -> Result<Connection, ServiceError> {
        let builder = match &self.address {
            Some(address) => Builder::address(address.as_str()),
            None => Builder::system(),
        };
        let explain = |error: zbus::Error| self.no_bus(&error.to_string());
        self.in_time(builder.build(), explain).await
    }

    async fn call<B>(&self, bus: &Connection, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), method, body)
            .await
    }

    async fn finish_job(&self, method: &str) -> Result<(), ServiceError> {
        let bus = self.connect().await?;
        // Listening begins before the job does: a fast one has ended before its name is known.
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(|error| self.refused(error))?;
        let listen = MessageStream::for_match_rule(rule, &bus, None);
        let mut ended = self.in_time(listen, |error| self.refused(error)).await?;
        let subscribe = self.call(&bus, "Subscribe", &());
        self.in_time(subscribe, |error| self.refused(error)).await?;
        let body = (self.unit.as_str(), "replace");
        let begin = async {
            let answer = self.call(&bus, method, &body).await?;
            answer.body().deserialize::<OwnedObjectPath>()
        };
        let job = self.in_time(begin, |error| self.refused(error)).await?;
        let result = match timeout_at(self.deadline.into(), result_of(&mut ended, &job)).await {
            Ok(result) => result.map_err(|error| self.refused(error))?,
            Err(_) => {
                if method == "StartUnit" {
                    // What is not up in time must not come up later. A stop shall go on.
                    let cancel = bus.call_method(Some(SYSTEMD), &job, Some(JOB), "Cancel", &());
                    let _ = tokio::time::timeout(CANCEL_LIMIT, cancel).await;
                }
                return Err(self.timed_out());
            }
        };
        match result.as_str() {
            "done" => Ok(()),
            _ => Err(ServiceError::Failed {
                unit: self.unit.clone(),
                action: self.action,
                result: format!("{result:?}"),
            }),
        }
    }

    async fn kill_unit(&self) -> Result<(), ServiceError> {
        let bus = self.connect().await?;
        let body = (self.unit.as_str(), "all", libc::SIGKILL);
        let killed = self.call(&bus, "KillUnit", &body);
        let killed = self.in_time(killed, |error| self.refused(error)).await;
        if let Err(error @ ServiceError::TimedOut { .. }) = killed {
            return Err(error);
        }
        loop {
            let now = self.unit_state(&bus).await?;
            if matches!(now.state.as_str(), "inactive" | "failed") {
                return Ok(());
            }
            // Refused, and not because there was nothing to be killed.
            if let Err(error) = killed {
                return Err(error);
            }
            if Instant::now() + PAUSE > self.deadline {
                return Err(self.timed_out());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn unit_state(&self, bus: &Connection) -> Result<UnitState, ServiceError> {
        let load = async {
            let answer = self.call(bus, "LoadUnit", &self.unit.as_str()).await?;
            answer.body().deserialize::<OwnedObjectPath>()
        };
        let path = self.in_time(load, |error| self.refused(error)).await?;
        let get = |interface, name| {
            let got = text(bus, &path, interface, name);
            self.in_time(got, |error| self.refused(error))
        };
        let unit = self.unit.clone();
        match get(UNIT, "LoadState").await?.as_str() {
            "not-found" => return Err(ServiceError::NoUnit { unit }),
            "masked" => return Err(ServiceError::Masked { unit }),
            _ => {}
        }
        let state = get(UNIT, "ActiveState").await?;
        Ok(UnitState {
            active: matches!(state.as_str(), "active" | "reloading" | "refreshing"),
            state,
            sub: get(UNIT, "SubState").await?,
            // Only services have one.
            result: get(SERVICE, "Result").await.unwrap_or_default(),
        })
    }
}

/// How systemd's job ended, once it has.
async fn result_of(ended: &mut MessageStream, job: &OwnedObjectPath) -> zbus::Result<String> {
    while let Some(message) = ended.next().await {
        let message = message?;
        let body = message.body();
        let (_, path, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
        if path == *job {
            return Ok(result);
        }
    }
    Err(zbus::Error::Failure("the bus closed the connection".into()))
}

async fn text(
    bus: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    name: &str,
) -> zbus::Result<String> {
    let body = (interface, name);
    let answer = bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &body);
    let value: OwnedVariant = answer.await?.body().deserialize()?;
    String::try_from(value)
}
