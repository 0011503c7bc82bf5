//! A tree of a guest, captured inside and compared outside.

use crate::scratch::open_dir;
use crate::tree::{Options, Tree, capture};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::path::Path;

/// Captures a directory, as one line of text.
pub fn send(dir: &Path) -> Result<String> {
    let tree = capture(&open_dir(dir)?, &Options::replicas()).map_err(anyhow::Error::msg)?;
    let mut text = String::new();
    for byte in postcard::to_stdvec(&tree)? {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// The tree in the text.
pub fn receive(text: &str) -> Result<Tree> {
    let digits = text.trim_end().as_bytes();
    ensure!(digits.len().is_multiple_of(2), "the tree is cut");
    let byte = |pair: &[u8]| -> Result<u8> {
        let pair = std::str::from_utf8(pair)?;
        u8::from_str_radix(pair, 16).with_context(|| format!("{pair:?} in a tree"))
    };
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Result<_>>()?;
    Ok(postcard::from_bytes(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_arrives_as_it_was() {
        let dir = std::env::temp_dir().join(format!("tree-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("file"), "content").unwrap();
        let text = send(&dir).unwrap();
        let whole = capture(&open_dir(&dir).unwrap(), &Options::replicas()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(receive(&text).unwrap(), whole);
        assert!(receive(&text[..text.len() - 1]).is_err());
    }
}
