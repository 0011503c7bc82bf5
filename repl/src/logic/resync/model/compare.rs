//! Comparing two models: the oracle of "both replicas are equal".

use super::super::messages::Kind;
use super::{Inner, Model};
use crate::ids::Key;
use std::collections::{BTreeMap, HashMap};

impl Model {
    /// Where two trees differ, as lines for a person; empty if they are equal in every respect.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.inner(), other.inner());
        let mut found = Vec::new();
        let mut pairs = HashMap::new();
        let mut todo = vec![(ours.root, theirs.root, String::new())];
        while let Some((a, b, path)) = todo.pop() {
            compare_one(&ours, &theirs, (a, b), &path, &mut found);
            // The same names must share a file on both sides.
            if *pairs.entry(a).or_insert(b) != b {
                let uid = ours.inodes.get(&a).and_then(|i| i.uid);
                found.push(format!("{path}: other names share the file ({uid:?})"));
                continue;
            }
            let (Some(a), Some(b)) = (ours.inodes.get(&a), theirs.inodes.get(&b)) else {
                continue;
            };
            for (name, key) in &a.entries {
                let path = format!("{path}/{}", String::from_utf8_lossy(name));
                match b.entries.get(name) {
                    Some(other) => todo.push((*key, *other, path)),
                    None => found.push(format!("{path}: missing ({:?})", a.uid)),
                }
            }
            for name in b.entries.keys().filter(|n| !a.entries.contains_key(*n)) {
                let name = String::from_utf8_lossy(name);
                found.push(format!("{path}/{name}: too much"));
            }
        }
        found.sort();
        found
    }
}

fn compare_one(
    ours: &Inner,
    theirs: &Inner,
    (a, b): (Key, Key),
    path: &str,
    found: &mut Vec<String>,
) {
    let (Some(one), Some(two)) = (ours.inodes.get(&a), theirs.inodes.get(&b)) else {
        found.push(format!("{path}: no file behind the name"));
        return;
    };
    let mut differs = |what: &str, a: String, b: String| {
        if a != b {
            found.push(format!("{path}: {what}: {a} | {b}"));
        }
    };
    differs("kind", format!("{:?}", one.kind), format!("{:?}", two.kind));
    differs("uid", format!("{:?}", one.uid), format!("{:?}", two.uid));
    differs("size", one.size.to_string(), two.size.to_string());
    differs("links", one.links.to_string(), two.links.to_string());
    let (mut left, mut right) = (one.attrs.clone(), two.attrs.clone());
    if one.kind == Kind::Directory && path.is_empty() {
        (left.size, right.size) = (0, 0);
    }
    differs("attributes", format!("{left:?}"), format!("{right:?}"));
    let numbers = one.blocks.keys().chain(two.blocks.keys());
    for n in numbers {
        // A hole may be zeros: the end of a file that was cut in the middle of a block and grew.
        let zero = |blocks: &BTreeMap<u64, Box<[u8]>>| {
            blocks.get(n).is_none_or(|b| b.iter().all(|b| *b == 0))
        };
        if zero(&one.blocks) && zero(&two.blocks) {
            continue;
        }
        if one.blocks.get(n) != two.blocks.get(n) {
            let has = |b: bool| if b { "data" } else { "hole" };
            let (a, b) = (one.blocks.contains_key(n), two.blocks.contains_key(n));
            differs(
                &format!("block {n}"),
                has(a).into(),
                format!("other {}", has(b)),
            );
        }
    }
}
