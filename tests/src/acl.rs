//! POSIX ACLs as the kernel stores them: the raw value of `system.posix_acl_access` and
//! `system.posix_acl_default`, built by hand so that no tool has to be installed.

/// Extended attribute of the list that is checked.
pub const ACCESS: &str = "system.posix_acl_access";
/// Extended attribute of the list that new entries of a directory inherit.
pub const DEFAULT: &str = "system.posix_acl_default";

/// One entry, in the order in which the kernel wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ace {
    Owner(u16),
    User(u32, u16),
    OwnerGroup(u16),
    Group(u32, u16),
    Mask(u16),
    Other(u16),
}

/// The raw value.
pub fn value(entries: &[Ace]) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut value = 2_u32.to_le_bytes().to_vec();
    for entry in entries {
        let (tag, rights, id): (u16, u16, u32) = match *entry {
            Ace::Owner(rights) => (0x01, rights, NOBODY),
            Ace::User(id, rights) => (0x02, rights, id),
            Ace::OwnerGroup(rights) => (0x04, rights, NOBODY),
            Ace::Group(id, rights) => (0x08, rights, id),
            Ace::Mask(rights) => (0x10, rights, NOBODY),
            Ace::Other(rights) => (0x20, rights, NOBODY),
        };
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// The usual small list: the owner may do everything, one more user what is given.
pub fn with_user(id: u32, rights: u16) -> Vec<u8> {
    use Ace::{Mask, Other, Owner, OwnerGroup, User};
    value(&[Owner(7), User(id, rights), OwnerGroup(5), Mask(7), Other(0)])
}
