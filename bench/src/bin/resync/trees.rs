//! Trees to be replicated, made from outside before anything runs.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Result;

/// Files of a directory.
const EACH: u64 = 500;

/// Many files of `size` bytes, so many to a directory.
pub(crate) fn many(root: &Path, files: u64, size: usize) -> Result<()> {
    let mut noise = Noise(1);
    let mut data = vec![0u8; size];
    for n in 0..files {
        let dir = root.join(format!("d{}", n / EACH));
        if n % EACH == 0 {
            fs::create_dir_all(&dir)?;
        }
        noise.fill(&mut data);
        fs::write(dir.join(format!("f{n}")), &data)?;
    }
    Ok(())
}

/// One file of noise.
pub(crate) fn large(path: &Path, megabytes: u64) -> Result<()> {
    let mut noise = Noise(7);
    let mut data = vec![0u8; 1 << 20];
    let mut file = fs::File::create(path)?;
    for _ in 0..megabytes {
        noise.fill(&mut data);
        file.write_all(&data)?;
    }
    Ok(())
}

/// The path of the `n`th file of [`many`] below the root.
pub(crate) fn path(n: u64) -> String {
    format!("d{}/f{n}", n / EACH)
}

/// Bytes that do not repeat (xorshift).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, data: &mut [u8]) {
        for chunk in data.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}
