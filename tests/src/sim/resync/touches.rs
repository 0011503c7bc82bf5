//! What a change touches, as the file system service tells the dirty map.

use super::super::change::{Change, DIR};
use super::super::tree::{Ino, Name, Tree};
use tandem_repl::ids::Uid;
use tandem_repl::logic::dirty::{Cover, FileRef, Map, Touch};
use tandem_repl::logic::resync::messages::Kind;

/// Marks everything a change touches, as the file system service does: where a directory's files
/// are marked by being in it, one that leaves it is marked by itself. `mark` hears for what the
/// change has to wait.
pub fn touch_all(change: &Change, tree: &Tree, map: &mut Map, mark: Mark<'_>) {
    change.touches(tree, &mut |touch| mark(map.cover(DIR, touch)));
    match change {
        Change::Unlink { dir, name } => leaves(tree, (dir, name), None, map, mark),
        Change::Rename {
            dir,
            name,
            new_dir,
            new_name,
        } => {
            leaves(tree, (new_dir, new_name), None, map, mark);
            leaves(tree, (dir, name), Some((new_dir, new_name)), map, mark);
        }
        _ => {}
    }
}

type Mark<'a> = &'a mut dyn FnMut(Cover);

/// The name is about to lead elsewhere: the file is known by another one, or by `to`.
fn leaves(
    tree: &Tree,
    (dir, name): (&Uid, &Name),
    to: Option<(&Uid, &Name)>,
    map: &mut Map,
    mark: Mark<'_>,
) {
    let Some(parent) = tree.find(*dir) else {
        return;
    };
    let Ok(Some(ino)) = tree.lookup(parent, name) else {
        return;
    };
    mark(map.cover_everything());
    if map.is_deep(DIR, Tree::key(parent)) {
        let other = |(at, called, child): &&(Ino, Name, Ino)| {
            *child == ino && (*at != parent || **called != **name)
        };
        let to = match to {
            Some((uid, name)) => tree.find(*uid).map(|dir| (dir, name.clone())),
            None => {
                let places = tree.places();
                let other = places.iter().find(other);
                other.map(|(at, name, _)| (*at, name.clone()))
            }
        };
        if let Some(to) = to {
            mark_whole(tree, ino, &to, map, mark);
        }
    }
}

/// Marks a file as it is, as if it were at that place.
fn mark_whole(tree: &Tree, ino: Ino, (dir, name): &(Ino, Name), map: &mut Map, mark: Mark<'_>) {
    let Ok(inode) = tree.get(ino) else { return };
    let (Some(uid), Kind::File) = (inode.meta.uid, &inode.meta.kind) else {
        return;
    };
    let file = FileRef {
        key: Tree::key(ino),
        uid,
        place: Some((Tree::key(*dir), name)),
    };
    let size = inode.meta.size;
    mark(map.cover(DIR, &Touch::Meta { file }));
    mark(map.cover(DIR, &Touch::Whole { file, size }));
}

/// After a change of names the map hears where a marked file is now.
pub fn after(change: &Change, tree: &Tree, gone: Option<Ino>, map: &mut Map) {
    let moved = match change {
        Change::Rename {
            new_dir, new_name, ..
        } => {
            let parent = tree.find(*new_dir);
            parent.and_then(|p| tree.lookup(p, new_name).ok().flatten())
        }
        Change::Unlink { .. } => None,
        _ => return,
    };
    for ino in moved.into_iter().chain(gone) {
        let place = tree.place(ino);
        let place = place
            .as_ref()
            .map(|(dir, name)| (Tree::key(*dir), &name[..]));
        map.moved(DIR, Tree::key(ino), place);
    }
}

/// The file a change takes a name from.
pub fn loser(change: &Change, tree: &Tree) -> Option<Ino> {
    let (dir, name) = match change {
        Change::Unlink { dir, name } => (dir, name),
        Change::Rename {
            new_dir, new_name, ..
        } => (new_dir, new_name),
        _ => return None,
    };
    tree.lookup(tree.find(*dir)?, name).ok()?
}
