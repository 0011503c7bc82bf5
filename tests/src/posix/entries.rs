//! Making and removing names: mkdir, rmdir, unlink, symlink, link, mkfifo, mknod, and reading
//! directories.

use super::*;
use crate::sys::{Dir, umask};
use libc::{EBUSY, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EXDEV};
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;

pub(super) fn cases() -> Vec<Case> {
    [directories(), links_and_nodes(), listing()]
        .into_iter()
        .flatten()
        .collect()
}

fn directories() -> Vec<Case> {
    cases! { "directory";
        mkdir_applies_the_umask {
            umask(0o027);
            sys::mkdir("d", 0o777)?;
            same(mode("d")?, 0o750)?;
        }
        mkdir_keeps_the_sticky_bit { sys::mkdir("d", 0o1777)?; same(mode("d")?, 0o1755)?; }
        mkdir_drops_suid { sys::mkdir("d", 0o4755)?; same(mode("d")?, 0o755)?; }
        mkdir_belongs_to_its_maker {
            by(A, || sys::mkdir("d", 0o755))?;
            same(owner("d")?, (1001, 1001))?;
        }
        mkdir_starts_with_two_links { sys::mkdir("d", 0o755)?; same(links("d")?, 2)?; }
        mkdir_adds_a_link_to_its_parent {
            sys::mkdir("d", 0o755)?;
            sys::mkdir("d/e", 0o755)?;
            same(links("d")?, 3)?;
            sys::rmdir("d/e")?;
            same(links("d")?, 2)?;
        }
        mkdir_accepts_a_trailing_slash {
            sys::mkdir("d/", 0o755)?;
            same(kind("d")?, libc::S_IFDIR)?;
        }
        mkdir_of_dot { fails(EEXIST, sys::mkdir(".", 0o755))?; }
        mkdir_in_a_sgid_directory_takes_group_and_bit {
            dir("g", 0o777)?;
            sys::chown("g", 0, 5000)?;
            sys::chmod("g", 0o2777)?;
            by(A, || sys::mkdir("g/d", 0o755))?;
            same(owner("g/d")?, (1001, 5000))?;
            same(mode("g/d")?, 0o2755)?;
        }
        file_in_a_sgid_directory_takes_the_group_only {
            dir("g", 0o777)?;
            sys::chown("g", 0, 5000)?;
            sys::chmod("g", 0o2777)?;
            by(A, || sys::open("g/f", libc::O_CREAT | libc::O_WRONLY, 0o644))?;
            same(owner("g/f")?, (1001, 5000))?;
            same(mode("g/f")?, 0o644)?;
        }
        fifo_and_link_in_a_sgid_directory_take_the_group {
            dir("g", 0o777)?;
            sys::chown("g", 0, 5000)?;
            sys::chmod("g", 0o2777)?;
            by(A, || sys::mkfifo("g/p", 0o644))?;
            by(A, || sys::symlink("x", "g/l"))?;
            same((owner("g/p")?, owner("g/l")?), ((1001, 5000), (1001, 5000)))?;
        }
        sgid_file_made_by_a_stranger_of_the_group_loses_the_bit {
            dir("g", 0o777)?;
            sys::chown("g", 0, 5000)?;
            sys::chmod("g", 0o2777)?;
            by(A, || sys::open("g/f", libc::O_CREAT | libc::O_WRONLY, 0o2775))?;
            same(mode("g/f")?, 0o755)?;
        }
        sgid_file_made_by_a_member_of_the_group_keeps_the_bit {
            // B is in the group by a supplementary one only.
            dir("g", 0o777)?;
            sys::chown("g", 0, 1001)?;
            sys::chmod("g", 0o2777)?;
            by(B, || sys::open("g/f", libc::O_CREAT | libc::O_WRONLY, 0o2775))?;
            by(B, || sys::mknod("g/n", libc::S_IFREG | 0o2775, 0))?;
            same((mode("g/f")?, mode("g/n")?), (0o2755, 0o2755))?;
            same(owner("g/f")?, (1002, 1001))?;
        }
        rmdir_of_a_full_directory {
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            fails(ENOTEMPTY, sys::rmdir("d"))?;
        }
        rmdir_of_a_file { file("f", 0o644)?; fails(ENOTDIR, sys::rmdir("f"))?; }
        rmdir_of_a_link {
            dir("d", 0o755)?;
            sys::symlink("d", "l")?;
            fails(ENOTDIR, sys::rmdir("l"))?;
        }
        rmdir_of_dot { dir("d", 0o755)?; fails(EINVAL, sys::rmdir("d/."))?; }
        rmdir_of_dot_dot {
            dir("d", 0o755)?;
            dir("d/e", 0o755)?;
            fails(ENOTEMPTY, sys::rmdir("d/e/.."))?;
        }
        rmdir_of_the_working_directory {
            dir("d", 0o755)?;
            let back = sys::open(".", libc::O_RDONLY, 0)?;
            sys::chdir("d")?;
            sys::rmdir("../d")?;
            fails(ENOENT, sys::lstat("x"))?;
            same(sys::names(".")?.len(), 0)?;
            sys::fchdir(&back)?;
        }
        removed_directory_has_no_links {
            dir("d", 0o755)?;
            let held = sys::open("d", libc::O_RDONLY, 0)?;
            sys::rmdir("d")?;
            same(sys::fstat(&held)?.st_nlink, 0)?;
        }
        removed_directory_never_touched_before_has_no_links {
            sys::mkdir("d", 0o755)?;
            let held = sys::open("d", libc::O_RDONLY, 0)?;
            sys::rmdir("d")?;
            same(sys::fstat(&held)?.st_nlink, 0)?;
            fails(libc::ENOENT, sys::openat(held.as_raw_fd(), "x", libc::O_RDONLY, 0))?;
        }
        unlink_of_a_directory { dir("d", 0o755)?; fails(EISDIR, sys::unlink("d"))?; }
        unlink_with_a_trailing_slash { file("f", 0o644)?; fails(ENOTDIR, sys::unlink("f/"))?; }
        unlink_takes_the_link_not_its_target {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            sys::unlink("l")?;
            sys::lstat("f")?;
        }
        unlink_needs_no_right_on_the_file {
            file("f", 0o000)?;
            by(A, || sys::unlink("f"))?;
        }
        a_path_of_many_directories {
            let mut deep = String::from("d");
            for _ in 0..60 {
                sys::mkdir(&deep, 0o755)?;
                deep += "/a name of some length";
            }
            sys::mkdir(&deep, 0o755)?;
            file(&format!("{deep}/f"), 0o600)?;
        }
    }
}

