//! rename and renameat2.

use super::*;
use libc::{EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM};

const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
const WHITEOUT: u32 = libc::RENAME_WHITEOUT;

pub(super) fn cases() -> Vec<Case> {
    [plain(), with_flags()].into_iter().flatten().collect()
}

fn plain() -> Vec<Case> {
    cases! { "rename";
        keeps_the_inode {
            filled("a", b"x")?;
            let before = sys::lstat("a")?.st_ino;
            sys::rename("a", "b")?;
            same(sys::lstat("b")?.st_ino, before)?;
            fails(ENOENT, sys::lstat("a"))?;
        }
        replaces_a_file {
            filled("a", b"new")?;
            let old = filled("b", b"old")?;
            sys::rename("a", "b")?;
            same(content("b")?, b"new".to_vec())?;
            same(sys::read_all(&old, 0, 9)?, b"old".to_vec())?;
            same(sys::fstat(&old)?.st_nlink, 0)?;
        }
        of_two_names_of_one_file_does_nothing {
            file("a", 0o644)?;
            sys::link("a", "b")?;
            sys::rename("a", "b")?;
            same((links("a")?, links("b")?), (2, 2))?;
        }
        to_itself { file("a", 0o644)?; sys::rename("a", "a")?; sys::lstat("a")?; }
        file_over_a_directory {
            file("a", 0o644)?;
            dir("d", 0o755)?;
            fails(EISDIR, sys::rename("a", "d"))?;
        }
        directory_over_a_file {
            file("a", 0o644)?;
            dir("d", 0o755)?;
            fails(ENOTDIR, sys::rename("d", "a"))?;
        }
        directory_over_an_empty_one {
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            dir("e", 0o755)?;
            sys::rename("d", "e")?;
            sys::lstat("e/f")?;
            fails(ENOENT, sys::lstat("d"))?;
        }
        directory_over_a_full_one {
            dir("d", 0o755)?;
            dir("e", 0o755)?;
            file("e/f", 0o644)?;
            fails(ENOTEMPTY, sys::rename("d", "e"))?;
        }
        directory_into_itself {
            dir("d", 0o755)?;
            fails(EINVAL, sys::rename("d", "d/e"))?;
        }
        directory_into_its_grandchild {
            dir("d", 0o755)?;
            dir("d/e", 0o755)?;
            fails(EINVAL, sys::rename("d", "d/e/f"))?;
        }
        directory_over_its_parent {
            dir("d", 0o755)?;
            dir("d/e", 0o755)?;
            fails(ENOTEMPTY, sys::rename("d/e", "d"))?;
        }
        moving_a_directory_moves_a_link_count {
            dir("d", 0o755)?;
            dir("e", 0o755)?;
            dir("d/x", 0o755)?;
            sys::rename("d/x", "e/x")?;
            same((links("d")?, links("e")?), (2, 3))?;
            same(sys::lstat("e/x/..")?.st_ino, sys::lstat("e")?.st_ino)?;
        }
        of_a_link_moves_the_link {
            file("f", 0o644)?;
            sys::symlink("f", "l")?;
            sys::rename("l", "m")?;
            same(sys::readlink("m")?, b"f".to_vec())?;
        }
        over_a_link_replaces_the_link {
            filled("f", b"f")?;
            filled("g", b"g")?;
            sys::symlink("f", "l")?;
            sys::rename("g", "l")?;
            same((content("f")?, content("l")?), (b"f".to_vec(), b"g".to_vec()))?;
        }
        of_fifo_and_socket {
            sys::mkfifo("p", 0o600)?;
            sys::mknod("s", libc::S_IFSOCK | 0o600, 0)?;
            sys::rename("p", "q")?;
            sys::rename("s", "q")?;
            same(kind("q")?, libc::S_IFSOCK)?;
        }
        file_with_a_trailing_slash {
            file("f", 0o644)?;
            fails(ENOTDIR, sys::rename("f", "g/"))?;
        }
        directory_with_a_trailing_slash {
            dir("d", 0o755)?;
            sys::rename("d/", "e/")?;
            sys::lstat("e")?;
        }
        of_dot { dir("d", 0o755)?; fails(libc::EBUSY, sys::rename("d/.", "e"))?; }
        across_file_systems {
            file("f", 0o644)?;
            fails(libc::EXDEV, sys::rename("f", "/proc/x"))?;
        }
        of_anothers_directory_needs_its_write_right {
            dir("to", 0o777)?;
            dir("d", 0o755)?;
            fails(libc::EACCES, by(A, || sys::rename("d", "to/d")))?;
        }
        within_one_directory_needs_no_right_on_the_moved_one {
            dir("d", 0o700)?;
            by(A, || sys::rename("d", "e"))?;
        }
        over_a_strangers_file_in_a_sticky_directory {
            dir("s", 0o1777)?;
            file("s/theirs", 0o666)?;
            by(A, || file("s/mine", 0o644))?;
            fails(EPERM, by(A, || sys::rename("s/mine", "s/theirs")))?;
        }
        a_chain_of_a_hundred {
            filled("n0", b"x")?;
            for at in 0..100 {
                sys::rename(format!("n{at}"), format!("n{}", at + 1))?;
            }
            same(sys::names(".")?, vec![b"n100".to_vec()])?;
        }
        open_files_below_a_moved_directory_go_on {
            dir("d", 0o755)?;
            let fd = filled("d/f", b"before")?;
            sys::rename("d", "e")?;
            sys::write_all(&fd, b"after!", 0)?;
            same(content("e/f")?, b"after!".to_vec())?;
        }
        the_working_directory_may_move {
            dir("d", 0o755)?;
            let back = sys::open(".", libc::O_RDONLY, 0)?;
            sys::chdir("d")?;
            sys::rename("../d", "../e")?;
            file("f", 0o644)?;
            sys::fchdir(&back)?;
            sys::lstat("e/f")?;
        }
    }
}

