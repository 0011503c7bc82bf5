//! Times: what utimensat sets, and which call moves which time.

use super::*;
use crate::sys::time;
use libc::{EACCES, EINVAL, EPERM, O_RDONLY, O_TRUNC, O_WRONLY, UTIME_NOW, UTIME_OMIT};

pub(super) fn cases() -> Vec<Case> {
    [setting(), moving_files(), moving_directories()]
        .into_iter()
        .flatten()
        .collect()
}

fn accessed(name: &str) -> Sys<(i64, i64)> {
    let stat = sys::lstat(name)?;
    Ok((stat.st_atime, stat.st_atime_nsec))
}

fn modified(name: &str) -> Sys<(i64, i64)> {
    Ok(times_of(name)?[0])
}

fn setting() -> Vec<Case> {
    cases! { "utimensat";
        both_to_the_nanosecond {
            file("f", 0o644)?;
            sys::utimens("f", [time(11, 123_456_789), time(22, 987_654_321)])?;
            same((accessed("f")?, modified("f")?), ((11, 123_456_789), (22, 987_654_321)))?;
        }
        before_1970 {
            file("f", 0o644)?;
            sys::utimens("f", [time(-5, 250_000_000), time(-1, 999_999_999)])?;
            same((accessed("f")?, modified("f")?), ((-5, 250_000_000), (-1, 999_999_999)))?;
        }
        after_2038 {
            file("f", 0o644)?;
            sys::utimens("f", [time(1 << 32, 1), time(5_000_000_000, 2)])?;
            same((accessed("f")?, modified("f")?), ((1 << 32, 1), (5_000_000_000, 2)))?;
        }
        omit_keeps_one {
            file("f", 0o644)?;
            sys::utimens("f", [time(1, 1), time(2, 2)])?;
            sys::utimens("f", [time(3, 3), time(0, UTIME_OMIT)])?;
            same((accessed("f")?, modified("f")?), ((3, 3), (2, 2)))?;
            sys::utimens("f", [time(0, UTIME_OMIT), time(4, 4)])?;
            same((accessed("f")?, modified("f")?), ((3, 3), (4, 4)))?;
        }
        omit_both_moves_nothing {
            file("f", 0o644)?;
            same(moved("f", || sys::utimens("f", [time(0, UTIME_OMIT); 2]))?, NEITHER)?;
        }
        now_is_now {
            file("f", 0o644)?;
            sys::utimens("f", [time(1, 1); 2])?;
            sys::utimens("f", [time(0, UTIME_NOW); 2])?;
            holds(modified("f")?.0 > 1_000_000_000, "not the old time")?;
        }
        of_a_link_itself {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            let before = modified("f")?;
            sys::utimens("l", [time(1, 1), time(2, 2)])?;
            same((modified("l")?, modified("f")?), ((2, 2), before))?;
        }
        of_a_directory_and_a_fifo {
            dir("d", 0o755)?;
            sys::mkfifo("p", 0o600)?;
            sys::utimens("d", [time(1, 1), time(2, 2)])?;
            sys::utimens("p", [time(1, 1), time(3, 3)])?;
            same((modified("d")?, modified("p")?), ((2, 2), (3, 3)))?;
        }
        of_an_open_file {
            let fd = file("f", 0o644)?;
            sys::futimens(&fd, [time(1, 1), time(2, 2)])?;
            same(modified("f")?, (2, 2))?;
        }
        set_after_writing_stays {
            let fd = filled("f", b"x")?;
            sys::futimens(&fd, [time(1, 1), time(2, 2)])?;
            sys::fsync(&fd)?;
            drop(fd);
            same(modified("f")?, (2, 2))?;
        }
        set_after_a_store_stays {
            let fd = filled("f", &[0; 4096])?;
            let map = sys::Map::new(&fd, 4096, true)?;
            map.store(0, b"x");
            map.sync(libc::MS_SYNC)?;
            drop(map);
            sys::futimens(&fd, [time(1, 1), time(2, 2)])?;
            drop(fd);
            same(modified("f")?, (2, 2))?;
        }
        impossible_nanoseconds {
            file("f", 0o644)?;
            fails(EINVAL, sys::utimens("f", [time(0, 1_000_000_000); 2]))?;
        }
        given_times_are_for_the_owner {
            file("f", 0o666)?;
            fails(EPERM, by(A, || sys::utimens("f", [time(1, 1); 2])))?;
        }
        now_is_for_everybody_who_may_write {
            file("w", 0o666)?;
            file("r", 0o644)?;
            by(A, || sys::utimens("w", [time(0, UTIME_NOW); 2]))?;
            fails(EACCES, by(A, || sys::utimens("r", [time(0, UTIME_NOW); 2])))?;
        }
        the_owner_needs_no_write_right {
            by(A, || file("f", 0o400))?;
            by(A, || sys::utimens("f", [time(1, 1), time(2, 2)]))?;
            same(modified("f")?, (2, 2))?;
        }
    }
}

