//! The frames of the replication stream under fuzz: every message comes back as it went, and no
//! bytes whatever make the decoder panic, read past its input, or take memory they do not earn.
//!
//! `TANDEM_FUZZ_CASES` makes a run longer, `TANDEM_SEED` repeats one.

#![allow(
    clippy::unwrap_used,
    reason = "a failed set-up ends the test, with its line"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;
use tandem_repl::ids::{DirId, FileId, OpSeq, Uid};
use tandem_repl::limits::{MAX_BODY, MAX_CONTROL, MAX_NAME};
use tandem_repl::op::{Cred, Kind, Op};
use tandem_repl::wire::{FrameHeader, HEADER, Message, WireError};
use tandem_repl::wire::{encode_ack, encode_control, encode_op};
use tandem_tests::frames::{control, names_are_safe, parts};
use tandem_tests::rng::{seed, setting};

/// Cases of each property unless the environment says more.
const CASES: u64 = 10_000;
/// Most memory the decoding of one frame may take: serde reserves at most 1 MiB for a list whose
/// length it was told, and a control message has few lists at once.
const MEMORY: usize = 4 << 20;
/// Kind numbers of control message, acknowledgement and operations.
const KINDS: [u8; 22] = [
    1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
];
/// Files have no id 0.
const SOME: FileId = FileId(7);
const DIR: DirId = DirId(3);
const SEQ: OpSeq = OpSeq(0xfedc_ba98_7654_3210);

/// Counts what this thread holds, to find what a few bytes from the peer can make it take.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more, and is none that decodes.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it came; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the rules of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` took at most, and its result.
fn most_memory<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    ((MOST.get() - before).cast_unsigned(), result)
}

/// Runs a property with the seed and the number of cases of this run.
fn check<S: Strategy>(name: &str, strategy: S, property: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let config = Config {
        cases: u32::try_from(setting("TANDEM_FUZZ_CASES", CASES)).unwrap_or(u32::MAX),
        rng_seed: RngSeed::Fixed(seed(name)),
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&strategy, |value| {
        property(value);
        Ok(())
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("{name}: {why}\nwith {value:?}"),
        Err(error) => panic!("{name}: {error}"),
    }
}

fn split(frame: &[u8]) -> (&[u8; HEADER], &[u8]) {
    frame.split_first_chunk().unwrap()
}

/// Decodes bytes as the receiver does: header, then exactly as much body as it says, if there.
fn receive(bytes: &[u8]) -> Result<(), WireError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(());
    };
    let header = FrameHeader::parse(head)?;
    assert!(header.body_len <= MAX_BODY, "a body beyond the limit");
    let Some(body) = rest.get(..header.body_len) else {
        return Ok(());
    };
    let (most, decoded) = most_memory(|| header.decode(body));
    assert!(most <= MEMORY, "{most} bytes of memory for one frame");
    if let Message::Op { op, .. } = decoded?.message {
        names_are_safe(&op);
    }
    Ok(())
}

fn framed(op: &Op<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_op(&mut frame, DIR, SEQ, op);
    frame
}

/// A frame of this kind whose header says `len`, whatever follows.
fn with_header(kind: u8, len: usize, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame[..4].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    frame[4] = kind;
    frame.extend_from_slice(body);
    frame
}