fn links_and_nodes() -> Vec<Case> {
    cases! { "links and nodes";
        symlink_keeps_its_target_to_the_byte {
            sys::symlink(b"//x/../\xff \n", "l")?;
            same(sys::readlink("l")?, b"//x/../\xff \n".to_vec())?;
            same(size("l")?, 10)?;
        }
        symlink_of_4095_bytes {
            let target = vec![b't'; 4095];
            sys::symlink(&target, "l")?;
            same(sys::readlink("l")?, target)?;
        }
        symlink_of_4096_bytes { fails(libc::ENAMETOOLONG, sys::symlink(vec![b't'; 4096], "l"))?; }
        symlink_to_nothing { fails(ENOENT, sys::symlink("", "l"))?; }
        symlink_has_all_rights { umask(0o077); sys::symlink("x", "l")?; same(mode("l")?, 0o777)?; }
        symlink_belongs_to_its_maker {
            by(A, || sys::symlink("x", "l"))?;
            same(owner("l")?, (1001, 1001))?;
        }
        symlink_is_followed_at_the_end_and_in_the_middle {
            dir("d", 0o755)?;
            filled("d/f", b"x")?;
            sys::symlink("d", "l")?;
            sys::symlink("l/f", "m")?;
            same(content("m")?, b"x".to_vec())?;
            same(content("l/f")?, b"x".to_vec())?;
        }
        forty_links_are_followed_and_no_more {
            filled("0", b"x")?;
            for at in 0..41 {
                sys::symlink(at.to_string(), (at + 1).to_string())?;
            }
            same(content("40")?, b"x".to_vec())?;
            fails(ELOOP, sys::stat("41"))?;
        }
        readlink_of_a_file { file("f", 0o644)?; fails(EINVAL, sys::readlink("f"))?; }
        link_shares_everything {
            filled("a", b"x")?;
            sys::link("a", "b")?;
            same((links("a")?, links("b")?), (2, 2))?;
            same(sys::lstat("a")?.st_ino, sys::lstat("b")?.st_ino)?;
            sys::chmod("b", 0o600)?;
            same(mode("a")?, 0o600)?;
            sys::truncate("b", 0)?;
            same(size("a")?, 0)?;
        }
        link_survives_its_first_name {
            filled("a", b"x")?;
            sys::link("a", "b")?;
            sys::unlink("a")?;
            same((links("b")?, content("b")?), (1, b"x".to_vec()))?;
        }
        link_of_a_directory { dir("d", 0o755)?; fails(EPERM, sys::link("d", "e"))?; }
        link_of_a_symlink_links_the_link {
            sys::symlink("none", "l")?;
            sys::link("l", "m")?;
            same(sys::readlink("m")?, b"none".to_vec())?;
            same(links("l")?, 2)?;
        }
        link_following_links_the_target {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            sys::link_follow("l", "m")?;
            same(kind("m")?, libc::S_IFREG)?;
        }
        link_of_a_strangers_file_is_protected {
            // fs.protected_hardlinks, on by default: no link to what one could not write.
            file("f", 0o644)?;
            let answer = by(A, || sys::link("f", "g"));
            holds(matches!(answer, Ok(()) | Err(Errno(EPERM))), "linked or EPERM")?;
            same(links("f")?, if answer.is_ok() { 2 } else { 1 })?;
        }
        link_to_another_file_system { fails(EXDEV, sys::link("/proc/self/status", "x"))?; }
        a_thousand_links_to_one_file {
            file("f", 0o644)?;
            for at in 0..1000 {
                sys::link("f", format!("l{at}"))?;
            }
            same(links("f")?, 1001)?;
        }
        fifo_has_its_type_and_mode {
            sys::mkfifo("p", 0o666)?;
            same((kind("p")?, mode("p")?), (libc::S_IFIFO, 0o644))?;
        }
        fifo_carries_bytes {
            sys::mkfifo("p", 0o600)?;
            let reader = sys::open("p", libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
            let writer = sys::open("p", libc::O_WRONLY, 0)?;
            sys::write(&writer, b"through")?;
            let mut data = [0; 7];
            sys::read(&reader, &mut data)?;
            same(&data, b"through")?;
            same(size("p")?, 0)?;
        }
        fifo_without_reader {
            sys::mkfifo("p", 0o600)?;
            fails(libc::ENXIO, sys::open("p", libc::O_WRONLY | libc::O_NONBLOCK, 0))?;
        }
        socket_node {
            sys::mknod("s", libc::S_IFSOCK | 0o644, 0)?;
            same(kind("s")?, libc::S_IFSOCK)?;
            fails(libc::ENXIO, sys::open("s", libc::O_RDONLY, 0))?;
        }
        socket_of_a_server_takes_connections {
            let server = std::os::unix::net::UnixListener::bind("s")?;
            std::os::unix::net::UnixStream::connect("s")?;
            drop(server);
            same(kind("s")?, libc::S_IFSOCK)?;
        }
        device_node_by_root {
            sys::mknod("n", libc::S_IFCHR | 0o600, libc::makedev(1, 3))?;
            same((kind("n")?, sys::lstat("n")?.st_rdev), (libc::S_IFCHR, libc::makedev(1, 3)))?;
        }
        device_node_by_a_user {
            fails(EPERM, by(A, || sys::mknod("n", libc::S_IFBLK | 0o600, libc::makedev(1, 3))))?;
        }
        mknod_makes_a_plain_file {
            sys::mknod("f", libc::S_IFREG | 0o666, 0)?;
            same((kind("f")?, mode("f")?), (libc::S_IFREG, 0o644))?;
        }
        mknod_of_a_directory {
            fails(EPERM, sys::mknod("d", libc::S_IFDIR | 0o755, 0))?;
        }
        the_root_of_a_mount_is_busy { fails(EBUSY, sys::rmdir("/proc"))?; }
    }
}

fn listing() -> Vec<Case> {
    cases! { "readdir";
        ten_thousand_entries_each_once {
            let name = |at| format!("file number {at}").into_bytes();
            let expected: BTreeSet<Vec<u8>> = (0..10_000).map(name).collect();
            for name in &expected {
                sys::mknod(name, libc::S_IFREG | 0o600, 0)?;
            }
            let found = Dir::open(".")?.rest()?;
            same(found.len(), 10_000)?;
            same(found.into_iter().map(|entry| entry.name).collect(), expected)?;
        }
        entries_carry_type_and_inode {
            file("f", 0o644)?;
            dir("d", 0o755)?;
            sys::symlink("x", "l")?;
            sys::mkfifo("p", 0o600)?;
            for entry in Dir::open(".")?.rest()? {
                let stat = sys::lstat(&entry.name)?;
                same(entry.inode, stat.st_ino)?;
                same(u32::from(entry.kind) << 12, stat.st_mode & libc::S_IFMT)?;
            }
        }
        dot_and_dot_dot_are_there {
            dir("d", 0o755)?;
            let mut stream = Dir::open("d")?;
            let mut names = BTreeSet::new();
            while let Some(entry) = stream.next_entry()? {
                names.insert((entry.name, entry.inode));
            }
            let own = (b".".to_vec(), sys::lstat("d")?.st_ino);
            let parent = (b"..".to_vec(), sys::lstat(".")?.st_ino);
            same(names, BTreeSet::from([own, parent]))?;
        }
        positions_lead_back_to_the_same_entry {
            for at in 0..300 {
                file(&format!("name {at}"), 0o600)?;
            }
            let mut stream = Dir::open(".")?;
            let mut seen = Vec::new();
            loop {
                let position = stream.tell();
                let Some(entry) = stream.next_entry()? else { break };
                seen.push((position, entry.name));
            }
            same(seen.len(), 302)?;
            for (position, name) in seen.iter().rev().step_by(7) {
                stream.seek(*position);
                same(stream.next_entry()?.map(|entry| entry.name), Some(name.clone()))?;
            }
        }
        rewind_shows_what_came_later {
            file("a", 0o600)?;
            let mut stream = Dir::open(".")?;
            same(stream.rest()?.len(), 1)?;
            file("b", 0o600)?;
            stream.rewind();
            same(stream.rest()?.len(), 2)?;
        }
        removing_while_reading_skips_nobody_else {
            for at in 0..2000 {
                file(&format!("name {at}"), 0o600)?;
            }
            let mut stream = Dir::open(".")?;
            let mut removed = 0;
            while let Some(entry) = stream.next_entry()? {
                if entry.name.starts_with(b"name") {
                    sys::unlink(&entry.name)?;
                    removed += 1;
                }
            }
            same(removed, 2000)?;
            same(sys::names(".")?.len(), 0)?;
        }
        adding_while_reading_repeats_nobody {
            for at in 0..500 {
                file(&format!("old {at}"), 0o600)?;
            }
            let mut stream = Dir::open(".")?;
            let mut old = Vec::new();
            while let Some(entry) = stream.next_entry()? {
                if entry.name.starts_with(b"old") {
                    file(&format!("new {}", old.len()), 0o600)?;
                    old.push(entry.name);
                }
            }
            same(old.len(), 500)?;
            old.sort();
            old.dedup();
            same(old.len(), 500)?;
        }
        reading_needs_the_read_right {
            dir("d", 0o711)?;
            fails(libc::EACCES, by(A, || Dir::open("d").map(drop)))?;
        }
        a_name_is_gone_and_new_at_once {
            file("a", 0o600)?;
            sys::rename("a", "b")?;
            same(sys::names(".")?, vec![b"b".to_vec()])?;
            sys::unlink("b")?;
            same(sys::names(".")?.len(), 0)?;
        }
    }
}
