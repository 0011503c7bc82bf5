//! What an open descriptor keeps: files without a name, locks, and the file system's own figures.

use super::*;
use libc::{EAGAIN, F_GETLK, F_OFD_SETLK, F_RDLCK, F_SETLK, F_UNLCK, F_WRLCK};
use libc::{LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, O_RDWR};
use std::thread;

pub(super) fn cases() -> Vec<Case> {
    [unlinked(), locks(), figures()]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs `act` where record locks belong to somebody else, as in another process.
fn elsewhere<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let handle = scope.spawn(|| {
            sys::private_files().expect("unshare(CLONE_FILES) needs no right");
            act()
        });
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn unlinked() -> Vec<Case> {
    cases! { "unlinked";
        open_file_lives_on {
            let fd = filled("f", b"before")?;
            sys::unlink("f")?;
            same(sys::fstat(&fd)?.st_nlink, 0)?;
            sys::write_all(&fd, b"after!", 3)?;
            same(sys::read_all(&fd, 0, 99)?, b"befafter!".to_vec())?;
        }
        a_new_file_of_the_same_name_is_another {
            let old = filled("f", b"old")?;
            sys::unlink("f")?;
            let new = filled("f", b"new")?;
            sys::write_all(&old, b"OLD", 0)?;
            same(content("f")?, b"new".to_vec())?;
            holds(sys::fstat(&old)?.st_ino != sys::fstat(&new)?.st_ino, "another inode")?;
        }
        two_descriptors_share_the_nameless_file {
            let one = filled("f", b"x")?;
            let two = sys::open("f", O_RDWR, 0)?;
            sys::unlink("f")?;
            sys::write_all(&one, b"shared", 0)?;
            drop(one);
            same(sys::read_all(&two, 0, 9)?, b"shared".to_vec())?;
        }
        every_call_on_a_descriptor_still_works {
            let fd = filled("f", &[1; 10_000])?;
            sys::unlink("f")?;
            sys::fchmod(&fd, 0o600)?;
            sys::fchown(&fd, 1, 2)?;
            sys::futimens(&fd, [sys::time(3, 4); 2])?;
            sys::fsetxattr(&fd, "user.k", b"v", 0)?;
            sys::fallocate(&fd, 0, 0, 20_000)?;
            sys::fsync(&fd)?;
            let stat = sys::fstat(&fd)?;
            let found = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, stat.st_size);
            same(found, (0o600, 1, 2, 20_000))?;
        }
        replaced_file_lives_on {
            let old = filled("f", b"old")?;
            filled("g", b"new")?;
            sys::rename("g", "f")?;
            sys::write_all(&old, b"OLD", 0)?;
            same((sys::read_all(&old, 0, 9)?, content("f")?), (b"OLD".to_vec(), b"new".to_vec()))?;
        }
        nameless_file_gets_no_name_back {
            let fd = filled("f", b"x")?;
            sys::unlink("f")?;
            fails(libc::ENOENT, sys::link_open(&fd, "g"))?;
        }
        a_hundred_nameless_files {
            let mut open = Vec::new();
            for at in 0..100_u8 {
                let fd = filled("f", &[at; 1000])?;
                sys::unlink("f")?;
                open.push(fd);
            }
            for (at, fd) in open.iter().enumerate() {
                same(sys::read_all(fd, 0, 2000)?, vec![at as u8; 1000])?;
            }
        }
    }
}

