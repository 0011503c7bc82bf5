//! open: flags, modes and rights.

use super::*;
use libc::{EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, EPERM};
use libc::{O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_PATH};
use libc::{O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = plain();
    cases.extend(rights());
    cases.extend(permission_matrix());
    cases
}

fn plain() -> Vec<Case> {
    cases! { "open";
        create_applies_the_umask {
            sys::umask(0o137);
            sys::open("f", O_CREAT | O_WRONLY, 0o777)?;
            same(mode("f")?, 0o640)?;
        }
        create_keeps_suid_for_its_maker {
            by(A, || sys::open("f", O_CREAT | O_WRONLY, 0o4755))?;
            same(mode("f")?, 0o4755)?;
        }
        create_belongs_to_its_maker {
            by(A, || sys::open("f", O_CREAT | O_WRONLY, 0o644))?;
            same(owner("f")?, (1001, 1001))?;
        }
        create_with_mode_0_still_gives_a_writable_descriptor {
            let fd = by(A, || sys::open("f", O_CREAT | O_RDWR, 0))?;
            sys::write_all(&fd, b"x", 0)?;
            same(mode("f")?, 0)?;
        }
        create_of_an_existing_file_changes_nothing {
            filled("f", b"old")?;
            sys::open("f", O_CREAT | O_WRONLY, 0o777)?;
            same((content("f")?, mode("f")?), (b"old".to_vec(), 0o644))?;
        }
        exclusive_create_of_an_existing_file {
            file("f", 0o644)?;
            fails(EEXIST, sys::open("f", O_CREAT | O_EXCL | O_WRONLY, 0o644))?;
        }
        exclusive_create_does_not_follow_links {
            sys::symlink("f", "l")?;
            fails(EEXIST, sys::open("l", O_CREAT | O_EXCL | O_WRONLY, 0o644))?;
            fails(ENOENT, sys::lstat("f"))?;
        }
        create_follows_a_dangling_link {
            sys::symlink("f", "l")?;
            sys::open("l", O_CREAT | O_WRONLY, 0o644)?;
            same(kind("f")?, libc::S_IFREG)?;
        }
        nofollow_of_a_link {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            fails(ELOOP, sys::open("l", O_RDONLY | O_NOFOLLOW, 0))?;
        }
        directory_flag_on_a_file {
            file("f", 0o644)?;
            fails(ENOTDIR, sys::open("f", O_RDONLY | O_DIRECTORY, 0))?;
        }
        writing_a_directory {
            dir("d", 0o777)?;
            fails(EISDIR, sys::open("d", O_WRONLY, 0))?;
            fails(EISDIR, sys::open("d", O_RDWR, 0))?;
        }
        creating_a_directory_by_open {
            dir("d", 0o777)?;
            fails(EISDIR, sys::open("d", O_CREAT | O_RDONLY, 0o644))?;
        }
        reading_a_directory_as_a_file {
            dir("d", 0o777)?;
            let fd = sys::open("d", O_RDONLY, 0)?;
            fails(EISDIR, sys::read(&fd, &mut [0; 9]))?;
        }
        truncating_open {
            filled("f", b"old")?;
            sys::open("f", O_WRONLY | O_TRUNC, 0)?;
            same(size("f")?, 0)?;
        }
        appending_open_writes_at_the_end {
            filled("f", b"one")?;
            let fd = sys::open("f", O_WRONLY | O_APPEND, 0)?;
            sys::write(&fd, b"two")?;
            sys::lseek(&fd, 0, libc::SEEK_SET)?;
            sys::write(&fd, b"three")?;
            // Linux: even a write at a position goes to the end.
            sys::pwrite(&fd, b"four", 0)?;
            same(content("f")?, b"onetwothreefour".to_vec())?;
        }
        two_appenders_do_not_overwrite_each_other {
            file("f", 0o644)?;
            let one = sys::open("f", O_WRONLY | O_APPEND, 0)?;
            let two = sys::open("f", O_WRONLY | O_APPEND, 0)?;
            for _ in 0..50 {
                sys::write(&one, b"1")?;
                sys::write(&two, b"2")?;
            }
            same(content("f")?, b"12".repeat(50))?;
        }
        path_descriptor_gives_no_data {
            filled("f", b"x")?;
            let fd = sys::open("f", O_PATH, 0)?;
            fails(libc::EBADF, sys::pread(&fd, &mut [0; 1], 0))?;
            same(sys::fstat(&fd)?.st_size, 1)?;
        }
        path_descriptor_of_a_link {
            sys::symlink("none", "l")?;
            let fd = sys::open("l", O_PATH | O_NOFOLLOW, 0)?;
            same(sys::fstat(&fd)?.st_mode & libc::S_IFMT, libc::S_IFLNK)?;
        }
        write_through_a_reading_descriptor {
            file("f", 0o644)?;
            let fd = sys::open("f", O_RDONLY, 0)?;
            fails(libc::EBADF, sys::write(&fd, b"x"))?;
        }
        read_through_a_writing_descriptor {
            file("f", 0o644)?;
            let fd = sys::open("f", O_WRONLY, 0)?;
            fails(libc::EBADF, sys::read(&fd, &mut [0; 1]))?;
        }
        openat_follows_the_descriptor_not_the_name {
            use std::os::fd::AsRawFd;
            dir("d", 0o755)?;
            filled("d/f", b"x")?;
            let held = sys::open("d", O_RDONLY | O_DIRECTORY, 0)?;
            sys::rename("d", "e")?;
            sys::openat(held.as_raw_fd(), "f", O_RDONLY, 0)?;
        }
        temporary_file_without_a_name {
            let fd = sys::open(".", libc::O_TMPFILE | O_RDWR, 0o600)?;
            sys::write_all(&fd, b"hidden", 0)?;
            same((sys::names(".")?.len(), sys::fstat(&fd)?.st_nlink), (0, 0))?;
            same(sys::read_all(&fd, 0, 9)?, b"hidden".to_vec())?;
        }
        temporary_file_gets_a_name {
            let fd = sys::open(".", libc::O_TMPFILE | O_RDWR, 0o640)?;
            sys::write_all(&fd, b"hidden", 0)?;
            sys::link_open(&fd, "f")?;
            same((content("f")?, mode("f")?, links("f")?), (b"hidden".to_vec(), 0o640, 1))?;
        }
        temporary_file_made_exclusively_gets_no_name {
            let fd = sys::open(".", libc::O_TMPFILE | O_RDWR | O_EXCL, 0o600)?;
            fails(ENOENT, sys::link_open(&fd, "f"))?;
        }
        temporary_file_needs_a_writable_descriptor {
            fails(EINVAL, sys::open(".", libc::O_TMPFILE | O_RDONLY, 0o600))?;
        }
    }
}

