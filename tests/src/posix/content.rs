//! Data: writes and reads of every kind, mappings, direct I/O and their coherence.

use super::*;
use crate::ops::pattern;
use crate::sys::{Aligned, Map};
use libc::{EFAULT, EINVAL, ESPIPE, MS_SYNC, O_APPEND, O_DIRECT, O_DSYNC, O_RDONLY, O_RDWR};
use libc::{O_SYNC, O_WRONLY};

pub(super) fn cases() -> Vec<Case> {
    [writes(), mappings(), direct()]
        .into_iter()
        .flatten()
        .collect()
}

fn writes() -> Vec<Case> {
    cases! { "data";
        odd_offsets_and_sizes {
            let fd = file("f", 0o644)?;
            let mut expected = vec![0; 300_000];
            for step in 0..200_usize {
                let (at, len) = (step * 1471 % 250_000, step * 251 % 9001);
                let data = pattern(len, step as u8);
                sys::write_all(&fd, &data, at as u64)?;
                expected[at..at + len].copy_from_slice(&data);
            }
            let len = sys::fstat(&fd)?.st_size as usize;
            holds(sys::read_all(&fd, 0, len)? == expected[..len], "what was written is read")?;
        }
        one_write_of_eight_mebibytes {
            let fd = file("f", 0o644)?;
            let data = pattern(8 << 20, 3);
            same(sys::write(&fd, &data)?, data.len())?;
            holds(sys::read_all(&fd, 0, 9 << 20)? == data, "the same bytes")?;
        }
        write_beyond_the_end_leaves_zeros {
            let fd = file("f", 0o644)?;
            sys::write_all(&fd, b"x", 10_000)?;
            let mut expected = vec![0; 10_000];
            expected.push(b'x');
            same(sys::read_all(&fd, 0, 20_000)?, expected)?;
        }
        write_of_nothing_changes_nothing {
            let fd = filled("f", b"abc")?;
            same(sys::pwrite(&fd, b"", 100)?, 0)?;
            same(size("f")?, 3)?;
        }
        vectored_write_is_one_piece {
            let fd = file("f", 0o644)?;
            same(sys::writev(&fd, &[b"one", b"", b"two"], None)?, 6)?;
            same(sys::writev(&fd, &[b"X", b"Y"], Some(2))?, 2)?;
            same(content("f")?, b"onXYwo".to_vec())?;
        }
        position_moves_with_read_and_write_only {
            let fd = filled("f", b"0123456789")?;
            sys::write(&fd, b"ab")?;
            sys::pwrite(&fd, b"zz", 8)?;
            let mut two = [0; 2];
            sys::read(&fd, &mut two)?;
            same((&two, sys::lseek(&fd, 0, libc::SEEK_CUR)?), (b"23", 4))?;
        }
        read_at_and_beyond_the_end {
            let fd = filled("f", b"abc")?;
            same(sys::pread(&fd, &mut [0; 9], 3)?, 0)?;
            same(sys::pread(&fd, &mut [0; 9], 1 << 40)?, 0)?;
            same(sys::pread(&fd, &mut [0; 9], 1)?, 2)?;
        }
        seeks_of_every_kind {
            let fd = filled("f", b"0123456789")?;
            same(sys::lseek(&fd, -3, libc::SEEK_END)?, 7)?;
            same(sys::lseek(&fd, 5, libc::SEEK_CUR)?, 12)?;
            fails(EINVAL, sys::lseek(&fd, -13, libc::SEEK_CUR))?;
            fails(EINVAL, sys::lseek(&fd, 0, 99))?;
        }
        seek_in_a_fifo {
            sys::mkfifo("p", 0o600)?;
            let fd = sys::open("p", O_RDWR, 0)?;
            fails(ESPIPE, sys::lseek(&fd, 0, libc::SEEK_SET))?;
        }
        negative_position {
            let fd = file("f", 0o644)?;
            fails(EINVAL, sys::pread(&fd, &mut [0], u64::MAX))?;
        }
        write_from_nowhere {
            let fd = file("f", 0o644)?;
            let answer = sys::write_from_nowhere(&fd);
            fails(EFAULT, answer)?;
            same(size("f")?, 0)?;
        }
        sync_flags_write_like_any_other {
            for (name, flag) in [("s", O_SYNC), ("d", O_DSYNC)] {
                let fd = sys::open(name, libc::O_CREAT | O_WRONLY | flag, 0o644)?;
                sys::write(&fd, b"one")?;
                sys::write(&fd, b"two")?;
                same(content(name)?, b"onetwo".to_vec())?;
            }
        }
        fsync_of_everything {
            dir("d", 0o755)?;
            let reading = {
                filled("f", b"x")?;
                sys::open("f", O_RDONLY, 0)?
            };
            sys::fsync(&reading)?;
            sys::fdatasync(&reading)?;
            sys::syncfs(&reading)?;
            let directory = sys::open("d", O_RDONLY, 0)?;
            sys::fsync(&directory)?;
            sys::fdatasync(&directory)?;
        }
        fsync_of_a_fifo {
            sys::mkfifo("p", 0o600)?;
            let fd = sys::open("p", O_RDWR, 0)?;
            fails(EINVAL, sys::fsync(&fd))?;
        }
        append_and_mapping_see_each_other {
            let fd = filled("f", &[b'a'; 4096])?;
            let map = Map::new(&fd, 4096, true)?;
            let appender = sys::open("f", O_WRONLY | O_APPEND, 0)?;
            map.store(0, b"M");
            sys::write(&appender, b"end")?;
            let all = content("f")?;
            same((all.len(), all[0], &all[4096..]), (4099, b'M', &b"end"[..]))?;
        }
        ten_terabytes_of_hole {
            let fd = file("f", 0o644)?;
            sys::ftruncate(&fd, 10 << 40)?;
            sys::write_all(&fd, b"far", 9 << 40)?;
            same(sys::read_all(&fd, (9 << 40) - 2, 7)?, b"\0\0far\0\0".to_vec())?;
            holds(sys::fstat(&fd)?.st_blocks < 1000, "it stays sparse")?;
        }
    }
}