fn moving_files() -> Vec<Case> {
    cases! { "times of a file";
        write_moves_both {
            let fd = file("f", 0o644)?;
            same(moved("f", || sys::write(&fd, b"x"))?, BOTH)?;
        }
        overwrite_moves_both {
            let fd = filled("f", b"xy")?;
            same(moved("f", || sys::pwrite(&fd, b"x", 0))?, BOTH)?;
        }
        write_of_nothing_moves_neither {
            let fd = filled("f", b"x")?;
            same(moved("f", || sys::pwrite(&fd, b"", 0))?, NEITHER)?;
        }
        read_moves_neither {
            let fd = filled("f", b"x")?;
            same(moved("f", || sys::pread(&fd, &mut [0], 0))?, NEITHER)?;
        }
        truncate_moves_both {
            filled("f", b"x")?;
            same(moved("f", || sys::truncate("f", 0))?, BOTH)?;
        }
        truncate_to_the_same_size_moves_both {
            filled("f", b"x")?;
            same(moved("f", || sys::truncate("f", 1))?, BOTH)?;
        }
        ftruncate_moves_both {
            let fd = filled("f", b"x")?;
            same(moved("f", || sys::ftruncate(&fd, 5))?, BOTH)?;
        }
        truncating_open_moves_both {
            filled("f", b"x")?;
            same(moved("f", || sys::open("f", O_WRONLY | O_TRUNC, 0))?, BOTH)?;
        }
        truncating_open_of_an_empty_file_moves_both {
            file("f", 0o644)?;
            same(moved("f", || sys::open("f", O_WRONLY | O_TRUNC, 0))?, BOTH)?;
        }
        open_moves_neither {
            filled("f", b"x")?;
            same(moved("f", || sys::open("f", O_RDONLY, 0))?, NEITHER)?;
        }
        creating_open_of_an_existing_file_moves_neither {
            filled("f", b"x")?;
            same(moved("f", || sys::open("f", O_WRONLY | libc::O_CREAT, 0o644))?, NEITHER)?;
        }
        chmod_moves_the_change_time {
            file("f", 0o644)?;
            same(moved("f", || sys::chmod("f", 0o600))?, CHANGE_ONLY)?;
        }
        chmod_to_the_same_mode_too {
            file("f", 0o644)?;
            same(moved("f", || sys::chmod("f", 0o644))?, CHANGE_ONLY)?;
        }
        chown_moves_the_change_time {
            file("f", 0o644)?;
            same(moved("f", || sys::chown("f", 1, 1))?, CHANGE_ONLY)?;
        }
        link_moves_the_change_time {
            file("f", 0o644)?;
            same(moved("f", || sys::link("f", "g"))?, CHANGE_ONLY)?;
        }
        unlink_of_another_name_moves_the_change_time {
            file("f", 0o644)?;
            sys::link("f", "g")?;
            same(moved("f", || sys::unlink("g"))?, CHANGE_ONLY)?;
        }
        setxattr_moves_the_change_time {
            file("f", 0o644)?;
            same(moved("f", || sys::setxattr("f", "user.k", b"v", 0))?, CHANGE_ONLY)?;
        }
        removexattr_moves_the_change_time {
            file("f", 0o644)?;
            sys::setxattr("f", "user.k", b"v", 0)?;
            same(moved("f", || sys::removexattr("f", "user.k"))?, CHANGE_ONLY)?;
        }
        rename_moves_the_change_time {
            file("f", 0o644)?;
            sys::link("f", "same file")?;
            same(moved("same file", || sys::rename("f", "g"))?, CHANGE_ONLY)?;
        }
        utimens_moves_the_change_time_with_it {
            file("f", 0o644)?;
            same(moved("f", || sys::utimens("f", [time(1, 1); 2]))?, BOTH)?;
        }
        plain_fallocate_that_extends_moves_both {
            let fd = file("f", 0o644)?;
            same(moved("f", || sys::fallocate(&fd, 0, 0, 4096))?, BOTH)?;
        }
        punch_moves_both {
            let fd = filled("f", &[1; 8192])?;
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            same(moved("f", || sys::fallocate(&fd, mode, 0, 4096))?, BOTH)?;
        }
        copy_file_range_moves_both {
            let from = filled("g", b"x")?;
            let fd = file("f", 0o644)?;
            same(moved("f", || sys::copy_file_range(&from, 0, &fd, 0, 1))?, BOTH)?;
        }
        a_stored_and_synced_page_moves_both {
            let fd = filled("f", &[0; 4096])?;
            let map = sys::Map::new(&fd, 4096, true)?;
            same(moved("f", || { map.store(0, b"x"); map.sync(libc::MS_SYNC) })?, BOTH)?;
        }
        fsync_moves_neither {
            let fd = filled("f", b"x")?;
            same(moved("f", || sys::fsync(&fd))?, NEITHER)?;
        }
        a_failed_call_moves_neither {
            file("f", 0o644)?;
            let refused = || by(A, || sys::chmod("f", 0)).map_or_else(Ok, |()| Err(Errno(0)));
            same(moved("f", refused)?, NEITHER)?;
        }
    }
}

