//! Extended attributes.

use super::*;
use libc::{
    E2BIG, EACCES, EEXIST, ENODATA, EOPNOTSUPP, EPERM, ERANGE, XATTR_CREATE, XATTR_REPLACE,
};

pub(super) fn cases() -> Vec<Case> {
    [values(), spaces()].into_iter().flatten().collect()
}

fn values() -> Vec<Case> {
    cases! { "xattr";
        set_get_list_remove {
            file("f", 0o644)?;
            sys::setxattr("f", "user.one", b"1", 0)?;
            sys::setxattr("f", "user.two", b"\0\xff\0", 0)?;
            same(sys::getxattr("f", "user.two")?, b"\0\xff\0".to_vec())?;
            same(sys::listxattr("f")?, vec![b"user.one".to_vec(), b"user.two".to_vec()])?;
            sys::removexattr("f", "user.one")?;
            same(sys::listxattr("f")?, vec![b"user.two".to_vec()])?;
        }
        value_of_nothing {
            file("f", 0o644)?;
            sys::setxattr("f", "user.e", b"", 0)?;
            same(sys::getxattr("f", "user.e")?, vec![])?;
        }
        value_is_replaced_by_a_longer_and_a_shorter_one {
            file("f", 0o644)?;
            for len in [10, 3000, 1] {
                sys::setxattr("f", "user.k", &vec![7; len], 0)?;
                same(sys::getxattr("f", "user.k")?.len(), len)?;
            }
        }
        creating_what_exists {
            file("f", 0o644)?;
            sys::setxattr("f", "user.k", b"1", XATTR_CREATE)?;
            fails(EEXIST, sys::setxattr("f", "user.k", b"2", XATTR_CREATE))?;
            same(sys::getxattr("f", "user.k")?, b"1".to_vec())?;
        }
        replacing_what_does_not_exist {
            file("f", 0o644)?;
            fails(ENODATA, sys::setxattr("f", "user.k", b"1", XATTR_REPLACE))?;
            same(sys::listxattr("f")?.len(), 0)?;
        }
        replacing_what_exists {
            file("f", 0o644)?;
            sys::setxattr("f", "user.k", b"1", 0)?;
            sys::setxattr("f", "user.k", b"2", XATTR_REPLACE)?;
            same(sys::getxattr("f", "user.k")?, b"2".to_vec())?;
        }
        reading_what_does_not_exist {
            file("f", 0o644)?;
            fails(ENODATA, sys::getxattr("f", "user.k"))?;
        }
        removing_what_does_not_exist {
            file("f", 0o644)?;
            fails(ENODATA, sys::removexattr("f", "user.k"))?;
        }
        a_small_buffer {
            file("f", 0o644)?;
            sys::setxattr("f", "user.k", b"12345", 0)?;
            same(sys::getxattr_into("f", "user.k", &mut [])?, 5)?;
            fails(ERANGE, sys::getxattr_into("f", "user.k", &mut [0; 4]))?;
        }
        a_name_of_255_bytes {
            file("f", 0o644)?;
            let key = format!("user.{}", "n".repeat(250));
            sys::setxattr("f", &key, b"v", 0)?;
            same(sys::listxattr("f")?, vec![key.clone().into_bytes()])?;
            fails(ERANGE, sys::setxattr("f", &format!("{key}n"), b"v", 0))?;
        }
        a_value_beyond_every_limit {
            file("f", 0o644)?;
            fails(E2BIG, sys::setxattr("f", "user.k", &vec![0; 65_537], 0))?;
        }
        a_value_beyond_this_file_systems_limit {
            file("f", 0o644)?;
            fails(libc::ENOSPC, sys::setxattr("f", "user.k", &vec![0; 60_000], 0))?;
            same(sys::listxattr("f")?.len(), 0)?;
        }
        an_empty_name {
            file("f", 0o644)?;
            fails(ERANGE, sys::setxattr("f", "", b"v", 0))?;
        }
        through_a_descriptor {
            let fd = file("f", 0o644)?;
            sys::fsetxattr(&fd, "user.k", b"v", 0)?;
            same(sys::getxattr("f", "user.k")?, b"v".to_vec())?;
        }
        of_a_directory {
            dir("d", 0o755)?;
            sys::setxattr("d", "user.k", b"v", 0)?;
            same(sys::getxattr("d", "user.k")?, b"v".to_vec())?;
        }
        shared_by_hard_links {
            file("f", 0o644)?;
            sys::link("f", "g")?;
            sys::setxattr("f", "user.k", b"v", 0)?;
            same(sys::getxattr("g", "user.k")?, b"v".to_vec())?;
        }
        kept_by_rename_and_write {
            let fd = file("f", 0o644)?;
            sys::setxattr("f", "user.k", b"v", 0)?;
            sys::write_all(&fd, b"data", 0)?;
            sys::rename("f", "g")?;
            same(sys::getxattr("g", "user.k")?, b"v".to_vec())?;
        }
        not_inherited_by_a_new_file_of_the_name {
            file("f", 0o644)?;
            sys::setxattr("f", "user.k", b"v", 0)?;
            sys::unlink("f")?;
            file("f", 0o644)?;
            fails(ENODATA, sys::getxattr("f", "user.k"))?;
        }
        many_small_ones {
            file("f", 0o644)?;
            for at in 0..50 {
                sys::setxattr("f", &format!("user.{at}"), b"v", 0)?;
            }
            same(sys::listxattr("f")?.len(), 50)?;
        }
    }
}

