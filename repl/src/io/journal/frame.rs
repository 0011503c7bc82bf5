//! Frames of the journal: each begins at a sector and is whole under a checksum.
//!
//! ```text
//!  0       4        8            16      24      28     32
//!  ├ magic ┤ length ┤ generation ┤ index ┤ crc32 ┤ zero ┤ body
//!  │ u32   │ u32    │ u64        │ u64   │ u32   │      │
//! ```

/// Frames begin at multiples of this, bytes.
pub(super) const ALIGN: usize = 512;
pub(super) const HEAD: usize = 32;
const MAGIC: [u8; 4] = *b"TDMJ";

/// Which frame of which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) generation: u64,
    pub(super) index: u64,
}

/// A frame, filled up with zeros.
pub(super) fn encode(place: Place, body: &[u8]) -> Vec<u8> {
    let len = (HEAD + body.len()).next_multiple_of(ALIGN);
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&place.generation.to_le_bytes());
    frame.extend_from_slice(&place.index.to_le_bytes());
    frame.extend_from_slice(&sum(&frame, body).to_le_bytes());
    frame.resize(HEAD, 0);
    frame.extend_from_slice(body);
    frame.resize(len, 0);
    frame
}

fn sum(head: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(body);
    crc.finalize()
}

/// The frame at the beginning of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Option<(Place, &[u8], usize)> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let half = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let word = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    if head[..4] != MAGIC || half(28)? != 0 {
        return None;
    }
    let body = rest.get(..half(4)? as usize)?;
    if half(24)? != sum(&head[..24], body) {
        return None;
    }
    let place = Place {
        generation: word(8)?,
        index: word(16)?,
    };
    Some((place, body, (HEAD + body.len()).next_multiple_of(ALIGN)))
}

/// Whole frames one after the other from the beginning.
pub(super) fn frames(bytes: &[u8]) -> impl Iterator<Item = (Place, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (place, body, len) = parse(rest)?;
        rest = rest.get(len..).unwrap_or(&[]);
        Some((place, body))
    })
}

/// Whole frames wherever they begin, but not inside others.
pub(super) fn find(bytes: &[u8]) -> impl Iterator<Item = Place> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some((place, _, len)) = parse(rest) {
                at += len;
                return Some(place);
            }
            at += ALIGN;
        }
        None
    })
}

/// The generation that the head of the first frame says it has, whole or not.
pub(super) fn claimed(bytes: &[u8]) -> Option<u64> {
    let head = bytes.first_chunk::<HEAD>()?;
    let generation = head.get(8..16)?.try_into().ok()?;
    (head[..4] == MAGIC).then(|| u64::from_le_bytes(generation))
}
