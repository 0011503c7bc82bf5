//! Ids that nobody has had before.

use crate::ids::Id128;

/// Two fresh ids from the kernel's random source.
pub(crate) fn fresh() -> [Id128; 2] {
    let mut bytes = [0u8; 32];
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(n, 32, "getrandom returns up to 256 bytes whole");
    let mut ids = [Id128::default(); 2];
    ids[0].0.copy_from_slice(&bytes[..16]);
    ids[1].0.copy_from_slice(&bytes[16..]);
    ids
}