fn locks() -> Vec<Case> {
    cases! { "locks";
        record_lock_excludes_another_process {
            let fd = filled("f", &[0; 100])?;
            sys::record_lock(&fd, F_SETLK, F_WRLCK, 10, 10)?;
            let (inside, outside) = elsewhere(|| {
                let fd = sys::open("f", O_RDWR, 0)?;
                let inside = sys::record_lock(&fd, F_SETLK, F_RDLCK, 15, 1);
                Ok::<_, Errno>((inside, sys::record_lock(&fd, F_SETLK, F_WRLCK, 20, 1)))
            })?;
            fails(EAGAIN, inside)?;
            outside?;
        }
        record_lock_tells_who_holds_it {
            let fd = filled("f", &[0; 100])?;
            sys::record_lock(&fd, F_SETLK, F_WRLCK, 0, 0)?;
            let look = || sys::record_lock(&sys::open("f", O_RDWR, 0)?, F_GETLK, F_RDLCK, 0, 1);
            let seen = elsewhere(look)?;
            same(seen, F_WRLCK)?;
            sys::record_lock(&fd, F_SETLK, F_UNLCK, 0, 0)?;
            let look = || sys::record_lock(&sys::open("f", O_RDWR, 0)?, F_GETLK, F_RDLCK, 0, 1);
            let seen = elsewhere(look)?;
            same(seen, F_UNLCK)?;
        }
        shared_record_locks_live_together {
            let fd = filled("f", &[0; 100])?;
            sys::record_lock(&fd, F_SETLK, F_RDLCK, 0, 0)?;
            let answers = elsewhere(|| {
                let fd = sys::open("f", O_RDWR, 0)?;
                let shared = sys::record_lock(&fd, F_SETLK, F_RDLCK, 0, 0);
                Ok::<_, Errno>((shared, sys::record_lock(&fd, F_SETLK, F_WRLCK, 0, 0)))
            })?;
            answers.0?;
            fails(EAGAIN, answers.1)?;
        }
        record_locks_go_with_the_first_close {
            let fd = filled("f", &[0; 100])?;
            sys::record_lock(&fd, F_SETLK, F_WRLCK, 0, 0)?;
            drop(sys::open("f", O_RDWR, 0)?);
            elsewhere(|| sys::record_lock(&sys::open("f", O_RDWR, 0)?, F_SETLK, F_WRLCK, 0, 0))?;
        }
        description_locks_belong_to_the_description {
            let one = filled("f", &[0; 100])?;
            let two = sys::open("f", O_RDWR, 0)?;
            sys::record_lock(&one, F_OFD_SETLK, F_WRLCK, 0, 0)?;
            fails(EAGAIN, sys::record_lock(&two, F_OFD_SETLK, F_RDLCK, 0, 0))?;
            drop(one);
            sys::record_lock(&two, F_OFD_SETLK, F_RDLCK, 0, 0)?;
        }
        flock_excludes_and_is_released_by_close {
            let one = filled("f", b"")?;
            let two = sys::open("f", O_RDWR, 0)?;
            sys::flock(&one, LOCK_EX)?;
            fails(EAGAIN, sys::flock(&two, LOCK_SH | LOCK_NB))?;
            drop(one);
            sys::flock(&two, LOCK_EX | LOCK_NB)?;
        }
        flock_is_shared_upgraded_and_dropped {
            let one = filled("f", b"")?;
            let two = sys::open("f", O_RDWR, 0)?;
            sys::flock(&one, LOCK_SH)?;
            sys::flock(&two, LOCK_SH)?;
            fails(EAGAIN, sys::flock(&one, LOCK_EX | LOCK_NB))?;
            sys::flock(&two, LOCK_UN)?;
            sys::flock(&one, LOCK_EX | LOCK_NB)?;
        }
        flock_and_record_locks_do_not_meet {
            let one = filled("f", b"")?;
            sys::flock(&one, LOCK_EX)?;
            elsewhere(|| sys::record_lock(&sys::open("f", O_RDWR, 0)?, F_SETLK, F_WRLCK, 0, 0))?;
        }
        a_waiting_lock_is_granted_on_release {
            let one = filled("f", b"")?;
            sys::flock(&one, LOCK_EX)?;
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    sys::flock(&sys::open("f", O_RDWR, 0)?, LOCK_EX)
                });
                thread::sleep(std::time::Duration::from_millis(20));
                sys::flock(&one, LOCK_UN)?;
                waiter.join().map_err(|_| Errno(libc::EIO))?
            })?;
        }
    }
}

fn figures() -> Vec<Case> {
    cases! { "statfs";
        figures_fit_together {
            let stat = sys::statfs(".")?;
            holds(stat.f_blocks >= stat.f_bfree && stat.f_bfree >= stat.f_bavail, "blocks")?;
            holds(stat.f_files >= stat.f_ffree && stat.f_files > 0, "inodes")?;
            holds(stat.f_bsize > 0 && stat.f_frsize > 0, "block sizes")?;
            same(stat.f_namelen, 255)?;
        }
        by_descriptor_and_by_name_agree {
            let here = sys::open(".", libc::O_RDONLY, 0)?;
            let (one, two) = (sys::statfs(".")?, sys::fstatfs(&here)?);
            same((one.f_blocks, one.f_files), (two.f_blocks, two.f_files))?;
        }
        written_data_takes_space {
            let fd = file("f", 0o644)?;
            let before = sys::statfs(".")?;
            sys::write_all(&fd, &vec![1; 8 << 20], 0)?;
            sys::fsync(&fd)?;
            let after = sys::statfs(".")?;
            let taken = before.f_bfree.saturating_sub(after.f_bfree) * before.f_bsize as u64;
            holds(taken >= 4 << 20, "free space shrinks")?;
        }
        every_inode_below_is_on_one_device {
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            let device = sys::lstat(".")?.st_dev;
            same((sys::lstat("d")?.st_dev, sys::lstat("d/f")?.st_dev), (device, device))?;
        }
        inode_numbers_stay {
            file("f", 0o644)?;
            let inode = sys::lstat("f")?.st_ino;
            for at in 0..500 {
                file(&format!("g{at}"), 0o644)?;
            }
            sys::rename("f", "h")?;
            same(sys::lstat("h")?.st_ino, inode)?;
        }
        blocks_count_what_is_stored {
            let fd = filled("f", &vec![1; 1 << 20])?;
            sys::fsync(&fd)?;
            let blocks = sys::fstat(&fd)?.st_blocks;
            holds((2048..2200).contains(&blocks), "about a mebibyte")?;
        }
    }
}
