//! ICMP echo messages as bytes.

/// Type, code, checksum, id, sequence.
const HEADER: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// Type numbers of a request and of its answer.
    fn kinds(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }
}

/// One request and what its answer must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) id: u16,
    pub(super) sequence: u16,
    /// The content, by which an answer is recognised.
    pub(super) token: u64,
}

impl Echo {
    pub(super) fn request(&self, family: Family) -> Vec<u8> {
        let mut bytes = vec![family.kinds().0, 0, 0, 0];
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.token.to_be_bytes());
        // That of ICMPv6 covers the addresses too; the kernel fills it in.
        if family == Family::V4 {
            let sum = checksum(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// Whether a message answers a request of this look, an earlier one of them too.
    /// `with_id`: the id is ours, and not one the kernel has put in its place.
    pub(super) fn is_answer(&self, family: Family, with_id: bool, message: &[u8]) -> bool {
        let Some((header, content)) = message.split_first_chunk::<HEADER>() else {
            return false;
        };
        let id = u16::from_be_bytes([header[4], header[5]]);
        let sequence = u16::from_be_bytes([header[6], header[7]]);
        header[0] == family.kinds().1
            && header[1] == 0
            && (!with_id || id == self.id)
            && sequence <= self.sequence
            && content == self.token.to_be_bytes()
            && (family == Family::V6 || checksum(message) == 0)
    }
}

/// What follows the IPv4 header of a packet.
pub(super) fn after_header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let length = usize::from(first & 15) * 4;
    if first >> 4 != 4 || length < 20 {
        return None;
    }
    packet.get(length..)
}

/// The Internet checksum; 0 over a message that holds the right one.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ECHO: Echo = Echo {
        id: 0x1234,
        sequence: 1,
        token: 0x0102_0304_0506_0708,
    };

    fn answer(family: Family) -> Vec<u8> {
        let mut bytes = ECHO.request(family);
        bytes[0] = family.kinds().1;
        if family == Family::V4 {
            bytes[2..4].fill(0);
            let sum = checksum(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The example of RFC 1071, section 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00);
    }

    #[test]
    fn a_request_is_laid_out_as_the_standard_says() {
        let bytes = ECHO.request(Family::V4);
        assert_eq!(bytes[..2], [8, 0]);
        assert_eq!(bytes[4..], [0x12, 0x34, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(checksum(&bytes), 0);
        assert_eq!(ECHO.request(Family::V6)[..4], [128, 0, 0, 0]);
    }

    #[test]
    fn only_the_answer_is_one() {
        for family in [Family::V4, Family::V6] {
            let good = answer(family);
            assert!(ECHO.is_answer(family, true, &good));
            assert!(
                !ECHO.is_answer(family, true, &ECHO.request(family)),
                "a request"
            );
            let later = Echo {
                sequence: 2,
                ..ECHO
            };
            assert!(later.is_answer(family, true, &good), "late, and still one");
            let earlier = Echo {
                sequence: 0,
                ..ECHO
            };
            assert!(!earlier.is_answer(family, true, &good));
            let other = Echo { token: 9, ..ECHO };
            assert!(!other.is_answer(family, true, &good));
            let id = Echo { id: 7, ..ECHO };
            assert!(!id.is_answer(family, true, &good));
            assert!(id.is_answer(family, false, &good));
            for end in 0..good.len() {
                assert!(!ECHO.is_answer(family, true, &good[..end]));
            }
        }
        let mut damaged = answer(Family::V4);
        damaged[2] ^= 1;
        assert!(!ECHO.is_answer(Family::V4, true, &damaged));
    }

    #[test]
    fn headers_with_options_are_skipped() {
        let mut packet = vec![0x46; 24];
        packet.extend([1, 2]);
        assert_eq!(after_header(&packet), Some(&[1, 2][..]));
        assert_eq!(after_header(&[]), None);
        assert_eq!(after_header(&[0x45; 19]), None);
        assert_eq!(after_header(&[0x44; 40]), None);
        assert_eq!(after_header(&[0x65; 40]), None);
    }

    proptest! {
        #[test]
        fn no_packet_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = after_header(&bytes);
            prop_assert!(!ECHO.is_answer(Family::V6, false, &bytes) || bytes.len() == 16);
            let _ = ECHO.is_answer(Family::V4, true, &bytes);
        }
    }
}
