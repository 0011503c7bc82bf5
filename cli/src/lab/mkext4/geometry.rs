//! Where everything lies in a new ext4 file system: pure arithmetic on its size.
//!
//! Each group holds, in this order: a copy of the superblock and the descriptor table (only in
//! groups 0, 1 and powers of 3, 5 and 7), its block bitmap, its inode bitmap, its inode table, free
//! blocks. Group 0 continues with the root directory, `lost+found` and the journal.

use std::io;

pub(super) const BLOCK: u64 = 4096;
/// A bitmap is one block, and one bit stands for one block.
pub(super) const BLOCKS_PER_GROUP: u32 = 8 * BLOCK as u32;
pub(super) const INODE_SIZE: u32 = 256;
/// One inode per 8 KiB: twice what `mkfs` gives, because tests like small files.
pub(super) const INODES_PER_GROUP: u32 = 16_384;
pub(super) const INODE_TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE_SIZE / BLOCK as u32;

const DESCRIPTORS_PER_BLOCK: u32 = BLOCK as u32 / super::records::DESCRIPTOR_SIZE as u32;
/// The driver refuses a journal of less than 1024 blocks; 64 MiB is enough for any lab.
const JOURNAL_BLOCKS_MIN: u32 = 1024;
const JOURNAL_BLOCKS_MAX: u32 = 16_384;
/// A last group smaller than this is not worth its bitmaps and is left unused.
const USEFUL_BLOCKS_MIN: u32 = 64;
const SIZE_MIN: u64 = 16 << 20;
/// Block numbers have 32 bits.
const SIZE_MAX: u64 = 16 << 40;

const _: () = assert!(
    INODES_PER_GROUP <= BLOCKS_PER_GROUP,
    "the inode bitmap is one block"
);
const _: () = assert!(
    JOURNAL_BLOCKS_MAX <= 32_768,
    "the journal must fit one extent"
);

#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) blocks: u32,
    pub(super) groups: u32,
    pub(super) descriptor_blocks: u32,
    pub(super) journal_blocks: u32,
}

impl Geometry {
    pub(super) fn new(size: u64) -> io::Result<Self> {
        if !(SIZE_MIN..SIZE_MAX).contains(&size) {
            let text = format!("an ext4 image of {size} bytes; give 16 MiB to 16 TiB");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let blocks = u32::try_from(size / BLOCK).map_err(io::Error::other)?;
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let mut geometry = Self {
            blocks,
            groups,
            descriptor_blocks: groups.div_ceil(DESCRIPTORS_PER_BLOCK),
            journal_blocks: (blocks / 8).clamp(JOURNAL_BLOCKS_MIN, JOURNAL_BLOCKS_MAX),
        };
        let last = groups - 1;
        if last > 0 && geometry.blocks_in(last) < geometry.overhead(last) + USEFUL_BLOCKS_MIN {
            geometry.groups = last;
            geometry.blocks = last * BLOCKS_PER_GROUP;
        }
        Ok(geometry)
    }

    pub(super) fn has_superblock(group: u32) -> bool {
        let power_of = |base: u32| {
            let mut value = base;
            while value < group {
                value = value.saturating_mul(base);
            }
            value == group
        };
        group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }

    fn start(group: u32) -> u32 {
        group * BLOCKS_PER_GROUP
    }

    pub(super) fn blocks_in(&self, group: u32) -> u32 {
        (self.blocks - Self::start(group)).min(BLOCKS_PER_GROUP)
    }

    pub(super) fn block_bitmap(&self, group: u32) -> u32 {
        let copies = if Self::has_superblock(group) {
            1 + self.descriptor_blocks
        } else {
            0
        };
        Self::start(group) + copies
    }

    pub(super) fn inode_bitmap(&self, group: u32) -> u32 {
        self.block_bitmap(group) + 1
    }

    pub(super) fn inode_table(&self, group: u32) -> u32 {
        self.inode_bitmap(group) + 1
    }

    fn overhead(&self, group: u32) -> u32 {
        self.inode_table(group) + INODE_TABLE_BLOCKS - Self::start(group)
    }

    pub(super) fn root_block(&self) -> u32 {
        self.overhead(0)
    }

    pub(super) fn lost_found_block(&self) -> u32 {
        self.root_block() + 1
    }

    pub(super) fn journal_block(&self) -> u32 {
        self.lost_found_block() + 1
    }

    /// Blocks in use at the start of a group; everything after them is free.
    pub(super) fn used_blocks(&self, group: u32) -> u32 {
        if group == 0 {
            self.journal_block() + self.journal_blocks
        } else {
            self.overhead(group)
        }
    }

    pub(super) fn free_blocks(&self, group: u32) -> u32 {
        self.blocks_in(group) - self.used_blocks(group)
    }

    pub(super) fn used_inodes(&self, group: u32) -> u32 {
        if group == 0 { super::FIRST_INODE } else { 0 }
    }

    pub(super) fn free_inodes(&self, group: u32) -> u32 {
        INODES_PER_GROUP - self.used_inodes(group)
    }
}
