//! Sizes and ranges: truncate, fallocate in all modes, data and holes, copies.

use super::*;
use crate::ops::pattern;
use libc::{EBADF, EFBIG, EINVAL, EISDIR, ENODEV, ENXIO, ESPIPE, SEEK_DATA, SEEK_HOLE};
use libc::{O_RDONLY, O_RDWR, O_WRONLY};

const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
const COLLAPSE: i32 = libc::FALLOC_FL_COLLAPSE_RANGE;
const INSERT: i32 = libc::FALLOC_FL_INSERT_RANGE;

pub(super) fn cases() -> Vec<Case> {
    [sizes(), allocation(), holes(), copies()]
        .into_iter()
        .flatten()
        .collect()
}

fn sizes() -> Vec<Case> {
    cases! { "truncate";
        shrinking_and_growing_leaves_zeros {
            filled("f", b"0123456789")?;
            sys::truncate("f", 3)?;
            sys::truncate("f", 6)?;
            same(content("f")?, b"012\0\0\0".to_vec())?;
        }
        ftruncate_does_the_same {
            let fd = filled("f", &pattern(9000, 1))?;
            sys::ftruncate(&fd, 4100)?;
            sys::ftruncate(&fd, 9000)?;
            let all = content("f")?;
            holds(all[..4100] == pattern(4100, 1) && all[4100..].iter().all(|b| *b == 0), "")?;
        }
        ftruncate_keeps_the_position {
            let fd = filled("f", b"0123456789")?;
            sys::lseek(&fd, 8, libc::SEEK_SET)?;
            sys::ftruncate(&fd, 2)?;
            sys::write(&fd, b"x")?;
            same(content("f")?, b"01\0\0\0\0\0\0x".to_vec())?;
        }
        of_a_directory { dir("d", 0o755)?; fails(EISDIR, sys::truncate("d", 0))?; }
        of_a_fifo { sys::mkfifo("p", 0o644)?; fails(EINVAL, sys::truncate("p", 0))?; }
        to_a_negative_size { file("f", 0o644)?; fails(EINVAL, sys::truncate("f", -1))?; }
        to_an_impossible_size { file("f", 0o644)?; fails(EFBIG, sys::truncate("f", i64::MAX))?; }
        through_a_reading_descriptor {
            file("f", 0o644)?;
            let fd = sys::open("f", O_RDONLY, 0)?;
            fails(EINVAL, sys::ftruncate(&fd, 1))?;
        }
        of_an_unlinked_file {
            let fd = filled("f", b"0123")?;
            sys::unlink("f")?;
            sys::ftruncate(&fd, 2)?;
            same(sys::read_all(&fd, 0, 9)?, b"01".to_vec())?;
        }
    }
}

