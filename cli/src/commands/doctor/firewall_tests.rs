//! Tests of the look at packet filters: against messages as they should be, as they should not, and
//! against the kernel.
#![allow(clippy::unwrap_used)]

use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(hook: u32, policy: u32) -> Vec<u8> {
    let hook = attribute(HOOK_NUMBER, &hook.to_be_bytes());
    let mut bytes = vec![1, 0, 0, 0];
    bytes.extend(attribute(CHAIN_TABLE, b"filter\0"));
    bytes.extend(attribute(CHAIN_NAME, b"input\0"));
    bytes.extend(attribute(CHAIN_HOOK | 0x8000, &hook));
    bytes.extend(attribute(CHAIN_POLICY, &policy.to_be_bytes()));
    bytes
}

#[test]
fn a_chain_of_what_comes_in_is_read() {
    let expected = |drops| Chain {
        name: "filter input".into(),
        drops,
    };
    assert_eq!(chain(&message(LOCAL_IN, DROP)), Some(expected(true)));
    assert_eq!(chain(&message(LOCAL_IN, 1)), Some(expected(false)));
    assert_eq!(chain(&message(3, DROP)), None);
}

#[test]
fn no_answer_is_too_strange() {
    let whole = message(LOCAL_IN, DROP);
    for end in 0..whole.len() {
        let _ = chain(&whole[..end]);
        let mut answer = 9999_u32.to_ne_bytes().to_vec();
        answer.extend(&whole[..end]);
        let _ = read_answer(&answer, &mut Vec::new());
    }
    for byte in 0..=255 {
        let _ = read_answer(&[byte; 64], &mut Vec::new());
    }
}

/// A message to nf_tables.
fn to_kernel(kind: u16, flags: u16, family: u8, res_id: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE + 4 + attributes.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | 1).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(res_id.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// Makes a table `test` with a chain `input` of this policy, and one of what goes out.
fn make_chains(policy: u32) {
    const INET: u8 = 1;
    const CREATE: u16 = 0x400;
    let table = attribute(1, b"test\0");
    let chain = |name: &[u8], hook: u32| {
        let mut inside = attribute(HOOK_NUMBER, &hook.to_be_bytes());
        inside.extend(attribute(2, &0_u32.to_be_bytes()));
        let mut bytes = attribute(CHAIN_TABLE, b"test\0");
        bytes.extend(attribute(CHAIN_NAME, name));
        bytes.extend(attribute(CHAIN_HOOK | 0x8000, &inside));
        bytes.extend(attribute(CHAIN_POLICY, &policy.to_be_bytes()));
        bytes.extend(attribute(7, b"filter\0"));
        bytes
    };
    let batch = [
        to_kernel(0x10, 0, 0, 10, &[]),
        to_kernel(10 << 8, CREATE, INET, 0, &table),
        to_kernel(CHAIN, CREATE, INET, 0, &chain(b"input\0", LOCAL_IN)),
        to_kernel(CHAIN, CREATE, INET, 0, &chain(b"output\0", 3)),
        to_kernel(0x11, 0, 0, 10, &[]),
    ];
    let protocol = Protocol::from(libc::NETLINK_NETFILTER);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol)).unwrap();
    socket.send(&batch.concat()).unwrap();
}

#[test]
fn the_kernel_shows_its_chains() {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("not root: skipped");
        return;
    }
    // A network namespace of this thread's own, which ends with it.
    let thread = std::thread::spawn(|| {
        // SAFETY: takes a number, and concerns this thread only.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        assert_eq!(chains().unwrap(), []);
        make_chains(DROP);
        let expected = Chain {
            name: "test input".into(),
            drops: true,
        };
        assert_eq!(chains().unwrap(), [expected]);
    });
    thread.join().unwrap();
}