fn rights() -> Vec<Case> {
    cases! { "rights";
        supplementary_group_gives_its_rights {
            file("f", 0o640)?;
            sys::chown("f", 0, 3001)?;
            by(A, || sys::open("f", O_RDONLY, 0))?;
            fails(EACCES, by(A, || sys::open("f", O_WRONLY, 0)))?;
            fails(EACCES, by(B, || sys::open("f", O_RDONLY, 0)))?;
        }
        supplementary_group_lets_one_make_names {
            dir("d", 0o770)?;
            sys::chown("d", 0, 1001)?;
            by(B, || file("d/f", 0o644))?;
            same(owner("d/f")?, (1002, 1002))?;
        }
        the_owners_bits_alone_count_for_the_owner {
            file("f", 0o066)?;
            sys::chown("f", 1001, 1001)?;
            fails(EACCES, by(A, || sys::open("f", O_RDONLY, 0)))?;
            by(B, || sys::open("f", O_RDONLY, 0))?;
        }
        the_groups_bits_count_before_the_others {
            file("f", 0o606)?;
            sys::chown("f", 0, 1001)?;
            fails(EACCES, by(B, || sys::open("f", O_RDONLY, 0)))?;
        }
        root_reads_and_writes_without_bits {
            file("f", 0o000)?;
            sys::open("f", O_RDWR, 0)?;
        }
        root_searches_without_bits {
            dir("d", 0o000)?;
            file("d/f", 0o600)?;
        }
        descriptor_outlives_a_lost_right {
            let fd = by(A, || file("f", 0o644))?;
            sys::chown("f", 0, 0)?;
            sys::chmod("f", 0)?;
            by(A, || sys::write_all(&fd, b"x", 0))?;
            fails(EACCES, by(A, || sys::open("f", O_RDONLY, 0)))?;
        }
        search_right_is_checked_at_every_use {
            dir("d", 0o755)?;
            filled("d/f", b"x")?;
            by(A, || content("d/f"))?;
            sys::chmod("d", 0o700)?;
            fails(EACCES, by(A, || content("d/f")))?;
            sys::chmod("d", 0o755)?;
            by(A, || content("d/f"))?;
        }
        noatime_is_for_the_owner {
            file("f", 0o644)?;
            fails(EPERM, by(A, || sys::open("f", O_RDONLY | O_NOATIME, 0)))?;
        }
        truncating_needs_the_write_right {
            filled("f", b"keep")?;
            fails(EACCES, by(A, || sys::open("f", O_RDONLY | O_TRUNC, 0)))?;
            fails(EACCES, by(A, || sys::truncate("f", 0)))?;
            same(size("f")?, 4)?;
        }
        writing_a_strangers_file_in_a_sticky_directory_is_guarded {
            // fs.protected_regular guards only what exists; making is always allowed.
            dir("s", 0o1777)?;
            by(A, || sys::open("s/f", O_CREAT | O_WRONLY, 0o644))?;
            same(owner("s/f")?, (1001, 1001))?;
        }
    }
}

/// Every combination of who asks and which bit is set: `access` and `open` must agree with it.
fn permission_matrix() -> Vec<Case> {
    let mut cases = Vec::new();
    for (class, shift) in [("owner", 6), ("group", 3), ("other", 0)] {
        for bits in 0..8_u32 {
            let run = move || -> Check {
                file("f", bits << shift)?;
                let (uid, gid) = match class {
                    "owner" => (A.uid, 0),
                    "group" => (0, A.groups[0]),
                    _ => (0, 0),
                };
                sys::chown("f", uid, gid)?;
                for (bit, access, flags) in [(4, libc::R_OK, O_RDONLY), (2, libc::W_OK, O_WRONLY)] {
                    let expected = if bits & bit != 0 {
                        Ok(())
                    } else {
                        Err(Errno(EACCES))
                    };
                    same(by(A, || sys::access("f", access)), expected)?;
                    same(by(A, || sys::open("f", flags, 0).map(drop)), expected)?;
                }
                let expected = if bits & 1 != 0 {
                    Ok(())
                } else {
                    Err(Errno(EACCES))
                };
                same(by(A, || sys::access("f", libc::X_OK)), expected)
            };
            let name = format!("{class} with bits {bits}");
            cases.push(Case {
                group: "permissions",
                name,
                run: Box::new(run),
            });
        }
    }
    cases
}
