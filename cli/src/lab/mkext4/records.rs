//! The on-disk records of ext4 and of its journal, encoded field by field.
//!
//! Offsets are those of the kernel's documentation (`Documentation/filesystems/ext4`). ext4 is
//! little-endian, its journal big-endian.

use super::geometry::{BLOCK, BLOCKS_PER_GROUP, Geometry, INODE_SIZE, INODES_PER_GROUP};
use super::{FIRST_INODE, Identity, JOURNAL_INODE};

pub(super) const DESCRIPTOR_SIZE: usize = 32;
const SUPERBLOCK_SIZE: usize = 1024;
/// Part of an inode behind the first 128 bytes that has a meaning; the rest holds attributes.
const EXTRA_INODE_SIZE: u16 = 32;

/// Journal, extended attributes, hashed directories.
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;
/// File types in directories, extents.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// Few superblock copies, large and huge files, many subdirectories, larger inodes.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40;
/// `user_xattr` and `acl`, as `mkfs` sets them.
const MOUNT_OPTIONS: u32 = 0x4 | 0x8;

/// Little-endian fields at fixed offsets of a record.
trait Fields {
    fn put16(&mut self, at: usize, value: u16);
    fn put32(&mut self, at: usize, value: u32);
}

impl Fields for [u8] {
    fn put16(&mut self, at: usize, value: u16) {
        self[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Low half of a number that a record keeps in 16 bits; everything here fits by construction.
fn short(value: u32) -> u16 {
    u16::try_from(value).expect("a group's counters are at most 32768")
}

/// A run of blocks; every file of a new file system is one.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) start: u32,
    pub(super) blocks: u32,
}

pub(super) struct Inode {
    pub(super) mode: u16,
    pub(super) links: u16,
    pub(super) extent: Extent,
    pub(super) now: u32,
}

impl Inode {
    pub(super) fn encode(&self) -> [u8; INODE_SIZE as usize] {
        const HAS_EXTENTS: u32 = 0x8_0000;
        const EXTENT_MAGIC: u16 = 0xf30a;
        let mut raw = [0u8; INODE_SIZE as usize];
        let sectors_per_block = BLOCK as u32 / 512;
        raw.put16(0x00, self.mode);
        raw.put32(0x04, self.extent.blocks * BLOCK as u32);
        for time in [0x08, 0x0c, 0x10, 0x90] {
            raw.put32(time, self.now);
        }
        raw.put16(0x1a, self.links);
        raw.put32(0x1c, self.extent.blocks * sectors_per_block);
        raw.put32(0x20, HAS_EXTENTS);
        raw.put16(0x28, EXTENT_MAGIC);
        raw.put16(0x2a, 1);
        raw.put16(0x2c, 4);
        raw.put16(0x38, short(self.extent.blocks));
        raw.put32(0x3c, self.extent.start);
        raw.put16(0x80, EXTRA_INODE_SIZE);
        raw
    }
}

pub(super) fn descriptor(geometry: &Geometry, group: u32) -> [u8; DESCRIPTOR_SIZE] {
    /// Root and `lost+found`.
    const DIRECTORIES: u16 = 2;
    let mut raw = [0u8; DESCRIPTOR_SIZE];
    raw.put32(0x00, geometry.block_bitmap(group));
    raw.put32(0x04, geometry.inode_bitmap(group));
    raw.put32(0x08, geometry.inode_table(group));
    raw.put16(0x0c, short(geometry.free_blocks(group)));
    raw.put16(0x0e, short(geometry.free_inodes(group)));
    raw.put16(0x10, if group == 0 { DIRECTORIES } else { 0 });
    raw
}

/// The superblock, or its copy in `group`. `journal` is the journal's inode: a second place from
/// which `e2fsck` can find the journal.
pub(super) fn superblock(
    geometry: &Geometry,
    identity: &Identity,
    journal: &[u8],
    group: u32,
) -> [u8; SUPERBLOCK_SIZE] {
    let free_blocks = (0..geometry.groups)
        .map(|group| geometry.free_blocks(group))
        .sum();
    let free_inodes = (0..geometry.groups)
        .map(|group| geometry.free_inodes(group))
        .sum();
    let mut raw = [0u8; SUPERBLOCK_SIZE];
    raw.put32(0x00, geometry.groups * INODES_PER_GROUP);
    raw.put32(0x04, geometry.blocks);
    raw.put32(0x0c, free_blocks);
    raw.put32(0x10, free_inodes);
    put_constants(&mut raw);
    raw.put32(0x30, identity.now);
    raw.put32(0x40, identity.now);
    raw.put16(0x5a, u16::try_from(group).unwrap_or(u16::MAX));
    raw[0x68..0x78].copy_from_slice(&identity.uuid);
    raw[0x78..0x88].copy_from_slice(&identity.label);
    raw[0xec..0xfc].copy_from_slice(&identity.hash_seed);
    raw.put32(0x108, identity.now);
    raw[0x10c..0x148].copy_from_slice(&journal[0x28..0x64]);
    raw.put32(0x14c, geometry.journal_blocks * BLOCK as u32);
    raw
}

fn put_constants(raw: &mut [u8]) {
    const HALF_MD4: u8 = 1;
    const SIGNED_HASH: u32 = 1;
    let log_block_size = BLOCK.trailing_zeros() - 10;
    raw.put32(0x18, log_block_size);
    raw.put32(0x1c, log_block_size);
    raw.put32(0x20, BLOCKS_PER_GROUP);
    raw.put32(0x24, BLOCKS_PER_GROUP);
    raw.put32(0x28, INODES_PER_GROUP);
    raw.put16(0x36, u16::MAX); // no check after so many mounts
    raw.put16(0x38, 0xef53); // magic
    raw.put16(0x3a, 1); // clean
    raw.put16(0x3c, 1); // on errors: continue
    raw.put32(0x4c, 1); // revision with variable inode sizes
    raw.put32(0x54, FIRST_INODE);
    raw.put16(0x58, short(INODE_SIZE));
    raw.put32(0x5c, COMPATIBLE);
    raw.put32(0x60, INCOMPATIBLE);
    raw.put32(0x64, READ_ONLY_COMPATIBLE);
    raw.put32(0xe0, JOURNAL_INODE);
    raw[0xfc] = HALF_MD4;
    raw[0xfd] = 1; // a copy of the journal's blocks follows below
    raw.put32(0x100, MOUNT_OPTIONS);
    raw.put16(0x15c, EXTRA_INODE_SIZE);
    raw.put16(0x15e, EXTRA_INODE_SIZE);
    raw.put32(0x160, SIGNED_HASH);
}

/// A directory of one block. The last entry takes all the room that is left.
pub(super) fn directory(entries: &[(u32, &str)]) -> [u8; BLOCK as usize] {
    const TYPE_DIRECTORY: u8 = 2;
    const ENTRY_HEAD: usize = 8;
    let mut raw = [0u8; BLOCK as usize];
    let mut at = 0;
    for (index, (inode, name)) in entries.iter().enumerate() {
        let last = index + 1 == entries.len();
        let needed = (ENTRY_HEAD + name.len()).next_multiple_of(4);
        let length = if last { raw.len() - at } else { needed };
        raw.put32(at, *inode);
        raw.put16(
            at + 4,
            u16::try_from(length).expect("a directory block has 4096 bytes"),
        );
        raw[at + 6] = u8::try_from(name.len()).expect("names here are short");
        raw[at + 7] = TYPE_DIRECTORY;
        raw[at + ENTRY_HEAD..at + ENTRY_HEAD + name.len()].copy_from_slice(name.as_bytes());
        at += length;
    }
    raw
}

/// Superblock of an empty journal: `s_start` zero says that there is nothing to replay.
pub(super) fn journal_superblock(blocks: u32, uuid: [u8; 16]) -> [u8; SUPERBLOCK_SIZE] {
    const MAGIC: u32 = 0xc03b_3998;
    const SUPERBLOCK_V2: u32 = 4;
    const FIRST_LOG_BLOCK: u32 = 1;
    const FIRST_TRANSACTION: u32 = 1;
    const USERS: u32 = 1;
    let mut raw = [0u8; SUPERBLOCK_SIZE];
    let fields = [
        (0x00, MAGIC),
        (0x04, SUPERBLOCK_V2),
        (0x0c, BLOCK as u32),
        (0x10, blocks),
        (0x14, FIRST_LOG_BLOCK),
        (0x18, FIRST_TRANSACTION),
        (0x40, USERS),
    ];
    for (at, value) in fields {
        raw[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    raw[0x30..0x40].copy_from_slice(&uuid);
    raw
}
