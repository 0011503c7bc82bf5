//! chmod and chown: who may, and what they and other calls clear.

use super::*;
use libc::{EPERM, O_RDWR, O_TRUNC, O_WRONLY};

const KEEP: u32 = u32::MAX;
/// `security.capability`, version 2, effective, CAP_NET_BIND_SERVICE: what `setcap` writes.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = changing();
    cases.extend(clearing());
    cases
}

fn changing() -> Vec<Case> {
    cases! { "chmod chown";
        chmod_sets_all_twelve_bits {
            file("f", 0)?;
            for bits in [0o7777, 0o4711, 0o2070, 0o1007, 0] {
                sys::chmod("f", bits)?;
                same(mode("f")?, bits)?;
            }
        }
        chmod_follows_links {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            sys::chmod("l", 0o600)?;
            same(mode("f")?, 0o600)?;
        }
        chmod_of_fifo_and_directory {
            sys::mkfifo("p", 0o644)?;
            dir("d", 0o755)?;
            sys::chmod("p", 0o601)?;
            sys::chmod("d", 0o3701)?;
            same((mode("p")?, mode("d")?), (0o601, 0o3701))?;
        }
        chmod_by_the_owner { by(A, || file("f", 0o644))?; by(A, || sys::chmod("f", 0o4755))?; }
        chmod_by_a_stranger { file("f", 0o666)?; fails(EPERM, by(A, || sys::chmod("f", 0o600)))?; }
        chmod_by_the_group_is_not_enough {
            file("f", 0o666)?;
            sys::chown("f", 0, 1001)?;
            fails(EPERM, by(A, || sys::chmod("f", 0o600)))?;
        }
        chmod_of_sgid_outside_ones_groups_clears_it {
            file("f", 0o644)?;
            sys::chown("f", 1001, 5000)?;
            by(A, || sys::chmod("f", 0o2755))?;
            same(mode("f")?, 0o755)?;
        }
        chmod_of_sgid_within_a_supplementary_group {
            file("f", 0o644)?;
            sys::chown("f", 1001, 3001)?;
            by(A, || sys::chmod("f", 0o2755))?;
            same(mode("f")?, 0o2755)?;
        }
        sticky_bit_on_a_file_by_its_owner {
            by(A, || file("f", 0o644))?;
            by(A, || sys::chmod("f", 0o1644))?;
            same(mode("f")?, 0o1644)?;
        }
        fchmod_through_a_reading_descriptor {
            file("f", 0o644)?;
            let fd = sys::open("f", libc::O_RDONLY, 0)?;
            sys::fchmod(&fd, 0o600)?;
            same(mode("f")?, 0o600)?;
        }
        fchmod_of_an_unlinked_file {
            let fd = file("f", 0o644)?;
            sys::unlink("f")?;
            sys::fchmod(&fd, 0o600)?;
            same(sys::fstat(&fd)?.st_mode & 0o7777, 0o600)?;
        }
        chown_by_root_sets_both {
            file("f", 0o644)?;
            sys::chown("f", 70_000, 80_000)?;
            same(owner("f")?, (70_000, 80_000))?;
        }
        chown_keeps_what_is_minus_one {
            file("f", 0o644)?;
            sys::chown("f", 5, KEEP)?;
            sys::chown("f", KEEP, 6)?;
            same(owner("f")?, (5, 6))?;
        }
        chown_follows_and_lchown_does_not {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            sys::lchown("l", 7, 7)?;
            same((owner("f")?, owner("l")?), ((0, 0), (7, 7)))?;
            sys::chown("l", 8, 8)?;
            same((owner("f")?, owner("l")?), ((8, 8), (7, 7)))?;
        }
        giving_a_file_away {
            by(A, || file("f", 0o644))?;
            fails(EPERM, by(A, || sys::chown("f", 1002, KEEP)))?;
        }
        own_file_to_a_supplementary_group {
            by(A, || file("f", 0o644))?;
            by(A, || sys::chown("f", KEEP, 3001))?;
            same(owner("f")?, (1001, 3001))?;
        }
        own_file_to_a_strange_group {
            by(A, || file("f", 0o644))?;
            fails(EPERM, by(A, || sys::chown("f", KEEP, 5000)))?;
        }
        anothers_file_to_ones_own_group {
            file("f", 0o666)?;
            fails(EPERM, by(A, || sys::chown("f", KEEP, 1001)))?;
        }
        chown_of_ones_own_file_to_oneself {
            by(A, || file("f", 0o644))?;
            by(A, || sys::chown("f", 1001, 1001))?;
        }
        fchown_of_an_open_file {
            let fd = file("f", 0o644)?;
            sys::fchown(&fd, 9, 10)?;
            same(owner("f")?, (9, 10))?;
        }
    }
}

/// An executable of A with these bits and a capability.
fn program(bits: u32) -> Sys<OwnedFd> {
    let fd = filled("f", b"program")?;
    sys::chown("f", 1001, 1001)?;
    sys::chmod("f", bits)?;
    sys::setxattr("f", "security.capability", &CAPABILITY, 0)?;
    Ok(fd)
}

