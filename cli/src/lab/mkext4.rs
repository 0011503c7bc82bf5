//! Formats a file as an ext4 file system, so that a lab needs no `mkfs` on the machine.
//!
//! The layout is the simplest one that ext4 drivers and `e2fsck` accept without a word: blocks of
//! 4 KiB, groups of 128 MiB which each carry their own bitmaps and inode table, one extent per
//! file, and a journal in the first group. A file that was just extended reads as zeros, and zero
//! is what unused inode tables and a clean journal must hold, so only bitmaps, descriptors and
//! superblocks are written: a sparse image of 2 GiB takes less than 300 KiB.
//!
//! What it is not: a general `mkfs`. Checksums of metadata, flexible groups and 64-bit block
//! numbers are left out together with their feature bits.

mod geometry;
mod records;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use geometry::{BLOCK, BLOCKS_PER_GROUP, Geometry, INODE_SIZE, INODES_PER_GROUP};
use records::{Extent, Inode};

/// Inode numbers below this are the file system's own.
const FIRST_INODE: u32 = 11;
const ROOT_INODE: u32 = 2;
const JOURNAL_INODE: u32 = 8;
const LOST_FOUND_INODE: u32 = FIRST_INODE;

/// What is new in every file system.
struct Identity {
    uuid: [u8; 16],
    hash_seed: [u8; 16],
    now: u32,
    label: [u8; 16],
}

/// Sets the length of `image`, which must be empty, to `size` rounded down to whole blocks and
/// makes an ext4 file system of it. `label` is cut to 16 bytes.
pub(crate) fn format(image: &File, size: u64, label: &str) -> io::Result<()> {
    if image.metadata()?.len() != 0 {
        return Err(io::Error::other(
            "the image is not empty; only a new file may be formatted",
        ));
    }
    let geometry = Geometry::new(size)?;
    image.set_len(u64::from(geometry.blocks) * BLOCK)?;
    let identity = Identity::random(label)?;
    write_descriptors(image, &geometry, &identity)?;
    for group in 0..geometry.groups {
        write_bitmaps(image, &geometry, group)?;
    }
    write_files(image, &geometry, &identity)?;
    image.sync_data()
}

impl Identity {
    fn random(label: &str) -> io::Result<Self> {
        let mut random = [0u8; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let (mut uuid, mut hash_seed) = ([0u8; 16], [0u8; 16]);
        uuid.copy_from_slice(&random[..16]);
        hash_seed.copy_from_slice(&random[16..]);
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let mut padded = [0u8; 16];
        let length = label.len().min(padded.len());
        padded[..length].copy_from_slice(&label.as_bytes()[..length]);
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let now = u32::try_from(seconds).unwrap_or(u32::MAX);
        Ok(Self {
            uuid,
            hash_seed,
            now,
            label: padded,
        })
    }
}

/// Superblock and descriptor table: in group 0, and copies in the groups that keep one.
fn write_descriptors(image: &File, geometry: &Geometry, identity: &Identity) -> io::Result<()> {
    let mut table = vec![0u8; geometry.descriptor_blocks as usize * BLOCK as usize];
    for group in 0..geometry.groups {
        let at = group as usize * records::DESCRIPTOR_SIZE;
        let record = records::descriptor(geometry, group);
        table[at..at + record.len()].copy_from_slice(&record);
    }
    let journal = journal_inode(geometry, identity).encode();
    for group in (0..geometry.groups).filter(|&group| Geometry::has_superblock(group)) {
        let start = u64::from(group) * u64::from(BLOCKS_PER_GROUP) * BLOCK;
        // The first 1024 bytes of the disk belong to a boot loader.
        let offset = if group == 0 { 1024 } else { 0 };
        let superblock = records::superblock(geometry, identity, &journal, group);
        image.write_all_at(&superblock, start + offset)?;
        image.write_all_at(&table, start + BLOCK)?;
    }
    Ok(())
}

/// Bitmaps of one group. Bits beyond the end of the disk or of the inode table must be set.
fn write_bitmaps(image: &File, geometry: &Geometry, group: u32) -> io::Result<()> {
    let mut blocks = [0u8; BLOCK as usize];
    set_bits(&mut blocks, 0..geometry.used_blocks(group));
    set_bits(&mut blocks, geometry.blocks_in(group)..BLOCKS_PER_GROUP);
    image.write_all_at(&blocks, u64::from(geometry.block_bitmap(group)) * BLOCK)?;

    let mut inodes = [0u8; BLOCK as usize];
    set_bits(&mut inodes, 0..geometry.used_inodes(group));
    set_bits(&mut inodes, INODES_PER_GROUP..BLOCKS_PER_GROUP);
    image.write_all_at(&inodes, u64::from(geometry.inode_bitmap(group)) * BLOCK)
}

fn set_bits(map: &mut [u8], bits: std::ops::Range<u32>) {
    for bit in bits {
        map[bit as usize / 8] |= 1 << (bit % 8);
    }
}

/// Root directory, `lost+found` and the journal: the only files of a new file system.
fn write_files(image: &File, geometry: &Geometry, identity: &Identity) -> io::Result<()> {
    let root = directory_inode(geometry.root_block(), 0o755, 3, identity);
    write_inode(image, geometry, ROOT_INODE, &root)?;
    let entries: [(u32, &str); 3] = [
        (ROOT_INODE, "."),
        (ROOT_INODE, ".."),
        (LOST_FOUND_INODE, "lost+found"),
    ];
    image.write_all_at(
        &records::directory(&entries),
        u64::from(geometry.root_block()) * BLOCK,
    )?;

    let lost = directory_inode(geometry.lost_found_block(), 0o700, 2, identity);
    write_inode(image, geometry, LOST_FOUND_INODE, &lost)?;
    let entries: [(u32, &str); 2] = [(LOST_FOUND_INODE, "."), (ROOT_INODE, "..")];
    let at = u64::from(geometry.lost_found_block()) * BLOCK;
    image.write_all_at(&records::directory(&entries), at)?;

    write_inode(
        image,
        geometry,
        JOURNAL_INODE,
        &journal_inode(geometry, identity),
    )?;
    let journal = records::journal_superblock(geometry.journal_blocks, identity.uuid);
    image.write_all_at(&journal, u64::from(geometry.journal_block()) * BLOCK)
}

fn write_inode(image: &File, geometry: &Geometry, number: u32, inode: &Inode) -> io::Result<()> {
    let table = u64::from(geometry.inode_table(0)) * BLOCK;
    image.write_all_at(
        &inode.encode(),
        table + u64::from(number - 1) * u64::from(INODE_SIZE),
    )
}

fn directory_inode(block: u32, mode: u16, links: u16, identity: &Identity) -> Inode {
    const DIRECTORY: u16 = 0o040_000;
    let extent = Extent {
        start: block,
        blocks: 1,
    };
    Inode {
        mode: DIRECTORY | mode,
        links,
        extent,
        now: identity.now,
    }
}

fn journal_inode(geometry: &Geometry, identity: &Identity) -> Inode {
    const REGULAR: u16 = 0o100_000;
    let extent = Extent {
        start: geometry.journal_block(),
        blocks: geometry.journal_blocks,
    };
    Inode {
        mode: REGULAR | 0o600,
        links: 1,
        extent,
        now: identity.now,
    }
}
