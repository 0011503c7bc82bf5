//! An etcd cluster as the witness: one key per volume, whose value is the epoch's id in
//! hexadecimal.
//!
//! The register is read, asked as [`Register`](crate::logic::witness::Register) decides, and
//! written by a transaction that fails if the key changed in between; then it is read again. Reads
//! and transactions of etcd are linearizable and durable on a majority before they are answered.

use super::{CONNECT, Register, WitnessError};
use crate::ids::Id128;
use crate::logic::member::WitnessAnswer;
use crate::logic::witness::{self, Question};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Longest answer read, bytes. One key of a few hundred bytes is what is asked for.
const MAX_ANSWER: u64 = 64 * 1024;

pub(super) struct Etcd {
    agent: Agent,
    endpoints: Vec<String>,
    /// The one that answered last is tried first, or the one after one that failed.
    first: AtomicUsize,
    /// Before the volume's id.
    prefix: String,
}

/// What a key held when it was read.
struct Found {
    id: Option<Id128>,
    /// 0: the key does not exist.
    revision: String,
}

impl Etcd {
    pub(super) fn new(
        endpoints: &[String],
        prefix: String,
        (ca, identity): (Option<&str>, Option<&(String, String)>),
    ) -> Result<Self, WitnessError> {
        let bad = |what, e: ureq::Error| WitnessError::Bad {
            what,
            value: "PEM".into(),
            why: e.to_string(),
        };
        // Only what is configured is trusted: who can give answers as the witness can make two
        // nodes serve.
        let roots = match ca {
            Some(pem) => ureq::tls::parse_pem(pem.as_bytes())
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(cert)) => Some(Ok(cert)),
                    Ok(_) => None,
                    Err(e) => Some(Err(e)),
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| bad("ca", e))?,
            None => Vec::new(),
        };
        let shown = match identity {
            Some((cert, key)) => {
                let cert = Certificate::from_pem(cert.as_bytes()).map_err(|e| bad("cert", e))?;
                let key = PrivateKey::from_pem(key.as_bytes()).map_err(|e| bad("key", e))?;
                Some(ClientCert::new_with_certs(&[cert], key))
            }
            None => None,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::from(roots))
            .client_cert(shown)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .build();
        Ok(Self {
            agent: agent.into(),
            endpoints: endpoints.to_vec(),
            first: AtomicUsize::new(0),
            prefix,
        })
    }

    /// One request to one endpoint.
    fn post(
        &self,
        endpoint: &str,
        path: &str,
        body: &Value,
        end: Instant,
    ) -> Result<Value, String> {
        let failed = |why: String| format!("{endpoint}: {why}");
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(failed("no answer in time".into()));
        }
        let url = format!("{}/v3/kv/{path}", endpoint.trim_end_matches('/'));
        let mut response = self
            .agent
            .post(&url)
            .config()
            .timeout_global(Some(rest))
            .build()
            .content_type("application/json")
            .send(body.to_string())
            .map_err(|e| failed(e.to_string()))?;
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(|e| failed(e.to_string()))?;
        let status = response.status();
        if !status.is_success() {
            let said: String = text.chars().take(200).collect();
            return Err(failed(format!("status {status}: {}", said.trim())));
        }
        serde_json::from_str(&text).map_err(|e| failed(format!("its answer: {e}")))
    }

    fn put_to(
        &self,
        endpoint: &str,
        key: &str,
        question: &Question,
        end: Instant,
    ) -> Result<WitnessAnswer, String> {
        let encoded = STANDARD.encode(key);
        loop {
            let answer = self.post(endpoint, "range", &json!({ "key": encoded }), end)?;
            let found =
                found(&answer, &encoded).map_err(|why| format!("{endpoint}: key {key}: {why}"))?;
            let mut register = witness::Register::load(found.id);
            let said = register.answer(question);
            if said != WitnessAnswer::Granted || register.id() == found.id {
                return Ok(said);
            }
            let (_, new) = question.ids();
            let value = STANDARD.encode(new.to_string());
            let unchanged = json!({
                "key": encoded, "target": "MOD", "result": "EQUAL", "mod_revision": found.revision,
            });
            let write = json!({ "request_put": { "key": encoded, "value": value } });
            let transaction = json!({ "compare": [unchanged], "success": [write] });
            let answer = self.post(endpoint, "txn", &transaction, end)?;
            if answer.get("succeeded").and_then(Value::as_bool) == Some(true) {
                return Ok(WitnessAnswer::Granted);
            }
            // The other node was quicker: what is there now decides.
        }
    }
}