fn moving_directories() -> Vec<Case> {
    cases! { "times of a directory";
        create_moves_both { dir("d", 0o755)?; same(moved("d", || file("d/f", 0o644))?, BOTH)?; }
        mkdir_moves_both { dir("d", 0o755)?; same(moved("d", || dir("d/e", 0o755))?, BOTH)?; }
        symlink_moves_both {
            dir("d", 0o755)?;
            same(moved("d", || sys::symlink("x", "d/l"))?, BOTH)?;
        }
        mkfifo_moves_both {
            dir("d", 0o755)?;
            same(moved("d", || sys::mkfifo("d/p", 0o600))?, BOTH)?;
        }
        link_moves_both {
            dir("d", 0o755)?;
            file("f", 0o644)?;
            same(moved("d", || sys::link("f", "d/f"))?, BOTH)?;
        }
        unlink_moves_both {
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            same(moved("d", || sys::unlink("d/f"))?, BOTH)?;
        }
        rmdir_moves_both {
            dir("d", 0o755)?;
            dir("d/e", 0o755)?;
            same(moved("d", || sys::rmdir("d/e"))?, BOTH)?;
        }
        rename_within_moves_both {
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            same(moved("d", || sys::rename("d/f", "d/g"))?, BOTH)?;
        }
        rename_moves_both_times_of_both {
            dir("d", 0o755)?;
            dir("e", 0o755)?;
            file("d/f", 0o644)?;
            let target = times_of("e")?;
            same(moved("d", || sys::rename("d/f", "e/f"))?, BOTH)?;
            holds(times_of("e")? != target, "the target directory moved, too")?;
        }
        write_in_a_file_below_moves_neither {
            dir("d", 0o755)?;
            let fd = file("d/f", 0o644)?;
            same(moved("d", || sys::write(&fd, b"x"))?, NEITHER)?;
        }
        failed_create_moves_neither {
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            let refused = || sys::mkdir("d/f", 0o755).map_or_else(Ok, |()| Err(Errno(0)));
            same(moved("d", refused)?, NEITHER)?;
        }
        set_time_of_a_parent_stays_while_files_change {
            dir("d", 0o755)?;
            let fd = file("d/f", 0o644)?;
            sys::utimens("d", [time(1, 1), time(2, 2)])?;
            sys::write_all(&fd, b"x", 0)?;
            sys::chmod("d/f", 0o600)?;
            same(modified("d")?, (2, 2))?;
        }
        set_time_of_a_moved_directory_goes_with_it {
            dir("d", 0o755)?;
            sys::utimens("d", [time(1, 1), time(2, 2)])?;
            sys::rename("d", "e")?;
            same(modified("e")?, (2, 2))?;
        }
    }
}
