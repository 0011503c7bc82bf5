//! Probes of the paths: datagrams beside QUIC's, on every path, proved with a key of the session.
//!
//! ```text
//!  0    1    2      3     4        12     20 ── for each path ──────────────────────┐
//!  │ 1  │path│dialer│count│ number │ sent │ echo u64 │ held u32 │ lost, of, behind u8 │ proof 32
//! ```
//! QUIC's packets have bit 0x40 of their first byte set (greasing it is switched off), probes have
//! not. The proof is the keyed BLAKE3 hash of all before it; the key comes out of the session's TLS
//! handshake, so who does not take part in it can neither make a probe nor use one again later.

use super::raw::{Put, Reader, WireError};
use crate::logic::paths::{MAX_PATHS, Probe, Report};

/// Length of the session's key and of the proof, bytes.
pub const PROBE_KEY: usize = 32;
const KIND: u8 = 1;
const QUIC_BIT: u8 = 0x40;

/// Whether a datagram cannot be QUIC's.
pub fn is_probe(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & QUIC_BIT == 0)
}

/// The datagram of a probe. `dialer`: which end of the session sends it, so that its own probes
/// cannot be handed back to it.
pub fn encode_probe(probe: &Probe, dialer: bool, key: &[u8; PROBE_KEY]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for byte in [KIND, probe.path, dialer.into(), probe.reports.len() as u8] {
        out.u8(byte);
    }
    out.u64(probe.number);
    out.u64(probe.sent);
    for report in &probe.reports {
        out.u64(report.echo);
        out.u32(report.held);
        for byte in [report.lost, report.of, report.behind.into()] {
            out.u8(byte);
        }
    }
    let proof = blake3::keyed_hash(key, &out);
    out.extend_from_slice(proof.as_bytes());
    out
}

/// The probe in a datagram of the other end.
///
/// # Errors
/// It is none, or its proof is not of this session and of that end.
pub fn decode_probe(
    datagram: &[u8],
    dialer: bool,
    key: &[u8; PROBE_KEY],
) -> Result<Probe, WireError> {
    let (body, proof) = datagram
        .split_last_chunk::<PROBE_KEY>()
        .ok_or(WireError::Short)?;
    // Compared in constant time.
    if blake3::keyed_hash(key, body) != *proof {
        return Err(WireError::Proof);
    }
    let mut reader = Reader(body);
    match reader.u8()? {
        KIND => {}
        kind => return Err(WireError::UnknownKind(kind)),
    }
    let path = reader.u8()?;
    if reader.flag("dialer")? != dialer {
        return Err(WireError::Proof);
    }
    let count = usize::from(reader.u8()?);
    if count > MAX_PATHS {
        return Err(WireError::TooLong {
            len: count,
            limit: MAX_PATHS,
        });
    }
    let (number, sent) = (reader.u64()?, reader.u64()?);
    let mut reports = Vec::with_capacity(count);
    for _ in 0..count {
        reports.push(Report {
            echo: reader.u64()?,
            held: reader.u32()?,
            lost: reader.u8()?,
            of: reader.u8()?,
            behind: reader.flag("behind")?,
        });
    }
    reader.end()?;
    Ok(Probe {
        path,
        number,
        sent,
        reports,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: [u8; PROBE_KEY] = [7; PROBE_KEY];

    fn probe(count: usize) -> Probe {
        let report = Report {
            echo: 1 << 40,
            held: 1000,
            lost: 3,
            of: 64,
            behind: true,
        };
        Probe {
            path: 1,
            number: 9,
            sent: u64::MAX,
            reports: vec![report; count],
        }
    }

    #[test]
    fn a_probe_arrives_as_it_was_sent() {
        for count in [0, 1, 2, MAX_PATHS] {
            let bytes = encode_probe(&probe(count), true, &KEY);
            assert!(is_probe(&bytes));
            assert_eq!(decode_probe(&bytes, true, &KEY), Ok(probe(count)));
        }
    }

    #[test]
    fn what_is_not_of_the_session_is_refused() {
        let bytes = encode_probe(&probe(2), true, &KEY);
        assert_eq!(
            decode_probe(&bytes, false, &KEY),
            Err(WireError::Proof),
            "its own"
        );
        let other = [8; PROBE_KEY];
        assert_eq!(decode_probe(&bytes, true, &other), Err(WireError::Proof));
        for n in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[n] ^= 1;
            assert_eq!(decode_probe(&changed, true, &KEY), Err(WireError::Proof));
            assert!(decode_probe(&bytes[..n], true, &KEY).is_err());
        }
    }

    #[test]
    fn even_with_the_key_nonsense_is_refused() {
        for body in [
            vec![],
            vec![2, 0, 1, 0],
            vec![1, 0, 1, 200],
            vec![1, 0, 7, 0],
            encode_probe(&probe(1), true, &KEY),
        ] {
            let proof = blake3::keyed_hash(&KEY, &body);
            let bytes = [body.as_slice(), proof.as_bytes()].concat();
            assert!(decode_probe(&bytes, true, &KEY).is_err(), "{body:?}");
        }
    }

    #[test]
    fn packets_of_quic_are_told_apart() {
        for first in [0x40, 0x7f, 0xc0, 0xff] {
            assert!(!is_probe(&[first, 0]));
        }
        assert!(!is_probe(&[]));
    }
}