fn flipped(mut frame: Vec<u8>, flips: &[prop::sample::Index]) -> Vec<u8> {
    for flip in flips {
        let bit = flip.index(frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
    }
    frame
}

#[test]
fn every_operation_comes_back_as_it_went() {
    check("operations", parts(), |parts| {
        for op in parts.ops() {
            let frame = framed(&op);
            let (head, body) = split(&frame);
            let header = FrameHeader::parse(head).unwrap();
            assert_eq!(header.body_len, body.len());
            let frame = header.decode(body).unwrap();
            let message = Message::Op { dir: DIR, op };
            assert_eq!((frame.seq, frame.message), (SEQ, message));
        }
    });
}

#[test]
fn every_control_message_comes_back_as_it_went() {
    check("control", control(), |control| {
        let mut frame = Vec::new();
        encode_control(&mut frame, &control);
        let (head, body) = split(&frame);
        let decoded = FrameHeader::parse(head).unwrap().decode(body).unwrap();
        assert_eq!(decoded.message, Message::Control(Box::new(control)));
    });
}

#[test]
fn every_acknowledgement_comes_back_as_it_went() {
    check("acknowledgements", any::<(u64, i32)>(), |(seq, errno)| {
        let mut frame = Vec::new();
        encode_ack(&mut frame, OpSeq(seq), errno);
        let (head, body) = split(&frame);
        let decoded = FrameHeader::parse(head).unwrap().decode(body).unwrap();
        assert_eq!(
            (decoded.seq, decoded.message),
            (OpSeq(seq), Message::Ack { errno })
        );
    });
}

#[test]
fn random_bytes_are_refused_or_safe() {
    // As the peer's bytes without a plan, and as the body of a frame of every known kind.
    check("random bytes", vec(any::<u8>(), 0..700), |bytes| {
        receive(&bytes).ok();
        for kind in KINDS {
            receive(&with_header(kind, bytes.len(), &bytes)).ok();
        }
    });
}

#[test]
fn a_flipped_bit_does_no_harm() {
    let flips = vec(any::<prop::sample::Index>(), 1..8);
    check("flipped operations", (parts(), flips), |(parts, flips)| {
        for op in parts.ops() {
            receive(&flipped(framed(&op), &flips)).ok();
        }
    });
    let flips = vec(any::<prop::sample::Index>(), 1..8);
    check("flipped control", (control(), flips), |(control, flips)| {
        let mut frame = Vec::new();
        encode_control(&mut frame, &control);
        receive(&flipped(frame, &flips)).ok();
    });
}

#[test]
fn a_cut_or_stretched_body_is_refused() {
    let cut = (parts(), any::<prop::sample::Index>());
    check("cut operations", cut, |(parts, cut)| {
        for op in parts.ops() {
            let frame = framed(&op);
            let (head, body) = split(&frame);
            let header = FrameHeader::parse(head).unwrap();
            if !body.is_empty() {
                let part = &body[..cut.index(body.len())];
                assert!(header.decode(part).is_err(), "{op:?} from {part:?}");
            }
            let longer = [body, b"x"].concat();
            assert_eq!(
                header.decode(&longer),
                Err(WireError::Trailing(1)),
                "{op:?}"
            );
        }
    });
    let cut = (control(), any::<prop::sample::Index>());
    check("cut control", cut, |(control, cut)| {
        let mut frame = Vec::new();
        encode_control(&mut frame, &control);
        let (head, body) = split(&frame);
        let header = FrameHeader::parse(head).unwrap();
        assert!(header.decode(&body[..cut.index(body.len())]).is_err());
        assert!(header.decode(&[body, b"x"].concat()).is_err());
    });
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_body_is_read() {
    let kinds = prop_oneof![any::<u8>(), proptest::sample::select(KINDS.to_vec())];
    check("lengths", (kinds, any::<u32>()), |(kind, len)| {
        let len = len as usize;
        let limit = if kind == 1 { MAX_CONTROL } else { MAX_BODY };
        let frame = with_header(kind, len, b"");
        let (most, parsed) = most_memory(|| FrameHeader::parse(split(&frame).0));
        assert_eq!(most, 0, "a header takes no memory");
        let refused = matches!(parsed, Err(WireError::TooLong { .. }));
        assert_eq!(refused, len > limit, "{parsed:?}");
    });
}

#[test]
fn lengths_inside_a_body_take_no_memory() {
    // Any four bytes of a frame become a huge number: the length of a list, a text or a name.
    let huge = proptest::sample::select(vec![u32::MAX, 1 << 31, 1 << 24, 1 << 17, 1 << 16]);
    let place = (any::<prop::sample::Index>(), huge);
    check(
        "inner lengths",
        (parts(), control(), place),
        |(parts, control, (at, huge))| {
            let mut frames: Vec<_> = parts.ops().iter().map(framed).collect();
            let mut frame = Vec::new();
            encode_control(&mut frame, &control);
            frames.push(frame);
            for mut frame in frames.into_iter().filter(|frame| frame.len() >= HEADER + 4) {
                let at = HEADER + at.index(frame.len() - HEADER - 3);
                frame[at..at + 4].copy_from_slice(&huge.to_le_bytes());
                receive(&frame).ok();
                // The same number as postcard writes it.
                frame[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
                receive(&frame).ok();
            }
        },
    );
}

#[test]
fn unknown_kinds_are_refused() {
    for kind in (0..=u8::MAX).filter(|kind| !KINDS.contains(kind)) {
        let refused = receive(&with_header(kind, 8, &[0; 8]));
        assert_eq!(refused, Err(WireError::UnknownKind(kind)));
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let long = [b'x'; MAX_NAME + 1];
    let bad: [&[u8]; 9] = [
        b"", b".", b"..", b"/", b"a/b", b"../a", b"a\0", b"\0", &long,
    ];
    let cred = Cred::default();
    let good = b"good";
    for name in bad {
        let ops = [
            Op::Bind {
                id: SOME,
                parent: SOME,
                name,
            },
            Op::Link {
                id: SOME,
                parent: SOME,
                name,
            },
            Op::Unlink { parent: SOME, name },
            Op::Rmdir { parent: SOME, name },
            Op::Make {
                id: SOME,
                uid: Uid::NONE,
                parent: SOME,
                name,
                kind: Kind::File,
                mode: 0,
                umask: 0,
                cred,
            },
            rename(name, good),
            rename(good, name),
        ];
        for op in ops {
            assert!(receive(&framed(&op)).is_err(), "{op:?}");
        }
    }
    assert_eq!(
        receive(&framed(&rename(good, good))),
        Ok(()),
        "the frame itself is right"
    );
}

fn rename<'a>(name: &'a [u8], new_name: &'a [u8]) -> Op<'a> {
    let cred = Cred::default();
    Op::Rename {
        parent: SOME,
        name,
        new_parent: SOME,
        new_name,
        flags: 0,
        cred,
    }
}

#[test]
fn the_file_number_zero_and_offsets_beyond_files_are_refused() {
    let none = FileId(0);
    for op in [
        Op::Unbind { id: none },
        Op::Unlink {
            parent: none,
            name: b"a",
        },
    ] {
        assert!(receive(&framed(&op)).is_err(), "{op:?}");
    }
    let cred = Cred::default();
    for (offset, len) in [(1 << 63, 1), (1, 1 << 63), (u64::MAX, u64::MAX)] {
        let op = Op::Fallocate {
            id: SOME,
            mode: 0,
            offset,
            len,
            cred,
        };
        assert!(receive(&framed(&op)).is_err(), "{op:?}");
    }
}

#[test]
fn memory_is_counted() {
    let (most, held) = most_memory(|| {
        drop(vec![1u8; 70_000]);
        vec![1u8; 5000]
    });
    assert!((70_000..80_000).contains(&most), "{most}");
    assert_eq!(held.len(), 5000);
}