fn with_flags() -> Vec<Case> {
    cases! { "renameat2";
        noreplace_to_a_free_name {
            file("a", 0o644)?;
            sys::rename_with("a", "b", NOREPLACE)?;
            sys::lstat("b")?;
        }
        noreplace_over_a_file {
            filled("a", b"a")?;
            filled("b", b"b")?;
            fails(EEXIST, sys::rename_with("a", "b", NOREPLACE))?;
            same((content("a")?, content("b")?), (b"a".to_vec(), b"b".to_vec()))?;
        }
        noreplace_over_a_link_to_nothing {
            file("a", 0o644)?;
            sys::symlink("none", "b")?;
            fails(EEXIST, sys::rename_with("a", "b", NOREPLACE))?;
        }
        exchange_of_two_files {
            filled("a", b"a")?;
            filled("b", b"b")?;
            sys::rename_with("a", "b", EXCHANGE)?;
            same((content("a")?, content("b")?), (b"b".to_vec(), b"a".to_vec()))?;
        }
        exchange_of_a_file_and_a_directory {
            filled("a", b"a")?;
            dir("d", 0o755)?;
            file("d/f", 0o644)?;
            sys::rename_with("a", "d", EXCHANGE)?;
            same(content("d")?, b"a".to_vec())?;
            sys::lstat("a/f")?;
        }
        exchange_across_directories_keeps_link_counts {
            dir("d", 0o755)?;
            dir("e", 0o755)?;
            dir("d/x", 0o755)?;
            file("e/f", 0o644)?;
            sys::rename_with("d/x", "e/f", EXCHANGE)?;
            same((links("d")?, links("e")?), (2, 3))?;
            same((kind("d/x")?, kind("e/f")?), (libc::S_IFREG, libc::S_IFDIR))?;
        }
        exchange_with_nothing {
            file("a", 0o644)?;
            fails(ENOENT, sys::rename_with("a", "b", EXCHANGE))?;
        }
        exchange_with_ones_own_child {
            dir("d", 0o755)?;
            dir("d/e", 0o755)?;
            fails(EINVAL, sys::rename_with("d", "d/e", EXCHANGE))?;
        }
        exchange_and_noreplace {
            file("a", 0o644)?;
            fails(EINVAL, sys::rename_with("a", "b", EXCHANGE | NOREPLACE))?;
        }
        whiteout_leaves_a_device_0_0 {
            file("a", 0o644)?;
            sys::rename_with("a", "b", WHITEOUT)?;
            same((kind("a")?, sys::lstat("a")?.st_rdev), (libc::S_IFCHR, 0))?;
        }
        whiteout_belongs_to_who_renames {
            file("a", 0o644)?;
            by(A, || sys::rename_with("a", "b", WHITEOUT))?;
            same(owner("a")?, (1001, 1001))?;
        }
        unknown_flags {
            file("a", 0o644)?;
            fails(EINVAL, sys::rename_with("a", "b", 1 << 20))?;
        }
    }
}
