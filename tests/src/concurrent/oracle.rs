//! What must hold after several clients have worked on the same data: pure functions over bytes,
//! with tests that they see what they are for.

use std::collections::BTreeMap;

/// Length of a record's head: client, number, length of the body.
const HEAD: usize = 24;

/// A record of client `client`, its `number`-th, with a body of `len` bytes that fits the head.
pub fn record(client: u64, number: u64, len: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + len);
    for word in [client, number, len as u64] {
        record.extend(word.to_le_bytes());
    }
    record.extend((0..len).map(|at| body(client, number, at)));
    record
}

fn body(client: u64, number: u64, at: usize) -> u8 {
    (client * 31 + number * 7 + at as u64) as u8 | 1
}

/// Checks a file of appended records: every client's are all there, whole and in order.
pub fn check_records(data: &[u8], clients: u64, each: u64) -> Result<(), String> {
    let mut next = BTreeMap::new();
    let mut at = 0;
    while at < data.len() {
        let word = |index: usize| {
            let from = at + index * 8;
            let bytes = data
                .get(from..from + 8)
                .ok_or(format!("torn head at {at}"))?;
            Ok::<_, String>(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        };
        let (client, number, len) = (word(0)?, word(1)?, word(2)? as usize);
        if client >= clients || len > data.len() {
            return Err(format!("no record at {at}"));
        }
        let expected = next.entry(client).or_insert(0);
        if number != *expected {
            return Err(format!(
                "client {client}: record {number} instead of {expected} at {at}"
            ));
        }
        *expected += 1;
        let found = data
            .get(at + HEAD..at + HEAD + len)
            .ok_or(format!("torn record at {at}"))?;
        if let Some(wrong) = (0..len).find(|at| found[*at] != body(client, number, *at)) {
            return Err(format!("torn record at {at}: byte {wrong} of its body"));
        }
        at += HEAD + len;
    }
    for client in 0..clients {
        let found = next.get(&client).copied().unwrap_or(0);
        if found != each {
            return Err(format!(
                "client {client}: {found} records instead of {each}"
            ));
        }
    }
    Ok(())
}

/// Checks that every slot holds one writer's bytes only (writers fill with their own byte, which is
/// never 0), and that every slot has been written.
pub fn check_slots(data: &[u8], slot: usize, writers: u8) -> Result<(), String> {
    for (number, bytes) in data.chunks(slot).enumerate() {
        let first = bytes[0];
        if first == 0 || first > writers {
            return Err(format!("slot {number} holds {first}, which nobody wrote"));
        }
        if let Some(at) = bytes.iter().position(|byte| *byte != first) {
            let other = bytes[at];
            return Err(format!(
                "slot {number} is of writer {first} and, from {at}, of {other}"
            ));
        }
    }
    Ok(())
}

/// Checks that only the bytes of these writers are there.
pub fn check_bytes(data: &[u8], writers: u8, zeros: bool) -> Result<(), String> {
    let wrong = |byte: &u8| *byte > writers || (*byte == 0 && !zeros);
    match data.iter().position(wrong) {
        None => Ok(()),
        Some(at) => Err(format!("byte {at} is {}, which nobody wrote", data[at])),
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "an unwrap that fails is the failed test"
)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        [
            record(0, 0, 5),
            record(1, 0, 0),
            record(0, 1, 9),
            record(1, 1, 3),
        ]
        .concat()
    }

    #[test]
    fn whole_records_in_order_are_right() {
        assert_eq!(check_records(&three(), 2, 2), Ok(()));
    }

    #[test]
    fn lost_torn_and_reordered_records_are_seen() {
        let mut torn = three();
        torn[HEAD + 2] ^= 1;
        assert!(
            check_records(&torn, 2, 2)
                .unwrap_err()
                .contains("torn record at 0: byte 2")
        );
        let cut = &three()[..three().len() - 1];
        assert!(
            check_records(cut, 2, 2)
                .unwrap_err()
                .contains("torn record")
        );
        let lost = [record(0, 0, 5), record(1, 0, 0), record(1, 1, 3)].concat();
        assert!(
            check_records(&lost, 2, 2)
                .unwrap_err()
                .contains("client 0: 1 records")
        );
        let swapped = [record(0, 1, 5), record(0, 0, 5)].concat();
        assert!(
            check_records(&swapped, 1, 2)
                .unwrap_err()
                .contains("record 1 instead of 0")
        );
        let twice = [record(0, 0, 5), record(0, 0, 5)].concat();
        assert!(check_records(&twice, 1, 2).is_err());
    }

    #[test]
    fn mixed_and_unwritten_slots_are_seen() {
        assert_eq!(check_slots(&[1, 1, 2, 2], 2, 2), Ok(()));
        assert!(
            check_slots(&[1, 2, 2, 2], 2, 2)
                .unwrap_err()
                .contains("slot 0 is of writer 1")
        );
        assert!(
            check_slots(&[1, 1, 0, 0], 2, 2)
                .unwrap_err()
                .contains("slot 1 holds 0")
        );
        assert!(check_slots(&[3, 3], 2, 2).is_err());
    }

    #[test]
    fn strange_bytes_are_seen() {
        assert_eq!(check_bytes(&[1, 0, 2], 2, true), Ok(()));
        assert!(check_bytes(&[1, 0, 2], 2, false).is_err());
        assert!(check_bytes(&[1, 3], 2, true).is_err());
    }
}
