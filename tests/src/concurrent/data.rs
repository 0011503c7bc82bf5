//! Several clients on the data of one file.

use super::oracle::{check_bytes, check_records, check_slots, record};
use super::{must, rounds, together};
use crate::sys::{self, Aligned, Map, Sys};
use libc::{O_APPEND, O_CREAT, O_DIRECT, O_RDWR, O_WRONLY};
use std::os::fd::OwnedFd;

const WRITERS: u64 = 6;

/// The whole file `f`.
fn content() -> Result<Vec<u8>, String> {
    let fd = must("open", sys::open("f", libc::O_RDONLY, 0))?;
    let len = must("stat", sys::fstat(&fd))?.st_size as usize;
    must("read", sys::read_all(&fd, 0, len))
}

fn created(flags: i32) -> Sys<OwnedFd> {
    sys::open("f", O_CREAT | O_RDWR | flags, 0o644)
}

/// Appended records are neither lost nor torn, and each client's stay in order.
pub(super) fn append_by_several(seed: u64) -> Result<(), String> {
    let each = rounds(150);
    together(WRITERS, seed, |client, mut rng| {
        let fd = must("open", created(O_APPEND))?;
        for number in 0..each {
            let len = if rng.chance(10) {
                rng.index(200_000)
            } else {
                rng.index(5000)
            };
            let record = record(client, number, len);
            let written = must("append", sys::write(&fd, &record))?;
            if written != record.len() {
                return Err(format!("append of {} wrote {written}", record.len()));
            }
            if rng.chance(5) {
                must("fdatasync", sys::fdatasync(&fd))?;
            }
        }
        Ok(())
    })?;
    check_records(&content()?, WRITERS, each)
}

/// Writers of the same slots; each slot must end as one writer's.
fn slots(seed: u64, slot: usize, flags: i32) -> Result<(), String> {
    const SLOTS: usize = 24;
    let fd = must("create", created(0))?;
    must("prepare", sys::write_all(&fd, &vec![1; slot * SLOTS], 0))?;
    must("fsync", sys::fsync(&fd))?;
    together(WRITERS, seed, |client, mut rng| {
        let fd = must("open", created(flags))?;
        let data = Aligned::new(slot, client as u8 + 1);
        for _ in 0..rounds(400) {
            let at = (rng.index(SLOTS) * slot) as u64;
            let written = must("write", sys::pwrite(&fd, data.as_ref(), at))?;
            if written != slot {
                return Err(format!("write of {slot} wrote {written}"));
            }
        }
        Ok(())
    })?;
    check_slots(&content()?, slot, WRITERS as u8)
}

/// Buffered writes to one file exclude each other, so a slot of several pages is never mixed.
pub(super) fn overlapping_buffered_writes(seed: u64) -> Result<(), String> {
    slots(seed, 20_000, 0)
}

/// Direct writes run side by side; a block is still of one writer, and the same on both replicas.
pub(super) fn overlapping_direct_writes(seed: u64) -> Result<(), String> {
    slots(seed, Aligned::UNIT, O_DIRECT)
}

/// Writes of any size at any place, buffered and direct: no byte comes from nowhere.
pub(super) fn unaligned_overlapping_writes(seed: u64) -> Result<(), String> {
    const SIZE: usize = 256 * 1024;
    let fd = must("create", created(0))?;
    must("prepare", sys::write_all(&fd, &vec![1; SIZE], 0))?;
    together(WRITERS, seed, |client, mut rng| {
        let direct = client % 3 == 0;
        let fd = must("open", created(if direct { O_DIRECT } else { 0 }))?;
        for _ in 0..rounds(200) {
            let (mut at, mut len) = (rng.index(SIZE - 70_000), 1 + rng.index(70_000));
            if direct {
                at -= at % Aligned::UNIT;
                len = len.next_multiple_of(Aligned::UNIT).min(65_536);
            }
            let data = Aligned::new(len, client as u8 + 1);
            must("write", sys::pwrite(&fd, data.as_ref(), at as u64))?;
        }
        Ok(())
    })?;
    let data = content()?;
    if data.len() != SIZE {
        return Err(format!("{} bytes instead of {SIZE}", data.len()));
    }
    check_bytes(&data, WRITERS as u8, false)
}

