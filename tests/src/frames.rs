//! Random messages of the replication stream, for the fuzz of its frames.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample;
use tandem_repl::control::State;
use tandem_repl::ids::{FileId, Id128, OpSeq, Uid};
use tandem_repl::limits::{MAX_DATA, MAX_NAME, MAX_TARGET, MAX_XATTR};
use tandem_repl::logic::record::{Epoch, Record};
use tandem_repl::op::{
    AttrSet, Checked, Cred, Durability, Kind, Op, Privileges, TimeSet, Timespec,
};
use tandem_repl::wire::{Control, Hello, Meet, Reject};

/// All that operations are made of; each case makes one of every kind from it.
#[derive(Clone, Debug)]
pub struct Parts {
    ids: [u64; 2],
    names: [Vec<u8>; 2],
    data: Vec<u8>,
    words: [u32; 4],
    longs: [u64; 2],
    cred: (u32, u32, Privileges),
    attributes: [Option<u32>; 3],
    size: Option<u64>,
    times: [TimeSet; 2],
    flag: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|b| if b == b'/' || b == 0 { b'x' } else { b });
    let bytes = vec(byte, 1..=MAX_NAME);
    bytes.prop_filter("dots lead elsewhere", |name| name != b"." && name != b"..")
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![0..=i64::MAX as u64, Just(0), Just(i64::MAX as u64)]
}

fn time() -> impl Strategy<Value = TimeSet> {
    let exact = (any::<i64>(), 0..1_000_000_000u32);
    let exact = exact.prop_map(|(sec, nsec)| TimeSet::To(Timespec { sec, nsec }));
    prop_oneof![Just(TimeSet::Keep), Just(TimeSet::Now), exact]
}

/// What the operations of one case are made of.
pub fn parts() -> impl Strategy<Value = Parts> {
    let data = prop_oneof![
        40 => vec(any::<u8>(), 0..600),
        1 => Just(vec![0xa5; MAX_DATA]),
        1 => Just(vec![0; MAX_XATTR]),
    ];
    let privileges = vec![
        Privileges::AsRoot,
        Privileges::Drop,
        Privileges::DropAsMember,
        Privileges::Keep,
    ];
    let fixed = (
        [1..=u64::MAX, 1..=u64::MAX],
        any::<[u32; 4]>(),
        (any::<u32>(), any::<u32>(), sample::select(privileges)),
        any::<bool>(),
    );
    let set = (
        any::<[Option<u32>; 3]>(),
        option::of(length()),
        [time(), time()],
    );
    let bytes = ([name(), name()], data, [length(), length()]);
    (fixed, set, bytes).prop_map(|(fixed, set, bytes)| Parts {
        ids: fixed.0,
        names: bytes.0,
        data: bytes.1,
        words: fixed.1,
        longs: bytes.2,
        cred: fixed.2,
        attributes: set.0,
        size: set.1,
        times: set.2,
        flag: fixed.3,
    })
}

impl Parts {
    fn questions(&self, id: FileId, offset: u64) -> [Op<'static>; 2] {
        let what = [
            Checked::Data { offset, len: 4096 },
            Checked::Attrs { times: self.flag },
            Checked::Names,
        ][self.words[3] as usize % 3];
        let hash = [self.words[3] as u8; 16];
        let len = 4096;
        [Op::Check { id, what, hash }, Op::Fetch { id, offset, len }]
    }

