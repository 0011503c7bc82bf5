//! Frames as other implementations write and read them, and nothing from the wire panics.

use super::*;

const US: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const THEM: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn an_arp_probe_names_no_sender() {
    let frame = probe(US, v4("10.1.2.3").into());
    let mut expected = vec![0xff; 6];
    expected.extend([2, 0, 0, 0, 0, 0xa, 8, 6]);
    expected.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    expected.extend([2, 0, 0, 0, 0, 0xa, 0, 0, 0, 0]);
    expected.extend([0, 0, 0, 0, 0, 0, 10, 1, 2, 3]);
    assert_eq!(frame, expected);
    assert_eq!(claim(&frame), None, "a probe claims nothing");
}

#[test]
fn gratuitous_arp_is_a_request_and_a_reply_of_the_same_address() {
    let address = v4("10.1.2.3");
    let frames = announcements(US, address.into());
    assert_eq!(frames.len(), 2);
    for (frame, operation) in frames.iter().zip([1, 2]) {
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[20..22], [0, operation]);
        assert_eq!(frame[28..32], [10, 1, 2, 3], "sender");
        assert_eq!(frame[38..42], [10, 1, 2, 3], "target");
        let said = Claim {
            address: address.into(),
            mac: US,
        };
        assert_eq!(claim(frame), Some(said));
    }
    assert_eq!(frames[1][32..38], US.0, "else Linux waits a second with it");
}

#[test]
fn a_solicitation_for_a_probe_has_no_source_and_the_targets_group() {
    let frame = probe(US, v6("2001:db8::1:2345:6789").into());
    assert_eq!(frame.len(), 14 + 40 + 24);
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x45, 0x67, 0x89]);
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!(frame[18..22], [0, 24, 58, 255]);
    assert_eq!(frame[22..38], [0; 16]);
    let group = v6("ff02::1:ff45:6789");
    assert_eq!(frame[38..54], group.octets());
    assert_eq!(frame[54], 135);
    assert_eq!(checksum(Ipv6Addr::UNSPECIFIED, group, &frame[54..]), 0);
    assert_eq!(claim(&frame), None, "a probe claims nothing");
}

#[test]
fn an_unsolicited_advertisement_goes_to_all_and_overrides() {
    let address = v6("2001:db8::5");
    let frames = announcements(US, address.into());
    let [frame] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[38..54], v6("ff02::1").octets());
    assert_eq!(frame[54], 136);
    assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
    assert_eq!(frame[78..86], [2, 1, 2, 0, 0, 0, 0, 0xa]);
    assert_eq!(checksum(address, v6("ff02::1"), &frame[54..]), 0);
    let said = Claim {
        address: address.into(),
        mac: US,
    };
    assert_eq!(claim(frame), Some(said));
}

#[test]
fn the_checksum_is_that_computed_by_hand() {
    let message = [
        0x88, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0x01,
    ];
    // fe80+0001 (source) + ff02+0001 (target) + 0018 (length) + 003a (kind)
    // + 8800 + 2000 + fe80 + 0001 = 0x3a457 → 0xa45a → inverted.
    assert_eq!(checksum(v6("fe80::1"), ALL_NODES, &message), !0xa45a);
}

#[test]
fn an_advertisement_without_the_option_is_its_senders() {
    let address = v6("2001:db8::5");
    let mut frame = announcements(THEM, address.into()).remove(0);
    frame.truncate(14 + 40 + 24);
    let said = Claim {
        address: address.into(),
        mac: THEM,
    };
    assert_eq!(claim(&frame), Some(said));
}

#[test]
fn who_asks_from_an_address_claims_it() {
    let mut frame = probe(THEM, v6("2001:db8::9").into());
    frame[22..38].copy_from_slice(&v6("2001:db8::5").octets());
    let said = Claim {
        address: v6("2001:db8::5").into(),
        mac: THEM,
    };
    assert_eq!(claim(&frame), Some(said));
    // From beyond a router: not on this link.
    frame[21] = 254;
    assert_eq!(claim(&frame), None);
}

#[test]
fn other_frames_claim_nothing() {
    let mut arp = announcements(THEM, v4("10.0.0.1").into()).remove(0);
    arp[21] = 3;
    assert_eq!(claim(&arp), None, "another operation");
    arp[21] = 1;
    arp[18] = 8;
    assert_eq!(claim(&arp), None, "another length of hardware addresses");
    let mut ip = announcements(THEM, v6("2001:db8::5").into()).remove(0);
    ip[54] = 128;
    assert_eq!(claim(&ip), None, "an echo request");
    ip[54] = 136;
    ip[20] = 17;
    assert_eq!(claim(&ip), None, "not ICMP");
}

#[test]
fn no_frame_from_the_wire_panics() {
    let mut frames = announcements(THEM, v4("10.0.0.1").into());
    frames.extend(announcements(THEM, v6("2001:db8::5").into()));
    frames.push(probe(THEM, v6("2001:db8::5").into()));
    for frame in frames {
        for length in 0..frame.len() {
            let _ = claim(&frame[..length]);
        }
        for at in 0..frame.len() {
            for value in 0..=255 {
                let mut broken = frame.clone();
                broken[at] = value;
                broken.extend([0; 7]);
                let _ = claim(&broken);
            }
        }
    }
}