fn spaces() -> Vec<Case> {
    cases! { "xattr spaces";
        user_needs_the_write_right {
            file("f", 0o644)?;
            fails(EACCES, by(A, || sys::setxattr("f", "user.k", b"v", 0)))?;
            sys::setxattr("f", "user.k", b"v", 0)?;
            same(by(A, || sys::getxattr("f", "user.k"))?, b"v".to_vec())?;
            sys::chmod("f", 0o622)?;
            fails(EACCES, by(A, || sys::getxattr("f", "user.k")))?;
        }
        user_is_not_for_links_and_nodes {
            sys::symlink("x", "l")?;
            sys::mkfifo("p", 0o666)?;
            fails(EPERM, sys::setxattr("l", "user.k", b"v", 0))?;
            fails(EPERM, sys::setxattr("p", "user.k", b"v", 0))?;
        }
        user_on_a_strangers_sticky_directory {
            dir("d", 0o1777)?;
            fails(EPERM, by(A, || sys::setxattr("d", "user.k", b"v", 0)))?;
        }
        trusted_is_for_root {
            file("f", 0o666)?;
            sys::setxattr("f", "trusted.k", b"v", 0)?;
            fails(EPERM, by(A, || sys::setxattr("f", "trusted.k", b"w", 0)))?;
            fails(ENODATA, by(A, || sys::getxattr("f", "trusted.k")))?;
            same(by(A, || sys::listxattr("f"))?.len(), 0)?;
            same(sys::listxattr("f")?.len(), 1)?;
        }
        trusted_goes_on_links_and_nodes {
            sys::symlink("x", "l")?;
            sys::mkfifo("p", 0o666)?;
            sys::setxattr("l", "trusted.k", b"v", 0)?;
            sys::setxattr("p", "trusted.k", b"w", 0)?;
            let values = (sys::getxattr("l", "trusted.k")?, sys::getxattr("p", "trusted.k")?);
            same(values, (b"v".to_vec(), b"w".to_vec()))?;
        }
        security_is_read_by_all_and_written_by_root {
            file("f", 0o666)?;
            sys::setxattr("f", "security.k", b"v", 0)?;
            same(by(A, || sys::getxattr("f", "security.k"))?, b"v".to_vec())?;
            fails(EPERM, by(A, || sys::setxattr("f", "security.k", b"w", 0)))?;
        }
        a_broken_capability_is_refused {
            file("f", 0o755)?;
            fails(libc::EINVAL, sys::setxattr("f", "security.capability", b"x", 0))?;
        }
        an_unknown_space {
            file("f", 0o644)?;
            fails(EOPNOTSUPP, sys::setxattr("f", "unknown.k", b"v", 0))?;
        }
        a_space_without_a_name {
            file("f", 0o644)?;
            fails(libc::EINVAL, sys::setxattr("f", "user.", b"v", 0))?;
        }
    }
}
