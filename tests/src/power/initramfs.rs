//! What an ordinary kernel starts with until it can mount the root of this machine: this program
//! with its libraries, and the modules it needs, in the order in which they are loaded.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules for the root over virtio, the network, the disks and what is under test.
const NEEDED: [&str; 8] = [
    "virtio_pci",
    "virtio_net",
    "9pnet_virtio",
    "9p",
    "crc32c_generic",
    "ext4",
    "fuse",
    "nbd",
];
/// Where they lie in the image, one after the other.
pub const MODULES: &str = "modules";

/// Makes the image; the kernel that belongs to it. `package` is an unpacked kernel package.
pub fn make(image: &Path, power: &Path, package: &Path) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for dir in ["dev", "root", "lib64", MODULES] {
        archive.directory(dir);
    }
    archive.file("init", &fs::read(power)?);
    for library in libraries(power)? {
        let name = library.trim_start_matches('/').to_owned();
        archive.directories(&name);
        archive.file(&name, &fs::read(&library)?);
    }
    let modules = Modules::find(&package.join("lib/modules"))?;
    for (number, module) in modules.order(&NEEDED)?.into_iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(
            &format!("{MODULES}/{number:03}-{name}"),
            &fs::read(&module)?,
        );
    }
    fs::write(image, archive.end())?;
    let boot = fs::read_dir(package.join("boot"))?;
    let mut kernels = boot.flatten().map(|entry| entry.path());
    let kernel = kernels.find(|path| path.to_string_lossy().contains("/vmlinuz-"));
    kernel.with_context(|| format!("no kernel in {}", package.display()))
}

/// The shared libraries of a program, and the one that loads them.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    ensure!(output.status.success(), "ldd {}", program.display());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(str::to_owned)
    };
    Ok(text.lines().filter_map(word).collect())
}

/// The modules of a kernel by name.
struct Modules(BTreeMap<String, PathBuf>);

impl Modules {
    fn find(root: &Path) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![root.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() && !path.is_symlink() {
                    dirs.push(path);
                } else if let Some(name) = name.strip_suffix(".ko") {
                    found.insert(name.replace('-', "_"), path.clone());
                }
            }
        }
        Ok(Self(found))
    }

    /// Files of the modules and of those they depend on, which come first.
    fn order(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in names {
            self.add(name, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        let path = self
            .0
            .get(name)
            .with_context(|| format!("the kernel has no module {name}"))?;
        if order.contains(path) {
            return Ok(());
        }
        for dependency in dependencies(&fs::read(path)?) {
            self.add(&dependency.replace('-', "_"), order)?;
        }
        order.push(path.clone());
        Ok(())
    }
}

/// A module names what it depends on in a string of its own.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = module[at + key.len()..].split(|byte| *byte == 0).next();
    let value = String::from_utf8_lossy(value.unwrap_or_default());
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// An archive in the format that kernels unpack ("newc" of cpio).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    made: Vec<String>,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        if !self.made.iter().any(|made| made == name) {
            self.made.push(name.to_owned());
            self.entry(name, 0o040_755, &[]);
        }
    }

    /// All directories above a file.
    fn directories(&mut self, file: &str) {
        for (at, _) in file.match_indices('/') {
            self.directory(&file[..at]);
        }
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        self.bytes.extend(b"070701");
        // Inode, mode, user, group, links, time, size, device twice, length of the name, checksum.
        let length = content.len() as u32;
        let name_length = name.len() as u32 + 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            0,
            0,
            name_length,
            0,
        ];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_a_module() {
        let module = b"\x7fELF...\0license=GPL\0depends=mbcache,crc16\0name=x\0";
        assert_eq!(dependencies(module), ["mbcache", "crc16"]);
        assert_eq!(dependencies(b"\0depends=\0"), Vec::<String>::new());
        assert_eq!(dependencies(b"none"), Vec::<String>::new());
    }

    #[test]
    fn entries_of_an_archive_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.directories("a/b/c");
        archive.file("a/b/c", b"12345");
        let bytes = archive.end();
        let found = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, window)| *window == b"070701");
        let places: Vec<_> = found.map(|(at, _)| at).collect();
        assert_eq!(places.len(), 4);
        assert!(places.iter().all(|at| at % 4 == 0), "{places:?}");
    }
}