fn mappings() -> Vec<Case> {
    cases! { "mmap";
        store_is_read_at_once {
            let fd = filled("f", &[0; 10_000])?;
            let map = Map::new(&fd, 10_000, true)?;
            map.store(5000, b"mapped");
            same(sys::read_all(&fd, 5000, 6)?, b"mapped".to_vec())?;
        }
        write_is_loaded_at_once {
            let fd = filled("f", &[0; 10_000])?;
            let map = Map::new(&fd, 10_000, false)?;
            same(map.load(5000, 7), vec![0; 7])?;
            sys::write_all(&fd, b"written", 5000)?;
            same(map.load(5000, 7), b"written".to_vec())?;
        }
        two_mappings_are_one_memory {
            let fd = filled("f", &[0; 8192])?;
            let other = sys::open("f", O_RDWR, 0)?;
            let (one, two) = (Map::new(&fd, 8192, true)?, Map::new(&other, 8192, true)?);
            one.store(4095, b"ab");
            same(two.load(4095, 2), b"ab".to_vec())?;
        }
        store_survives_close_and_unmapping {
            let fd = filled("f", &[0; 4096])?;
            let map = Map::new(&fd, 4096, true)?;
            drop(fd);
            map.store(1, b"late");
            drop(map);
            same(&content("f")?[..6], b"\0late\0")?;
        }
        msync_of_every_kind {
            let fd = filled("f", &[0; 4096])?;
            let map = Map::new(&fd, 4096, true)?;
            for (at, how) in [(0, MS_SYNC), (1, libc::MS_ASYNC), (2, libc::MS_INVALIDATE)] {
                map.store(at, b"x");
                map.sync(how)?;
            }
            same(&content("f")?[..4], b"xxx\0")?;
        }
        store_beyond_the_end_within_the_page_is_lost {
            let fd = filled("f", b"abc")?;
            let map = Map::new(&fd, 4096, true)?;
            map.store(0, b"ABCdef");
            map.sync(MS_SYNC)?;
            same(content("f")?, b"ABC".to_vec())?;
            sys::ftruncate(&fd, 6)?;
            same(content("f")?, b"ABC\0\0\0".to_vec())?;
        }
        writable_mapping_of_a_reading_descriptor {
            filled("f", &[0; 4096])?;
            let fd = sys::open("f", O_RDONLY, 0)?;
            fails(libc::EACCES, Map::new(&fd, 4096, true).map(drop))?;
        }
        mapping_of_an_unlinked_file_goes_on {
            let fd = filled("f", &[0; 4096])?;
            let map = Map::new(&fd, 4096, true)?;
            sys::unlink("f")?;
            map.store(0, b"x");
            map.sync(MS_SYNC)?;
            same(sys::read_all(&fd, 0, 1)?, b"x".to_vec())?;
        }
        mapping_sees_truncation_and_regrowth {
            let fd = filled("f", &[7; 8192])?;
            let map = Map::new(&fd, 8192, true)?;
            sys::ftruncate(&fd, 100)?;
            sys::ftruncate(&fd, 8192)?;
            same([99, 100, 8000].map(|at| map.load(at, 1)[0]), [7, 0, 0])?;
        }
        mapping_sees_a_punched_hole {
            let fd = filled("f", &[7; 12_288])?;
            let map = Map::new(&fd, 12_288, true)?;
            same(map.load(5000, 1), vec![7])?;
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            sys::fallocate(&fd, mode, 4096, 4096)?;
            same([4095, 4096, 8192].map(|at| map.load(at, 1)[0]), [7, 0, 7])?;
        }
        mapping_sees_copy_file_range {
            let from = filled("from", b"copied")?;
            let to = filled("to", &[0; 4096])?;
            let map = Map::new(&to, 4096, false)?;
            same(map.load(0, 6), vec![0; 6])?;
            same(sys::copy_file_range(&from, 0, &to, 0, 6)?, 6)?;
            same(map.load(0, 6), b"copied".to_vec())?;
        }
        copy_file_range_takes_stored_bytes {
            let from = filled("from", &[0; 4096])?;
            let map = Map::new(&from, 4096, true)?;
            map.store(0, b"stored");
            let to = file("to", 0o644)?;
            same(sys::copy_file_range(&from, 0, &to, 0, 6)?, 6)?;
            same(content("to")?, b"stored".to_vec())?;
        }
    }
}

