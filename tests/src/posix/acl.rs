//! POSIX ACLs: their checks, their tie to the mode bits, and their inheritance.

use super::*;
use crate::acl::{ACCESS, Ace, DEFAULT, value, with_user};
use Ace::{Group, Mask, Other, Owner, OwnerGroup, User};
use libc::{EACCES, EINVAL, ENODATA, EPERM, O_RDONLY, O_RDWR, O_WRONLY};

pub(super) fn cases() -> Vec<Case> {
    [access(), inheritance()].into_iter().flatten().collect()
}

fn access() -> Vec<Case> {
    cases! { "acl";
        a_named_user_gets_what_is_given {
            file("f", 0o600)?;
            sys::setxattr("f", ACCESS, &with_user(A.uid, 4), 0)?;
            by(A, || sys::open("f", O_RDONLY, 0))?;
            fails(EACCES, by(A, || sys::open("f", O_WRONLY, 0)))?;
            fails(EACCES, by(B, || sys::open("f", O_RDONLY, 0)))?;
        }
        a_named_group_counts_for_supplementary_groups {
            file("f", 0o600)?;
            let list = [Owner(6), OwnerGroup(0), Group(A.groups[0], 6), Mask(6), Other(0)];
            sys::setxattr("f", ACCESS, &value(&list), 0)?;
            by(A, || sys::open("f", O_RDWR, 0))?;
            fails(EACCES, by(B, || sys::open("f", O_RDONLY, 0)))?;
        }
        a_named_user_can_be_shut_out {
            file("f", 0o644)?;
            let list = [Owner(6), User(A.uid, 0), OwnerGroup(4), Mask(4), Other(4)];
            sys::setxattr("f", ACCESS, &value(&list), 0)?;
            fails(EACCES, by(A, || sys::open("f", O_RDONLY, 0)))?;
            by(B, || sys::open("f", O_RDONLY, 0))?;
        }
        the_mask_limits_named_entries {
            file("f", 0o600)?;
            let list = [Owner(7), User(A.uid, 7), OwnerGroup(7), Mask(4), Other(0)];
            sys::setxattr("f", ACCESS, &value(&list), 0)?;
            by(A, || sys::open("f", O_RDONLY, 0))?;
            fails(EACCES, by(A, || sys::open("f", O_WRONLY, 0)))?;
        }
        the_mask_is_the_groups_bits {
            file("f", 0o600)?;
            sys::setxattr("f", ACCESS, &with_user(A.uid, 6), 0)?;
            same(mode("f")?, 0o770)?;
            sys::chmod("f", 0o640)?;
            let list = [Owner(6), User(A.uid, 6), OwnerGroup(5), Mask(4), Other(0)];
            same(sys::getxattr("f", ACCESS)?, value(&list))?;
            fails(EACCES, by(A, || sys::open("f", O_WRONLY, 0)))?;
        }
        a_list_equal_to_the_mode_is_not_kept {
            file("f", 0o600)?;
            sys::setxattr("f", ACCESS, &value(&[Owner(6), OwnerGroup(4), Other(0)]), 0)?;
            same(mode("f")?, 0o640)?;
            fails(ENODATA, sys::getxattr("f", ACCESS))?;
            same(sys::listxattr("f")?.len(), 0)?;
        }
        removing_the_list_leaves_the_bits {
            file("f", 0o600)?;
            sys::setxattr("f", ACCESS, &with_user(A.uid, 6), 0)?;
            sys::removexattr("f", ACCESS)?;
            fails(ENODATA, sys::getxattr("f", ACCESS))?;
            fails(EACCES, by(A, || sys::open("f", O_RDONLY, 0)))?;
        }
        the_list_is_listed {
            file("f", 0o600)?;
            sys::setxattr("f", ACCESS, &with_user(A.uid, 6), 0)?;
            same(sys::listxattr("f")?, vec![ACCESS.as_bytes().to_vec()])?;
        }
        only_the_owner_sets_it {
            file("f", 0o666)?;
            fails(EPERM, by(A, || sys::setxattr("f", ACCESS, &with_user(A.uid, 7), 0)))?;
            by(A, || file("g", 0o600))?;
            by(A, || sys::setxattr("g", ACCESS, &with_user(B.uid, 4), 0))?;
            by(B, || sys::open("g", O_RDONLY, 0))?;
        }
        setting_it_outside_ones_groups_clears_sgid {
            file("f", 0o2755)?;
            sys::chown("f", A.uid, 5000)?;
            sys::chmod("f", 0o2755)?;
            by(A, || sys::setxattr("f", ACCESS, &with_user(B.uid, 4), 0))?;
            same(mode("f")? & 0o2000, 0)?;
        }
        setting_it_on_a_directory_outside_ones_groups_clears_sgid {
            dir("d", 0o755)?;
            sys::chown("d", A.uid, 5000)?;
            sys::chmod("d", 0o2755)?;
            by(A, || sys::setxattr("d", ACCESS, &with_user(B.uid, 4), 0))?;
            same(mode("d")? & 0o2000, 0)?;
        }
        malformed_lists_are_refused {
            file("f", 0o600)?;
            fails(libc::EOPNOTSUPP, sys::setxattr("f", ACCESS, b"rubbish", 0))?;
            let no_mask = [Owner(6), User(A.uid, 6), OwnerGroup(4), Other(0)];
            fails(EINVAL, sys::setxattr("f", ACCESS, &value(&no_mask), 0))?;
            let no_other = [Owner(6), OwnerGroup(4)];
            fails(EINVAL, sys::setxattr("f", ACCESS, &value(&no_other), 0))?;
            same(mode("f")?, 0o600)?;
        }
        a_search_right_by_list {
            dir("d", 0o700)?;
            filled("d/f", b"x")?;
            fails(EACCES, by(A, || content("d/f")))?;
            sys::setxattr("d", ACCESS, &with_user(A.uid, 1), 0)?;
            by(A, || content("d/f"))?;
            fails(EACCES, by(A, || sys::names("d")))?;
        }
        a_change_counts_at_once {
            filled("f", b"x")?;
            sys::chmod("f", 0o600)?;
            for _ in 0..5 {
                sys::setxattr("f", ACCESS, &with_user(A.uid, 4), 0)?;
                by(A, || content("f"))?;
                sys::removexattr("f", ACCESS)?;
                fails(EACCES, by(A, || content("f")))?;
            }
        }
        kept_by_rename_and_shared_by_links {
            file("f", 0o600)?;
            sys::setxattr("f", ACCESS, &with_user(A.uid, 4), 0)?;
            sys::link("f", "g")?;
            sys::rename("f", "h")?;
            same(sys::getxattr("g", ACCESS)?, sys::getxattr("h", ACCESS)?)?;
        }
    }
}