fn capability() -> Sys<bool> {
    match sys::getxattr("f", "security.capability") {
        Err(Errno(libc::ENODATA)) => Ok(false),
        other => other.map(|value| !value.is_empty()),
    }
}

fn clearing() -> Vec<Case> {
    cases! { "clearing";
        write_by_the_owner_clears_suid_sgid_and_capability {
            program(0o6755)?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::write(&fd, b"x"))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        write_keeps_sgid_without_group_execution {
            program(0o6745)?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::write(&fd, b"x"))?;
            same(mode("f")?, 0o2745)?;
        }
        write_by_root_clears_the_capability_only {
            let fd = program(0o6755)?;
            sys::write(&fd, b"x")?;
            same((mode("f")?, capability()?), (0o6755, false))?;
        }
        opening_for_writing_clears_nothing {
            program(0o6755)?;
            by(A, || sys::open("f", O_RDWR, 0))?;
            same((mode("f")?, capability()?), (0o6755, true))?;
        }
        truncate_by_the_owner_clears {
            program(0o6755)?;
            by(A, || sys::truncate("f", 1))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        ftruncate_by_the_owner_clears {
            program(0o6755)?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::ftruncate(&fd, 1))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        truncating_open_by_the_owner_clears {
            program(0o6755)?;
            by(A, || sys::open("f", O_WRONLY | O_TRUNC, 0))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        fallocate_by_the_owner_clears {
            program(0o6755)?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::fallocate(&fd, 0, 0, 8192))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        fallocate_keeps_sgid_without_group_execution {
            program(0o6745)?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::fallocate(&fd, 0, 0, 8192))?;
            same(mode("f")?, 0o2745)?;
        }
        every_change_by_a_member_of_the_group_keeps_sgid_without_group_execution {
            // B is no owner, but the file's group is one of B's supplementary ones.
            program(0o2766)?;
            let fd = by(B, || sys::open("f", O_WRONLY, 0))?;
            by(B, || sys::write(&fd, b"x"))?;
            same(mode("f")?, 0o2766)?;
            by(B, || sys::fallocate(&fd, 0, 0, 8192))?;
            same(mode("f")?, 0o2766)?;
            by(B, || sys::ftruncate(&fd, 3))?;
            same(mode("f")?, 0o2766)?;
            by(B, || sys::truncate("f", 2))?;
            same(mode("f")?, 0o2766)?;
        }
        copying_a_range_by_the_owner_clears {
            program(0o6755)?;
            let from = filled("g", b"12345678")?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::copy_file_range(&from, 0, &fd, 0, 8))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        vectored_write_by_the_owner_clears {
            program(0o6755)?;
            let fd = by(A, || sys::open("f", O_WRONLY, 0))?;
            by(A, || sys::writev(&fd, &[b"a", b"b"], None))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        direct_write_by_the_owner_clears {
            program(0o6755)?;
            let fd = by(A, || sys::open("f", O_WRONLY | libc::O_DIRECT, 0))?;
            by(A, || sys::write(&fd, sys::Aligned::new(4096, 1).as_ref()))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        chown_by_root_clears {
            program(0o6755)?;
            sys::chown("f", 1002, KEEP)?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        chown_keeps_sgid_without_group_execution {
            program(0o6745)?;
            sys::chown("f", 1002, KEEP)?;
            same(mode("f")?, 0o2745)?;
        }
        chown_to_the_same_owner_clears_too {
            program(0o6755)?;
            sys::chown("f", 1001, 1001)?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        chgrp_by_the_owner_clears {
            program(0o6755)?;
            by(A, || sys::chown("f", KEEP, 3001))?;
            same((mode("f")?, capability()?), (0o755, false))?;
        }
        chown_of_nothing_clears_as_the_local_file_system_does {
            program(0o6755)?;
            sys::chown("f", KEEP, KEEP)?;
            same(mode("f")?, 0o755)?;
        }
        chown_keeps_the_bits_of_a_directory {
            dir("d", 0o6755)?;
            sys::chown("d", 1001, 1001)?;
            same(mode("d")?, 0o6755)?;
        }
        chmod_keeps_the_capability {
            program(0o755)?;
            sys::chmod("f", 0o700)?;
            same(capability()?, true)?;
        }
        utimens_and_rename_keep_everything {
            program(0o6755)?;
            by(A, || sys::utimens("f", [sys::time(1, 0); 2]))?;
            by(A, || sys::rename("f", "g"))?;
            by(A, || sys::rename("g", "f"))?;
            same((mode("f")?, capability()?), (0o6755, true))?;
        }
        store_through_a_mapping_keeps_the_bits {
            // As a local file system: a page fault is no write call.
            program(0o4755)?;
            let fd = by(A, || sys::open("f", O_RDWR, 0))?;
            let map = by(A, || sys::Map::new(&fd, 7, true))?;
            by(A, || map.store(0, b"P"));
            map.sync(libc::MS_SYNC)?;
            same((mode("f")?, content("f")?), (0o4755, b"Program".to_vec()))?;
        }
    }
}