fn allocation() -> Vec<Case> {
    cases! { "fallocate";
        plain_extends_with_zeros {
            let fd = filled("f", b"abc")?;
            sys::fallocate(&fd, 0, 0, 10_000)?;
            let all = content("f")?;
            same((all.len(), &all[..4], all[9999]), (10_000, &b"abc\0"[..], 0))?;
            holds(sys::fstat(&fd)?.st_blocks >= 16, "space is reserved")?;
        }
        keep_size_reserves_only {
            let fd = filled("f", b"abc")?;
            sys::fallocate(&fd, KEEP, 0, 1 << 20)?;
            same(size("f")?, 3)?;
            holds(sys::fstat(&fd)?.st_blocks >= 2048, "space is reserved")?;
        }
        punch_leaves_zeros_and_frees_space {
            let fd = filled("f", &pattern(1 << 20, 1))?;
            sys::fsync(&fd)?;
            let before = sys::fstat(&fd)?.st_blocks;
            sys::fallocate(&fd, PUNCH, 100, (1 << 20) - 200)?;
            let all = content("f")?;
            holds(all[100..(1 << 20) - 100].iter().all(|byte| *byte == 0), "zeros")?;
            holds(all[..100] == pattern(100, 1), "the head stays")?;
            sys::fsync(&fd)?;
            holds(sys::fstat(&fd)?.st_blocks < before / 8, "space is freed")?;
        }
        punch_needs_keep_size {
            let fd = filled("f", &[1; 8192])?;
            let answer = sys::fallocate(&fd, libc::FALLOC_FL_PUNCH_HOLE, 0, 4096);
            fails(libc::EOPNOTSUPP, answer)?;
        }
        punch_beyond_the_end_changes_nothing {
            let fd = filled("f", b"abc")?;
            sys::fallocate(&fd, PUNCH, 4096, 8192)?;
            same(content("f")?, b"abc".to_vec())?;
        }
        zero_range_within {
            let fd = filled("f", &[9; 20_000])?;
            sys::fallocate(&fd, ZERO, 5000, 5000)?;
            let all = content("f")?;
            same((all[4999], all[5000], all[9999], all[10_000]), (9, 0, 0, 9))?;
        }
        zero_range_extends {
            let fd = filled("f", b"a")?;
            sys::fallocate(&fd, ZERO, 0, 5000)?;
            same(size("f")?, 5000)?;
        }
        zero_range_keeping_the_size {
            let fd = filled("f", &[9; 100])?;
            sys::fallocate(&fd, ZERO | KEEP, 50, 5000)?;
            let all = content("f")?;
            same((all.len(), all[49], all[50]), (100, 9, 0))?;
        }
        collapse_moves_the_tail_forward {
            let data = [[1; 4096], [2; 4096], [3; 4096]].concat();
            let fd = filled("f", &data)?;
            sys::fallocate(&fd, COLLAPSE, 4096, 4096)?;
            holds(content("f")? == [[1; 4096], [3; 4096]].concat(), "the middle is gone")?;
        }
        collapse_unaligned_or_to_the_end {
            let fd = filled("f", &[1; 12_288])?;
            fails(EINVAL, sys::fallocate(&fd, COLLAPSE, 100, 4096))?;
            fails(EINVAL, sys::fallocate(&fd, COLLAPSE, 4096, 8192))?;
            same(size("f")?, 12_288)?;
        }
        insert_moves_the_tail_back {
            let fd = filled("f", &[[1; 4096], [2; 4096]].concat())?;
            sys::fallocate(&fd, INSERT, 4096, 4096)?;
            holds(content("f")? == [[1; 4096], [0; 4096], [2; 4096]].concat(), "a hole between")?;
        }
        insert_unaligned_or_at_the_end {
            let fd = filled("f", &[1; 8192])?;
            fails(EINVAL, sys::fallocate(&fd, INSERT, 7, 4096))?;
            fails(EINVAL, sys::fallocate(&fd, INSERT, 8192, 4096))?;
        }
        of_nothing_or_negative {
            let fd = file("f", 0o644)?;
            fails(EINVAL, sys::fallocate(&fd, 0, 0, 0))?;
            fails(EINVAL, sys::fallocate(&fd, 0, -1, 10))?;
        }
        unknown_mode {
            let fd = file("f", 0o644)?;
            fails(libc::EOPNOTSUPP, sys::fallocate(&fd, 1 << 20, 0, 10))?;
        }
        through_a_reading_descriptor {
            file("f", 0o644)?;
            fails(EBADF, sys::fallocate(&sys::open("f", O_RDONLY, 0)?, 0, 0, 10))?;
        }
        of_a_directory_or_fifo {
            sys::mkfifo("p", 0o600)?;
            fails(ESPIPE, sys::fallocate(&sys::open("p", O_RDWR, 0)?, 0, 0, 10))?;
            fails(EBADF, sys::fallocate(&sys::open(".", O_RDONLY, 0)?, 0, 0, 10))?;
        }
        more_than_the_disk_has {
            let fd = filled("f", b"x")?;
            let answer = sys::fallocate(&fd, 0, 0, 1 << 42);
            fails(libc::ENOSPC, answer)?;
            same(content("f")?.first().copied(), Some(b'x'))?;
            sys::ftruncate(&fd, 0)?;
        }
    }
}

