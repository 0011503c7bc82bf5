//! Where the target may have a directory: its way from the root, by identity and name.

use super::super::super::bounded::Name;
use super::super::super::messages::{Request, Way};
use super::super::super::{Failure, Feed, Pipe, SourceTree};
use super::super::{ENTRY_COST, Engine, REQUEST, Then, is_gone};
use crate::ids::{DirId, Key, Uid};
use std::collections::HashMap;

/// Ways in one request.
const WAYS: usize = 128;

/// Directories below each other; more than any path can name.
const DEPTH: usize = 16 * 1024;

/// Directories above others, as read in one round: key to key, identity and name in the one above.
type Above = HashMap<(DirId, Key), (Key, Uid, Name)>;

impl<P: Pipe, F: Feed> Engine<'_, P, F> {
    pub(super) async fn resolve(&mut self, missing: Vec<(DirId, Uid)>) -> Result<(), Failure> {
        let mut above = Above::new();
        let mut ways = Vec::new();
        let mut asked: Vec<(DirId, Uid)> = Vec::new();
        let mut bytes = 0;
        for (dir, uid) in missing {
            let Some(way) = self.way_of(&mut above, dir, uid)? else {
                continue;
            };
            let other = asked.first().is_some_and(|(first, _)| *first != dir);
            if other || bytes > REQUEST || ways.len() >= WAYS {
                self.post_ways(&mut asked, &mut ways).await?;
                bytes = 0;
                above.clear();
            }
            bytes += way.iter().map(|(_, n)| n.bytes().len() + 24).sum::<usize>();
            ways.push(way);
            asked.push((dir, uid));
        }
        self.post_ways(&mut asked, &mut ways).await?;
        self.work().await
    }

    pub(super) async fn post_ways(
        &mut self,
        asked: &mut Vec<(DirId, Uid)>,
        ways: &mut Vec<Way>,
    ) -> Result<(), Failure> {
        let Some((dir, _)) = asked.first().copied() else {
            return Ok(());
        };
        let request = Request::Resolve {
            dir,
            ways: std::mem::take(ways),
        };
        self.feed.permit(ENTRY_COST * asked.len() as u64).await?;
        self.post(request, Then::Resolved(std::mem::take(asked)))
            .await
    }

    /// The way to a directory as the target may have it; `None` if it cannot be told.
    pub(super) fn way_of(
        &mut self,
        above: &mut Above,
        dir: DirId,
        uid: Uid,
    ) -> Result<Option<Way>, Failure> {
        let Some(plan) = self.plan.dirs.get_mut(&(dir, uid)) else {
            return Ok(None);
        };
        if uid == Uid::ROOT {
            return Ok(Some(Vec::new()));
        }
        let way = match plan.key {
            Some(key) => way(self.tree, above, dir, key, uid)?,
            None => None,
        };
        if way.is_none() {
            plan.key = None;
        }
        // A directory that is gone here is found if a name that was looked at leads to it: then
        // its identity is enough.
        Ok(way.or_else(|| {
            let anywhere = Name::new(b"-").map(|name| vec![(uid, name)]);
            plan.way.clone().or(anywhere)
        }))
    }
}

/// The way from the root; `None` if the directory is gone.
fn way(
    tree: &dyn SourceTree,
    cache: &mut Above,
    dir: DirId,
    key: Key,
    uid: Uid,
) -> Result<Option<Way>, Failure> {
    let root = tree.root(dir);
    let failed = |errno| Failure::Source {
        errno,
        what: "the place of a directory".into(),
    };
    let (mut key, mut uid) = (key, uid);
    let mut way = Way::new();
    while key != root && way.len() < DEPTH {
        if let Some((above, above_uid, name)) = cache.get(&(dir, key)) {
            way.push((uid, name.clone()));
            (key, uid) = (*above, *above_uid);
            continue;
        }
        let found = tree.above(dir, key).and_then(|(above, name)| {
            let above_uid = if above == root {
                Uid::ROOT
            } else {
                tree.file(dir, above)?.uid
            };
            Ok((above, above_uid, name))
        });
        let (above, above_uid, name) = match found {
            Ok(found) => found,
            Err(errno) if is_gone(errno) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let Some(name) = Name::new(&name) else {
            return Ok(None);
        };
        cache.insert((dir, key), (above, above_uid, name.clone()));
        way.push((uid, name));
        (key, uid) = (above, above_uid);
    }
    way.reverse();
    Ok(Some(way))
}
