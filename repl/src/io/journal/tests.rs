//! Every byte cut and flipped, and what is read then.

use super::*;
use crate::ids::{DirId, Key, Uid};
use crate::logic::dirty::Births;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tandem-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn record(n: u64) -> Record {
    Record::File {
        dir: DirId(0),
        key: Key::new(&n.to_le_bytes()).unwrap(),
        uid: Uid::NONE,
        place: Some((Key::new(b"root").unwrap(), b"name".as_slice().into())),
        ranges: vec![(n << 16, 1 << 16)],
    }
}

fn open(dir: &Path) -> (Journal, Found) {
    Journal::open(dir, Id128([1; 16]), true).unwrap()
}

/// What would be found, the files staying as they are.
fn found(dir: &Path) -> Found {
    judge([0, 1].map(|n| read(&path_of(dir, n))), true)
}

fn is_damage(found: &Found) -> bool {
    found.damage.is_some() && found.records == [Record::Everything]
}

#[test]
fn what_was_added_is_found_again() {
    let dir = scratch("journal-plain");
    let (mut journal, fresh) = Journal::open(&dir, Id128([1; 16]), false).unwrap();
    assert!(fresh.records.is_empty() && fresh.damage.is_none());
    let births = Record::Births(Births { origin: 2, from: 5 });
    journal.append(&[record(1), births.clone()]).unwrap();
    journal.append(&[record(2)]).unwrap();
    let again = found(&dir);
    assert_eq!(again.records, [record(1), births, record(2)]);
    assert_eq!((again.clean, again.boot), (false, Id128([1; 16])));
    journal.rewrite(&[record(3)], true).unwrap();
    let clean = found(&dir);
    assert_eq!((clean.records, clean.clean), (vec![record(3)], true));
    drop(journal);
    // An end in order is over as soon as it is opened again.
    let (mut journal, _) = open(&dir);
    assert!(!found(&dir).clean);
    journal.append(&[record(4)]).unwrap();
    assert_eq!(found(&dir).records, [record(3), record(4)]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_torn_tail_is_cut_and_damage_before_it_marks_everything() {
    let dir = scratch("journal-tail");
    let (mut journal, _) = Journal::open(&dir, Id128([1; 16]), false).unwrap();
    journal.rewrite(&[record(0)], false).unwrap();
    journal.append(&[record(1)]).unwrap();
    let path = journal.path();
    let before = std::fs::read(&path).unwrap();
    let start = journal.at as usize;
    journal.append(&[record(2), record(3)]).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let end = start + HEAD + 200;
    assert_eq!(found(&dir).records.len(), 4);
    for cut in start..end {
        let mut torn = whole.clone();
        torn[cut..].copy_from_slice(&before[cut..]);
        if torn == whole {
            continue;
        }
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(found(&dir).records, [record(0), record(1)], "cut at {cut}");
    }
    for at in 0..end {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        let found = found(&dir);
        let padding = parse(&flipped).records() == parse(&whole).records();
        match at {
            _ if padding => assert_eq!(found.records.len(), 4, "at {at}"),
            at if at < start => assert!(is_damage(&found), "at {at}: {found:?}"),
            _ => assert_eq!(found.records, [record(0), record(1)], "at {at}"),
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

impl State {
    fn records(&self) -> Option<&[Record]> {
        match self {
            Self::Whole(whole) if !whole.damaged => Some(&whole.records),
            _ => None,
        }
    }
}

#[test]
fn a_file_torn_at_its_beginning_leaves_the_other() {
    let dir = scratch("journal-begin");
    let (mut journal, _) = Journal::open(&dir, Id128([1; 16]), false).unwrap();
    journal.append(&[record(1)]).unwrap();
    // What is left of an earlier use must not be taken for a part of a later one.
    for n in 0..20 {
        journal.append(&[record(n)]).unwrap();
    }
    journal.rewrite(&[record(7)], false).unwrap();
    journal.append(&[record(8)]).unwrap();
    let next = path_of(&dir, journal.generation + 1);
    let before = std::fs::read(&next).unwrap();
    let many: Vec<_> = (100..110).map(record).collect();
    journal.rewrite(&many, false).unwrap();
    let whole = std::fs::read(&next).unwrap();
    for cut in 0..journal.at as usize {
        let mut torn = whole.clone();
        torn[cut..].copy_from_slice(&before[cut..]);
        if torn == whole {
            continue;
        }
        std::fs::write(&next, &torn).unwrap();
        let found = found(&dir);
        // A torn sector, which no disk makes, may also be taken for damage.
        let older = found.records == [record(7), record(8)];
        assert!(
            older || cut < ALIGN && is_damage(&found),
            "{cut}: {found:?}"
        );
    }
    // The first frame of the newest file is gone, but more was added to it.
    std::fs::write(&next, &whole).unwrap();
    journal.append(&[record(9)]).unwrap();
    let mut lost = std::fs::read(&next).unwrap();
    lost[HEAD] ^= 1;
    std::fs::write(&next, &lost).unwrap();
    assert!(is_damage(&found(&dir)));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_missing_or_shortened_file_marks_everything() {
    let dir = scratch("journal-missing");
    assert!(is_damage(&open(&dir).1), "none where data was held");
    assert_eq!(found(&dir).records, [Record::Everything], "and it stays so");
    assert_eq!(open(&dir).1.records, [Record::Everything]);
    let (mut journal, _) = open(&dir);
    journal.rewrite(&[record(1)], false).unwrap();
    journal.append(&[record(2)]).unwrap();
    for n in 0..2 {
        let path = path_of(&dir, n);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(is_damage(&found(&dir)), "without {}", path.display());
        for bytes in [&whole[..0], &whole[..1000], &[0; SIZE as usize]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(
                is_damage(&found(&dir)),
                "{} of {}",
                bytes.len(),
                path.display()
            );
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(found(&dir).records, [record(1), record(2)]);
    // Half of the first two files is made; nothing was marked yet.
    let fresh = dir.join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    drop(Journal::open(&fresh, Id128([1; 16]), false).unwrap());
    std::fs::remove_file(path_of(&fresh, 0)).unwrap();
    let (_, found) = Journal::open(&fresh, Id128([1; 16]), false).unwrap();
    assert!(found.damage.is_none());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_full_file_says_so_and_a_long_snapshot_gets_a_larger_one() {
    let dir = scratch("journal-full");
    let (mut journal, _) = Journal::open(&dir, Id128([1; 16]), false).unwrap();
    let batch: Vec<_> = (0..3000).map(record).collect();
    let mut added = 0;
    while journal.append(&batch).is_ok() {
        added += batch.len();
    }
    assert!(matches!(journal.append(&batch), Err(JournalError::Full)));
    assert_eq!(found(&dir).records.len(), added);
    let many: Vec<_> = (0..100_000).map(record).collect();
    journal.rewrite(&many, false).unwrap();
    journal.append(&[record(1)]).unwrap();
    assert_eq!(found(&dir).records.len(), many.len() + 1);
    assert!(std::fs::metadata(journal.path()).unwrap().len() > SIZE);
    // It goes on in turn.
    journal.rewrite(&[record(1)], false).unwrap();
    journal.rewrite(&[record(2)], false).unwrap();
    assert_eq!(found(&dir).records, [record(2)]);
    std::fs::remove_dir_all(&dir).unwrap();
}