fn holes() -> Vec<Case> {
    cases! { "seek data";
        data_and_holes_alternate {
            let fd = file("f", 0o644)?;
            sys::write_all(&fd, &[1; 4096], 0)?;
            sys::write_all(&fd, &[1; 4096], 65_536)?;
            sys::ftruncate(&fd, 131_072)?;
            for (at, whence, expected) in [
                (0, SEEK_DATA, 0),
                (0, SEEK_HOLE, 4096),
                (5000, SEEK_DATA, 65_536),
                (65_536, SEEK_HOLE, 69_632),
                (70_000, SEEK_HOLE, 70_000),
            ] {
                same(sys::lseek(&fd, at, whence)?, expected)?;
            }
            fails(ENXIO, sys::lseek(&fd, 70_000, SEEK_DATA))?;
        }
        the_end_is_a_hole {
            let fd = filled("f", &[1; 5000])?;
            same(sys::lseek(&fd, 0, SEEK_HOLE)?, 5000)?;
            same(sys::lseek(&fd, 4999, SEEK_DATA)?, 4999)?;
        }
        beyond_the_end {
            let fd = filled("f", b"abc")?;
            fails(ENXIO, sys::lseek(&fd, 3, SEEK_DATA))?;
            fails(ENXIO, sys::lseek(&fd, 3, SEEK_HOLE))?;
            fails(ENXIO, sys::lseek(&fd, -1, SEEK_DATA))?;
        }
        of_an_empty_file {
            let fd = file("f", 0o644)?;
            fails(ENXIO, sys::lseek(&fd, 0, SEEK_DATA))?;
        }
        punched_region_is_a_hole {
            let fd = filled("f", &[1; 65_536])?;
            sys::fallocate(&fd, PUNCH, 16_384, 16_384)?;
            same(sys::lseek(&fd, 0, SEEK_HOLE)?, 16_384)?;
            same(sys::lseek(&fd, 16_384, SEEK_DATA)?, 32_768)?;
        }
        stored_page_is_data_before_it_is_synced {
            // Or a copy that skips holes loses what an application has stored.
            let fd = file("f", 0o644)?;
            sys::ftruncate(&fd, 65_536)?;
            let map = sys::Map::new(&fd, 65_536, true)?;
            map.store(32_768, b"x");
            same(sys::lseek(&fd, 0, SEEK_DATA)?, 32_768)?;
        }
        stored_page_is_data {
            let fd = file("f", 0o644)?;
            sys::ftruncate(&fd, 65_536)?;
            let map = sys::Map::new(&fd, 65_536, true)?;
            map.store(32_768, b"x");
            map.sync(libc::MS_SYNC)?;
            same(sys::lseek(&fd, 0, SEEK_DATA)?, 32_768)?;
        }
    }
}

fn copies() -> Vec<Case> {
    cases! { "copy_file_range";
        copies_and_counts {
            let from = filled("a", &pattern(100_000, 1))?;
            let to = file("b", 0o644)?;
            let mut done = 0;
            while done < 100_000 {
                let at = done as u64;
                done += sys::copy_file_range(&from, at, &to, at, 100_000 - done)?;
            }
            holds(content("b")? == pattern(100_000, 1), "the same bytes")?;
        }
        stops_at_the_end_of_the_source {
            let from = filled("a", b"0123456789")?;
            let to = file("b", 0o644)?;
            same(sys::copy_file_range(&from, 7, &to, 0, 100)?, 3)?;
            same(sys::copy_file_range(&from, 10, &to, 0, 100)?, 0)?;
        }
        within_one_file {
            let fd = filled("a", b"0123456789")?;
            same(sys::copy_file_range(&fd, 0, &fd, 5, 5)?, 5)?;
            same(content("a")?, b"0123401234".to_vec())?;
        }
        overlapping_in_one_file {
            let fd = filled("a", b"0123456789")?;
            fails(EINVAL, sys::copy_file_range(&fd, 0, &fd, 2, 5))?;
        }
        to_a_reading_descriptor {
            let from = filled("a", b"x")?;
            filled("b", b"y")?;
            fails(EBADF, sys::copy_file_range(&from, 0, &sys::open("b", O_RDONLY, 0)?, 0, 1))?;
        }
        to_an_appending_descriptor {
            let from = filled("a", b"x")?;
            let to = sys::open("b", libc::O_CREAT | O_WRONLY | libc::O_APPEND, 0o644)?;
            fails(EBADF, sys::copy_file_range(&from, 0, &to, 0, 1))?;
        }
        of_a_directory {
            let to = file("b", 0o644)?;
            fails(EISDIR, sys::copy_file_range(&sys::open(".", O_RDONLY, 0)?, 0, &to, 0, 1))?;
        }
        fallocate_knows_its_devices {
            sys::mknod("n", libc::S_IFCHR | 0o600, libc::makedev(1, 3))?;
            let fd = sys::open("/dev/null", O_RDWR, 0)?;
            fails(ENODEV, sys::fallocate(&fd, 0, 0, 1))?;
        }
    }
}