/// A directory whose new entries inherit a list.
fn inheriting() -> Sys<()> {
    dir("d", 0o777)?;
    sys::setxattr("d", DEFAULT, &with_user(A.uid, 6), 0)
}

fn inheritance() -> Vec<Case> {
    cases! { "default acl";
        a_new_file_inherits_and_the_umask_is_ignored {
            inheriting()?;
            sys::umask(0o077);
            sys::open("d/f", libc::O_CREAT | O_WRONLY, 0o666)?;
            same(mode("d/f")?, 0o660)?;
            let list = [Owner(6), User(A.uid, 6), OwnerGroup(5), Mask(6), Other(0)];
            same(sys::getxattr("d/f", ACCESS)?, value(&list))?;
            by(A, || sys::open("d/f", O_RDWR, 0))?;
        }
        the_mode_given_limits_what_is_inherited {
            inheriting()?;
            sys::open("d/f", libc::O_CREAT | O_WRONLY, 0o600)?;
            same(mode("d/f")?, 0o600)?;
            fails(EACCES, by(A, || sys::open("d/f", O_RDONLY, 0)))?;
        }
        a_new_directory_inherits_both_lists {
            dir("d", 0o777)?;
            sys::setxattr("d", DEFAULT, &with_user(A.uid, 7), 0)?;
            sys::mkdir("d/e", 0o777)?;
            same(sys::getxattr("d/e", DEFAULT)?, with_user(A.uid, 7))?;
            same(sys::getxattr("d/e", ACCESS)?, with_user(A.uid, 7))?;
            file("d/e/f", 0o660)?;
            by(A, || sys::open("d/e/f", O_RDWR, 0))?;
        }
        fifo_and_node_inherit {
            inheriting()?;
            sys::mkfifo("d/p", 0o666)?;
            sys::mknod("d/f", libc::S_IFREG | 0o666, 0)?;
            same(sys::getxattr("d/p", ACCESS)?, sys::getxattr("d/f", ACCESS)?)?;
        }
        a_link_inherits_nothing {
            inheriting()?;
            sys::symlink("x", "d/l")?;
            same((mode("d/l")?, sys::listxattr("d/l")?.len()), (0o777, 0))?;
        }
        a_temporary_file_inherits {
            inheriting()?;
            let fd = sys::open("d", libc::O_TMPFILE | O_RDWR, 0o666)?;
            sys::link_open(&fd, "d/f")?;
            same(mode("d/f")?, 0o660)?;
        }
        moving_in_inherits_nothing {
            inheriting()?;
            file("f", 0o644)?;
            sys::rename("f", "d/f")?;
            fails(ENODATA, sys::getxattr("d/f", ACCESS))?;
        }
        a_file_cannot_have_a_default_list {
            file("f", 0o644)?;
            fails(EACCES, sys::setxattr("f", DEFAULT, &with_user(A.uid, 6), 0))?;
        }
        the_default_list_does_not_change_the_directory_itself {
            dir("d", 0o700)?;
            sys::setxattr("d", DEFAULT, &with_user(A.uid, 7), 0)?;
            same(mode("d")?, 0o700)?;
            fails(EACCES, by(A, || sys::names("d")))?;
        }
        removing_the_default_list {
            inheriting()?;
            sys::removexattr("d", DEFAULT)?;
            sys::open("d/f", libc::O_CREAT | O_WRONLY, 0o666)?;
            same(mode("d/f")?, 0o644)?;
            fails(ENODATA, sys::getxattr("d", DEFAULT))?;
        }
        with_a_sgid_directory_group_and_list_are_inherited {
            inheriting()?;
            sys::chown("d", 0, 5000)?;
            sys::chmod("d", 0o2777)?;
            by(A, || sys::mkdir("d/e", 0o777))?;
            same(owner("d/e")?, (A.uid, 5000))?;
            same(mode("d/e")? & 0o2000, 0o2000)?;
            same(sys::getxattr("d/e", DEFAULT)?, with_user(A.uid, 6))?;
        }
    }
}