    /// One operation of every kind, and every kind of file.
    pub fn ops(&self) -> Vec<Op<'_>> {
        let [id, parent] = self.ids.map(FileId);
        let [name, new_name] = [&self.names[0][..], &self.names[1][..]];
        let [mode, umask, flags, rdev] = self.words;
        let [offset, len] = self.longs;
        let (uid, gid, privileges) = self.cred;
        let cred = Cred {
            uid,
            gid,
            privileges,
        };
        let short = |limit: usize| &self.data[..self.data.len().min(limit)];
        let mut target = short(MAX_TARGET).to_vec();
        target.retain(|byte| *byte != 0);
        // A target that lives as long as the parts: the name will do.
        let target = if target.len() == short(MAX_TARGET).len() && !target.is_empty() {
            short(MAX_TARGET)
        } else {
            name
        };
        let durability = [Durability::Memory, Durability::Data, Durability::File];
        let durability = durability[self.words[3] as usize % 3];
        let [new_mode, new_uid, new_gid] = self.attributes;
        let [atime, mtime] = self.times;
        let size = self.size;
        let set = AttrSet {
            mode: new_mode,
            uid: new_uid,
            gid: new_gid,
            size,
            atime,
            mtime,
        };
        let format = umask;
        let node = Kind::Node { format, rdev };
        let kinds = [Kind::File, Kind::Directory, Kind::Symlink(target), node];
        let mut ops = vec![
            Op::Bind { id, parent, name },
            Op::Unbind { id },
            Op::Link { id, parent, name },
            Op::Unlink { parent, name },
            Op::Rmdir { parent, name },
            Op::Rename {
                parent,
                name,
                new_parent: id,
                new_name,
                flags,
                cred,
            },
            Op::Write {
                id,
                offset,
                data: &self.data,
                durability,
                cred,
            },
            Op::Fallocate {
                id,
                mode: mode.cast_signed(),
                offset,
                len,
                cred,
            },
            Op::SetAttr { id, set, cred },
            Op::SetXattr {
                id,
                name,
                value: short(MAX_XATTR),
                flags: flags.cast_signed(),
                clear_setgid: self.flag,
            },
            Op::RemoveXattr { id, name },
            Op::SetFlags { id, flags },
            Op::Fsync {
                id,
                data_only: self.flag,
            },
            Op::SyncAll,
        ];
        ops.extend(self.questions(id, offset));
        ops.extend(kinds.map(|kind| Op::Make {
            id,
            uid: Uid {
                origin: offset,
                number: len,
            },
            parent,
            name,
            kind,
            mode,
            umask,
            cred,
        }));
        ops
    }
}

fn id() -> impl Strategy<Value = Id128> {
    any::<[u8; 16]>().prop_map(Id128)
}

fn record() -> impl Strategy<Value = Record> {
    let set = vec(".{0,40}", 0..4);
    let epoch = (any::<u64>(), id(), id(), set);
    let epoch = epoch.prop_map(|(number, id, parent, set)| Epoch {
        number,
        id,
        parent,
        set,
    });
    let rest = (
        id(),
        option::of(epoch),
        [vec(id(), 0..60), vec(id(), 0..4)],
        option::of(id()),
        any::<[bool; 6]>(),
        id(),
    );
    rest.prop_map(|(volume, epoch, [ended, void], intent, flags, boot)| {
        let [clean, left, stale, lost, flush_failed, served] = flags;
        Record {
            volume,
            epoch,
            ended,
            intent,
            void,
            clean,
            left,
            stale,
            lost,
            flush_failed,
            served,
            boot,
        }
    })
}

fn state() -> impl Strategy<Value = State> {
    let all = [
        State::Stop,
        State::Wait,
        State::Alone,
        State::Prim,
        State::Second,
    ];
    sample::select(all.to_vec())
}

fn reject() -> impl Strategy<Value = Reject> {
    (".{0,20}", ".{0,300}").prop_map(|(code, reason)| Reject { code, reason })
}