/// Sizes that grow and shrink under writers: holes are zeros, never somebody's old bytes.
pub(super) fn writes_against_truncates(seed: u64) -> Result<(), String> {
    must("create", created(0))?;
    together(WRITERS, seed, |client, mut rng| {
        let fd = must("open", created(0))?;
        for _ in 0..rounds(200) {
            let at = rng.below(200_000);
            if client == 0 {
                must("ftruncate", sys::ftruncate(&fd, at as i64))?;
            } else if client == 1 {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                must("punch", sys::fallocate(&fd, mode, at as i64, 30_000))?;
            } else {
                let data = vec![client as u8 + 1; 1 + rng.index(20_000)];
                must("write", sys::pwrite(&fd, &data, at))?;
            }
        }
        Ok(())
    })?;
    check_bytes(&content()?, WRITERS as u8, true)
}

/// A mapping stores into even pages while writes go to odd ones; both see each other's at the end.
pub(super) fn stores_and_writes(seed: u64) -> Result<(), String> {
    const PAGE: usize = 4096;
    const PAGES: usize = 64;
    let fd = must("create", created(0))?;
    must("prepare", sys::write_all(&fd, &vec![1; PAGE * PAGES], 0))?;
    let last = |client: u64| [client as u8 + 11; PAGE];
    together(4, seed, |client, mut rng| {
        let fd = must("open", created(0))?;
        let map = must("map", Map::new(&fd, PAGE * PAGES, true))?;
        // Client n owns the pages n, n + 4, …: even ones are stored, odd ones are written.
        for round in 0..=rounds(40) {
            for page in (client as usize..PAGES).step_by(4) {
                let end = round == rounds(40);
                let data = if end {
                    last(client)
                } else {
                    [client as u8 + 1; PAGE]
                };
                if client % 2 == 0 {
                    map.store(page * PAGE, &data);
                } else {
                    must("write", sys::write_all(&fd, &data, (page * PAGE) as u64))?;
                }
                let neighbour = map.load(rng.index(PAGES) * PAGE, 1)[0];
                if !(1..=4).contains(&neighbour) && !(11..=14).contains(&neighbour) {
                    return Err(format!("a page holds {neighbour}"));
                }
            }
            if rng.chance(20) {
                must("msync", map.sync(libc::MS_SYNC))?;
            }
        }
        must("msync", map.sync(libc::MS_SYNC))
    })?;
    let data = content()?;
    for (number, page) in data.chunks(PAGE).enumerate() {
        if page != last(number as u64 % 4) {
            return Err(format!("page {number} has lost its last store or write"));
        }
    }
    Ok(())
}

/// Everybody writes and syncs, in files of their own and in one together.
pub(super) fn fsync_storm(seed: u64) -> Result<(), String> {
    const SLOT: usize = 1000;
    let each = rounds(40);
    let shared = must("create", created(0))?;
    must("prepare", sys::ftruncate(&shared, (8 * SLOT) as i64))?;
    together(8, seed, |client, mut rng| {
        let own = must(
            "create",
            sys::open(format!("own {client}"), O_CREAT | O_RDWR, 0o644),
        )?;
        let shared = must("open", sys::open("f", O_WRONLY, 0))?;
        let directory = must("open", sys::open(".", libc::O_RDONLY, 0))?;
        for number in 0..each {
            must(
                "write",
                sys::write(&own, &record(0, number, rng.index(3000))),
            )?;
            let data = [client as u8 + 1; SLOT];
            must(
                "write",
                sys::write_all(&shared, &data, client * SLOT as u64),
            )?;
            must(
                "sync",
                match rng.below(5) {
                    0 => sys::fdatasync(&own),
                    1 => sys::fsync(&shared),
                    2 => sys::fsync(&directory),
                    3 => sys::syncfs(&own),
                    _ => sys::fsync(&own),
                },
            )?;
            let name = format!("late {client} {number}");
            must("mkdir", sys::mkdir(name, 0o755))?;
        }
        let len = must("stat", sys::fstat(&own))?.st_size as usize;
        let data = must("read", sys::read_all(&own, 0, len))?;
        check_records(&data, 1, each)
    })?;
    check_slots(&content()?, SLOT, 8)
}