fn direct() -> Vec<Case> {
    cases! { "direct";
        written_directly_read_through_the_cache {
            let fd = filled("f", &[1; 16_384])?;
            same(content("f")?[4096], 1)?;
            let direct = sys::open("f", O_WRONLY | O_DIRECT, 0)?;
            sys::pwrite(&direct, Aligned::new(4096, 2).as_ref(), 4096)?;
            let all = sys::read_all(&fd, 0, 16_384)?;
            same((all[4095], all[4096], all[8191], all[8192]), (1, 2, 2, 1))?;
        }
        written_through_the_cache_read_directly {
            let fd = filled("f", &[1; 8192])?;
            sys::write_all(&fd, &[3; 100], 50)?;
            let direct = sys::open("f", O_RDONLY | O_DIRECT, 0)?;
            let mut buffer = Aligned::new(4096, 0);
            same(sys::pread(&direct, buffer.as_mut(), 0)?, 4096)?;
            same((buffer.as_ref()[49], buffer.as_ref()[50], buffer.as_ref()[150]), (1, 3, 1))?;
        }
        written_directly_seen_by_a_mapping {
            let fd = filled("f", &[1; 8192])?;
            let map = Map::new(&fd, 8192, false)?;
            same(map.load(0, 1), vec![1])?;
            let direct = sys::open("f", O_WRONLY | O_DIRECT, 0)?;
            sys::pwrite(&direct, Aligned::new(4096, 2).as_ref(), 0)?;
            same((map.load(0, 1), map.load(4096, 1)), (vec![2], vec![1]))?;
        }
        stored_by_a_mapping_read_directly {
            let fd = filled("f", &[1; 8192])?;
            let map = Map::new(&fd, 8192, true)?;
            map.store(10, b"S");
            let direct = sys::open("f", O_RDONLY | O_DIRECT, 0)?;
            let mut buffer = Aligned::new(4096, 0);
            sys::pread(&direct, buffer.as_mut(), 0)?;
            same(buffer.as_ref()[10], b'S')?;
        }
        direct_write_extends_the_file {
            let direct = sys::open("f", libc::O_CREAT | O_RDWR | O_DIRECT, 0o644)?;
            same(sys::pwrite(&direct, Aligned::new(8192, 5).as_ref(), 4096)?, 8192)?;
            let all = content("f")?;
            same((all.len(), all[4095], all[4096]), (12_288, 0, 5))?;
        }
        direct_read_stops_at_the_end {
            filled("f", &[1; 5000])?;
            let direct = sys::open("f", O_RDONLY | O_DIRECT, 0)?;
            same(sys::pread(&direct, Aligned::new(8192, 0).as_mut(), 0)?, 5000)?;
        }
        unaligned_direct_write_is_refused {
            let direct = sys::open("f", libc::O_CREAT | O_RDWR | O_DIRECT, 0o644)?;
            fails(EINVAL, sys::pwrite(&direct, Aligned::new(4096, 1).as_ref(), 7))?;
            fails(EINVAL, sys::pwrite(&direct, &Aligned::new(4096, 1).as_ref()[..100], 0))?;
        }
    }
}