/// Any control message.
pub fn control() -> impl Strategy<Value = Control> {
    let text = || ".{0,60}";
    let hello = (
        any::<[u16; 2]>(),
        [text(), text(), text()],
        any::<[u8; 32]>(),
        record(),
        state(),
    );
    let hello = hello.prop_map(|(wire, [cluster, module, node], digest, record, state)| {
        let [wire_min, wire_max] = wire;
        Hello {
            wire_min,
            wire_max,
            cluster,
            module,
            node,
            digest,
            record,
            state,
        }
    });
    let meet = (record(), any::<bool>(), state());
    let meet = meet.prop_map(|(record, serving, state)| Meet {
        record,
        serving,
        state,
    });
    let done = || prop_oneof![Just(Ok(())), ".{0,200}".prop_map(Err)];
    let number = any::<u64>;
    prop_oneof![
        hello.prop_map(|hello| Control::Hello(Box::new(hello))),
        meet.prop_map(|meet| Control::Meet(Box::new(meet))),
        (number(), "V[1-9]").prop_map(|(digest, rule)| Control::Verdict(digest, rule)),
        reject().prop_map(Control::Reject),
        (state(), record()).prop_map(|(state, record)| Control::State(state, Box::new(record))),
        number().prop_map(Control::LeaseAsk),
        number().prop_map(Control::LeaseGrant),
        number().prop_map(Control::CheckpointFlush),
        number().prop_map(Control::CheckpointDone),
        (number(), done()).prop_map(|(round, done)| Control::CheckpointFlushed(round, done)),
        (number(), done()).prop_map(|(round, done)| Control::TargetReady(round, done)),
        resync_control(),
        set_control(),
    ]
}

fn resync_control() -> impl Strategy<Value = Control> {
    let flags = any::<[bool; 2]>;
    prop_oneof![
        (any::<u64>(), flags()).prop_map(|(verdict, [everything, urgent])| Control::Join {
            verdict,
            everything,
            urgent,
        }),
        (reject(), any::<u32>()).prop_map(|(reject, after)| Control::JoinRefused(reject, after)),
        (any::<u64>(), flags()).prop_map(|(round, [everything, keep_aside])| {
            Control::ResyncBegin {
                round,
                everything,
                keep_aside,
            }
        }),
        (any::<u64>(), reject()).prop_map(|(round, reject)| Control::ResyncEnd(round, reject)),
    ]
}

fn set_control() -> impl Strategy<Value = Control> {
    let position = || any::<u64>().prop_map(OpSeq);
    let told = prop_oneof![Just(Ok(())), reject().prop_map(Err)];
    prop_oneof![
        (id(), id()).prop_map(|(parent, new)| Control::ToldStale { parent, new }),
        (id(), told).prop_map(|(id, told)| Control::Told(id, told)),
        (record(), position()).prop_map(|(record, position)| Control::Grow {
            record: Box::new(record),
            position,
        }),
        id().prop_map(Control::Grown),
        Just(Control::SwapAsk),
        reject().prop_map(Control::SwapRefused),
        (record(), position()).prop_map(|(record, position)| Control::Swap {
            record: Box::new(record),
            position,
        }),
        id().prop_map(Control::Swapped),
        record().prop_map(|record| Control::Leave(Box::new(record))),
        Just(Control::LeaveHeard),
    ]
}

/// Nothing that was decoded can lead out of the directory or be too long for it.
pub fn names_are_safe(op: &Op<'_>) {
    let name = |name: &[u8]| {
        let bad = name.is_empty() || name.len() > MAX_NAME || name == b"." || name == b"..";
        assert!(
            !bad && !name.contains(&b'/') && !name.contains(&0),
            "{op:?}"
        );
    };
    match *op {
        Op::Bind { name: one, .. }
        | Op::Link { name: one, .. }
        | Op::Unlink { name: one, .. }
        | Op::Rmdir { name: one, .. } => name(one),
        Op::Make {
            name: one, kind, ..
        } => {
            name(one);
            if let Kind::Symlink(target) = kind {
                assert!(target.len() <= MAX_TARGET && !target.contains(&0), "{op:?}");
            }
        }
        Op::Rename {
            name: one,
            new_name,
            ..
        } => {
            name(one);
            name(new_name);
        }
        Op::Write { data, .. } => assert!(data.len() <= MAX_DATA),
        Op::SetXattr {
            name: one, value, ..
        } => {
            let bad = one.is_empty() || one.len() > MAX_NAME || one.contains(&0);
            assert!(!bad && value.len() <= MAX_XATTR, "{op:?}");
        }
        _ => {}
    }
}
