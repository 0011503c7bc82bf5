//! What a dirty map takes at its worst, counted at the allocator: 10 million files and a sparse
//! file
//! of 10 TB, touched without a checkpoint. And what a look into it costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tandem_repl::ids::{DirId, Key, Uid};
use tandem_repl::logic::dirty::{Cover, DirRef, FileRef, Limits, Map, Rules, Touch};

/// The figure the documentation states, bytes.
const MOST: usize = 128 << 20;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(n: u64) -> Key {
    Key::new(&[n.to_le_bytes(), [7; 8]].concat()).expect("16 bytes fit")
}

fn flush(map: &mut Map) {
    let (_, seq) = map.take_pending();
    map.flushed(seq);
}

fn touch(map: &mut Map, file: u64, parent: u64, (offset, size): (u64, u64)) -> bool {
    let name = format!("file-with-a-name-{file}");
    let place = Some((key(parent), name.as_bytes()));
    let file = FileRef {
        key: key(file),
        uid: Uid::NONE,
        place,
    };
    let data = Touch::Data {
        file,
        offset,
        len: 4096,
        size,
    };
    let missing = map.cover(DirId(0), &data) != Cover::Covered;
    if missing {
        flush(map);
    }
    missing
}

/// Runs and returns the most that was taken meanwhile.
fn measured(what: &str, run: impl FnOnce(&mut Map)) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let mut map = Map::new(2, Limits::new(1 << 30), Rules::default());
    run(&mut map);
    let marks = map.marks();
    let (files, dirs) = (marks.files.len(), marks.dirs.len());
    drop(marks);
    drop(map.snapshot());
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!(
        "{what}: {} MiB, {files} files and {dirs} directories marked{}, {:.1} s",
        peak >> 20,
        if map.marks().everything {
            ", everything"
        } else {
            ""
        },
        start.elapsed().as_secs_f64()
    );
    peak
}

#[test]
fn ten_million_files_and_ten_terabytes_stay_within_the_figure() {
    const FILES: u64 = 10_000_000;
    let mut peaks = vec![measured("10 million files, 1000 a directory", |map| {
        for n in 0..FILES {
            touch(map, n, FILES + n / 1000, (0, 8192));
        }
    })];
    peaks.push(measured(
        "10 million files, each in its own directory",
        |map| {
            for n in 0..FILES {
                touch(map, n, FILES + n, (0, 8192));
            }
        },
    ));
    peaks.push(measured("10 million names in 10 directories", |map| {
        for n in 0..FILES {
            let name = format!("file-with-a-name-{n}");
            let dir = DirRef {
                key: key(n % 10),
                uid: Uid::NONE,
            };
            let name = name.as_bytes();
            if map.cover(DirId(0), &Touch::Entry { dir, name }) != Cover::Covered {
                flush(map);
            }
        }
    }));
    peaks.push(measured("a sparse file of 10 TB, all over", |map| {
        let mut at = 1_u64;
        for _ in 0..2_000_000 {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            touch(map, 1, 0, ((at >> 12) % (10 << 40), 10 << 40));
        }
    }));
    peaks.push(measured("1000 files of 64 GiB, all over", |map| {
        let mut at = 1_u64;
        for n in 0..2_000_000 {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            touch(map, n % 1000, 5000, (at >> 8 & 0xf_ffff_f000, 64 << 30));
        }
    }));
    assert!(peaks.iter().all(|peak| *peak < MOST), "{peaks:?}");
}

/// Not a test of the machine's speed: it prints what it finds.
#[test]
fn a_look_costs_little() {
    let mut map = Map::new(2, Limits::new(1 << 30), Rules::default());
    let size = 4_u64 << 30;
    let mut at = 1_u64;
    let mut offsets = Vec::new();
    for _ in 0..1_000_000 {
        at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        offsets.push(at >> 20 & (size - 4096));
    }
    for offset in &offsets {
        touch(&mut map, 1, 0, (*offset, size));
    }
    let file = FileRef {
        key: key(1),
        uid: Uid::NONE,
        place: None,
    };
    let start = Instant::now();
    for offset in &offsets {
        let data = Touch::Data {
            file,
            offset: *offset,
            len: 4096,
            size: 0,
        };
        assert!(map.covered(DirId(0), &data));
    }
    let each = start.elapsed().as_nanos() / offsets.len() as u128;
    println!("random writes over 4 GiB: {each} ns a look");

    for n in 0..50_000 {
        touch(&mut map, n, n / 100, (0, 8192));
    }
    let start = Instant::now();
    for n in 0..1_000_000_u64 {
        let file = FileRef {
            key: key(n * 7919 % 50_000),
            ..file
        };
        let data = Touch::Data {
            file,
            offset: 0,
            len: 4096,
            size: 0,
        };
        map.covered(DirId(0), &data);
    }
    let each = start.elapsed().as_nanos() / 1_000_000;
    println!("one of 50,000 files: {each} ns a look");
}
