//! What is said between a node and `tandem witness`: one question, one answer, each in one frame.
//!
//! ```text
//!  0        4         6
//!  ├ body   ├ version ┤ body (postcard)
//!  │ u32    │ u16
//! ```
//! Little-endian. The answer repeats the question's nonce and says what is held after it, so that a
//! node takes no answer for a grant that does not fit its question.

use super::raw::WireError;
use crate::ids::Id128;
use crate::limits::{MAX_NAME, MAX_WITNESS};
use crate::logic::member::WitnessAnswer;
use crate::logic::witness::Question;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of these frames; the only one spoken.
pub const WITNESS_VERSION: u16 = 1;
/// Name of the protocol in the TLS handshake.
pub const WITNESS_ALPN: &[u8] = b"tandem-witness/1";
/// Bytes of the fixed header.
pub const WITNESS_HEADER: usize = 6;

/// A node's question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessRequest {
    pub cluster: String,
    /// The one who asks; its certificate must carry this name.
    pub node: String,
    pub volume: Id128,
    /// Drawn anew for each request.
    pub nonce: Id128,
    pub question: Question,
}

/// The witness's answer to the request with the same nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessReply {
    pub nonce: Id128,
    pub result: Result<Held, Trouble>,
}

/// The register after the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub granted: bool,
    pub id: Option<Id128>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Trouble {
    /// Short stable word, such as `damaged`, `stranger`.
    pub code: String,
    pub reason: String,
}

impl Trouble {
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
        }
    }
}

impl WitnessReply {
    /// What this reply means for the one who put `request`.
    ///
    /// # Errors
    /// It is no answer to it: the witness has a trouble, or contradicts itself. Then nothing is
    /// granted and nothing refused.
    pub fn judge(&self, request: &WitnessRequest) -> Result<WitnessAnswer, String> {
        let held = self.result.as_ref().map_err(ToString::to_string)?;
        if self.nonce != request.nonce {
            return Err("its answer is to another question".into());
        }
        let (list, new) = request.question.ids();
        match (held.granted, held.id) {
            (true, Some(id)) if id == new => Ok(WitnessAnswer::Granted),
            (true, _) => Err("it says yes, and holds another epoch than was asked for".into()),
            (false, Some(id)) if id == new || list.contains(&id) => {
                Err("it says no, though it holds an epoch that was named".into())
            }
            (false, id) => Ok(WitnessAnswer::Refused(id)),
        }
    }
}

/// A frame with this message.
pub fn encode_witness(message: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(message).expect("plain data always encodes");
    let length = u32::try_from(body.len()).expect("callers keep lists within the limits");
    let mut out = Vec::with_capacity(WITNESS_HEADER + body.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&WITNESS_VERSION.to_le_bytes());
    out.extend_from_slice(&body);
    out
}

/// Length of the body that follows this header.
///
/// # Errors
/// Another version, or too long a body.
pub fn witness_body(header: &[u8; WITNESS_HEADER]) -> Result<usize, WireError> {
    let [a, b, c, d, e, f] = *header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let version = u16::from_le_bytes([e, f]);
    if version != WITNESS_VERSION {
        return Err(WireError::BadValue {
            field: "version of the witness's frames",
            value: version.into(),
        });
    }
    if len > MAX_WITNESS {
        return Err(WireError::TooLong {
            len,
            limit: MAX_WITNESS,
        });
    }
    Ok(len)
}

/// The message a body holds.
///
/// # Errors
/// Anything that is not exactly one message.
pub fn decode_witness<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(|_| WireError::Control)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(WireError::Trailing(rest.len()))
    }
}

impl WitnessRequest {
    /// Whether its names may become names of files.
    pub fn is_proper(&self) -> bool {
        let proper = |name: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain)
        };
        proper(&self.cluster) && proper(&self.node) && self.volume != Id128::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Id128 {
        Id128([n; 16])
    }

    fn request() -> WitnessRequest {
        WitnessRequest {
            cluster: "shop".into(),
            node: "node1".into(),
            volume: id(9),
            nonce: id(7),
            question: Question::Ask {
                list: vec![id(1), id(2)],
                new: id(3),
            },
        }
    }

    fn judge(nonce: u8, granted: bool, held: Option<u8>) -> Result<WitnessAnswer, String> {
        let reply = WitnessReply {
            nonce: id(nonce),
            result: Ok(Held {
                granted,
                id: held.map(id),
            }),
        };
        reply.judge(&request())
    }

    #[test]
    fn only_an_answer_that_fits_is_one() {
        assert_eq!(judge(7, true, Some(3)), Ok(WitnessAnswer::Granted));
        let elsewhere = WitnessAnswer::Refused(Some(id(5)));
        assert_eq!(judge(7, false, Some(5)), Ok(elsewhere));
        assert_eq!(judge(7, false, None), Ok(WitnessAnswer::Refused(None)));
        for lie in [
            judge(8, true, Some(3)),
            judge(7, true, Some(2)),
            judge(7, true, Some(5)),
            judge(7, true, None),
            judge(7, false, Some(2)),
            judge(7, false, Some(3)),
        ] {
            assert!(lie.is_err(), "{lie:?}");
        }
        let trouble = WitnessReply {
            nonce: id(7),
            result: Err(Trouble::new("damaged", "the file is damaged")),
        };
        let error = trouble.judge(&request()).unwrap_err();
        assert_eq!(error, "the file is damaged (damaged)");
    }

    #[test]
    fn frames_come_back_and_others_are_refused() {
        let bytes = encode_witness(&request());
        let header: [u8; WITNESS_HEADER] = bytes[..WITNESS_HEADER].try_into().unwrap();
        let body = &bytes[WITNESS_HEADER..];
        assert_eq!(witness_body(&header), Ok(body.len()));
        assert_eq!(decode_witness::<WitnessRequest>(body), Ok(request()));
        for cut in 0..body.len() {
            assert!(decode_witness::<WitnessRequest>(&body[..cut]).is_err());
        }
        let longer = [body, &[0]].concat();
        assert!(decode_witness::<WitnessRequest>(&longer).is_err());
        let mut newer = header;
        newer[4] = 2;
        assert!(witness_body(&newer).is_err());
        let mut long = header;
        long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(witness_body(&long).is_err());
    }

    #[test]
    fn names_that_could_leave_the_directory_are_not_proper() {
        assert!(request().is_proper());
        for name in ["", "..", "a/b", "A", "a.pem", "a\0"] {
            let cluster = name.to_string();
            assert!(
                !WitnessRequest {
                    cluster,
                    ..request()
                }
                .is_proper(),
                "{name}"
            );
        }
    }
}