/// What an answer to a read of one key says.
fn found(answer: &Value, key: &str) -> Result<Found, String> {
    if answer.get("header").is_none() {
        return Err("this is no answer of etcd".into());
    }
    let entries = match answer.get("kvs") {
        None => &[][..],
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("this is no answer of etcd".into()),
    };
    let entry = match entries {
        [] => {
            return Ok(Found {
                id: None,
                revision: "0".into(),
            });
        }
        [entry] => entry,
        _ => return Err("more than one entry".into()),
    };
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    if text("key") != Some(key) {
        return Err("the answer is about another key".into());
    }
    let revision = text("mod_revision").filter(|r| r.parse::<i64>().is_ok_and(|r| r > 0));
    let revision = revision.ok_or("the answer holds no revision")?;
    let value = text("value").and_then(|value| STANDARD.decode(value).ok());
    let id = value.and_then(|value| parse_id(&value));
    let id = id.ok_or("its value is no epoch; remove it, and the serving node writes it anew")?;
    Ok(Found {
        id: Some(id),
        revision: revision.into(),
    })
}

fn parse_id(text: &[u8]) -> Option<Id128> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| plain)?;
    Some(Id128(number.to_be_bytes()))
}

impl Register for Etcd {
    fn put(
        &self,
        volume: Id128,
        question: &Question,
        limit: Duration,
    ) -> Result<WitnessAnswer, String> {
        let end = Instant::now() + limit;
        let key = format!("{}{volume}", self.prefix);
        let first = self.first.load(Ordering::Relaxed);
        let count = self.endpoints.len();
        let mut errors = Vec::new();
        for n in (first..first + count).map(|n| n % count) {
            if Instant::now() >= end {
                break;
            }
            match self.put_to(&self.endpoints[n], &key, question, end) {
                Ok(answer) => {
                    self.first.store(n, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(why) => {
                    // One that is stuck must not take the time of the others again.
                    self.first.store((n + 1) % count, Ordering::Relaxed);
                    errors.push(why);
                }
            }
        }
        Err(errors.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = Id128(std::array::from_fn(|n| n as u8 * 17));
        assert_eq!(parse_id(id.to_string().as_bytes()), Some(id));
        for text in ["", "0", "+0000000000000000000000000000001", "zz"] {
            assert_eq!(parse_id(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_answer_is_taken_only_if_it_is_whole() {
        let key = STANDARD.encode("/tandem/shop/09");
        let value = STANDARD.encode(Id128([7; 16]).to_string());
        let entry = |key: &str, value: &str, revision: &str| {
            let entry = json!({ "key": key, "value": value, "mod_revision": revision });
            json!({ "header": {}, "kvs": [entry] })
        };
        let good = found(&entry(&key, &value, "12"), &key).unwrap();
        assert_eq!((good.id, &*good.revision), (Some(Id128([7; 16])), "12"));
        let none = found(&json!({ "header": {} }), &key).unwrap();
        assert_eq!((none.id, &*none.revision), (None, "0"));
        for bad in [
            json!({}),
            json!([]),
            json!({ "header": {}, "kvs": 7 }),
            entry("other", &value, "12"),
            entry(&key, &value, "0"),
            entry(&key, &value, "twelve"),
            entry(&key, "?", "12"),
            entry(&key, &STANDARD.encode("hello"), "12"),
        ] {
            assert!(found(&bad, &key).is_err(), "{bad}");
        }
    }
}
