//! Cases one by one, with what they may cost.

use super::super::messages::Kind;
use super::World;
use crate::ids::Key;

/// A tree that both have: directories `a/b/c` and `d`, files in each.
fn both() -> (World, Key) {
    let world = World::new(1);
    let root = {
        let mut app = world.app.borrow_mut();
        let root = app.root();
        let a = app.mkdir(root, "a");
        let b = app.mkdir(a, "b");
        let c = app.mkdir(b, "c");
        let d = app.mkdir(root, "d");
        for (n, dir) in [root, a, b, c, d].into_iter().enumerate() {
            app.file(dir, "file", &vec![n as u8 + 1; 50_000]);
            app.file(dir, "other", b"small");
        }
        app.marking.mark_everything();
        root
    };
    world.passes.set(1);
    let outcome = world.resync();
    assert_eq!(outcome.anomalies, 0);
    (world, root)
}

fn at(world: &World, path: &str) -> (Key, Box<[u8]>, Key) {
    let tree = world.source();
    let mut place = (tree.root_key(), Box::from(&b""[..]), tree.root_key());
    for name in path.split('/') {
        let key = tree.key_at(place.2, name.as_bytes()).unwrap();
        place = (place.2, name.as_bytes().into(), key.expect(path));
    }
    place
}

/// Renames by paths.
fn mv(world: &World, from: &str, to: &str) {
    let from = at(world, from);
    let (dir, name) = to.rsplit_once('/').unwrap_or(("", to));
    let dir = if dir.is_empty() {
        world.source().root_key()
    } else {
        at(world, dir).2
    };
    let mut app = world.app.borrow_mut();
    app.rename((from.0, &from.1), (dir, name.as_bytes()), false);
}

/// Resyncs; bytes that were sent.
fn sent(world: &World) -> u64 {
    let before = world.target.written();
    let outcome = world.resync();
    assert_eq!(outcome.anomalies, 0);
    world.target.written() - before
}

#[test]
fn a_moved_directory_is_moved() {
    let (world, _) = both();
    mv(&world, "a", "d/a2");
    assert_eq!(sent(&world), 0);
    assert_eq!(world.target.swept(), 0);
}

#[test]
fn directories_that_changed_places() {
    let (world, root) = both();
    world
        .app
        .borrow_mut()
        .rename((root, b"a"), (root, b"d"), true);
    assert_eq!(sent(&world), 0);
    // What was above is below now.
    mv(&world, "d/b", "x");
    mv(&world, "d", "x/c/d");
    mv(&world, "a", "x/c/d/a");
    assert_eq!(sent(&world), 0);
    mv(&world, "x/c", "c");
    mv(&world, "x", "c/d/a/x");
    assert_eq!(sent(&world), 0);
    assert_eq!(world.target.swept(), 0);
}

#[test]
fn a_chain_of_renames() {
    let (world, _) = both();
    mv(&world, "a/file", "tmp");
    mv(&world, "d/file", "a/file");
    mv(&world, "a/b/file", "d/file");
    mv(&world, "tmp", "a/b/file");
    assert_eq!(sent(&world), 0);
}

#[test]
fn hard_links_come_and_go() {
    let (world, root) = both();
    let place = at(&world, "a/b/file");
    world.app.borrow_mut().link(&place, root, b"second");
    assert_eq!(sent(&world), 0);
    // The first name goes; content changes under the second.
    world.app.borrow_mut().remove(place.0, &place.1);
    let second = at(&world, "second");
    world.app.borrow_mut().write(&second, 20_000, b"changed");
    assert!(sent(&world) <= 8192);
}

#[test]
fn a_link_from_a_moved_directory() {
    let (world, root) = both();
    let place = at(&world, "a/b/file");
    world.app.borrow_mut().link(&place, root, b"second");
    mv(&world, "a", "d/a");
    assert_eq!(sent(&world), 0);
}

#[test]
fn only_blocks_that_differ_are_sent() {
    let (world, root) = both();
    let big = world
        .app
        .borrow_mut()
        .file(root, "big", &vec![1; 1_000_000]);
    sent(&world);
    let place = (root, Box::from(&b"big"[..]), big);
    world.app.borrow_mut().write(&place, 500_000, b"x");
    // A mark may be coarse.
    world.app.borrow_mut().write(&place, 0, &vec![1; 400_000]);
    assert_eq!(sent(&world), 8192);
}

#[test]
fn a_file_replaced_by_another() {
    let (world, _) = both();
    let place = at(&world, "a/file");
    {
        let mut app = world.app.borrow_mut();
        app.file(place.0, "new", b"new content");
        app.rename((place.0, b"new"), (place.0, b"file"), false);
    }
    assert_eq!(sent(&world), 11);
    assert_eq!(world.target.swept(), 1);
}

#[test]
fn a_file_becomes_a_directory_and_back() {
    let (world, root) = both();
    {
        let mut app = world.app.borrow_mut();
        app.remove(root, b"file");
        let dir = app.mkdir(root, "file");
        app.file(dir, "in", b"12345");
        app.remove_all(root, b"d");
        app.file(root, "d", b"no directory");
    }
    assert_eq!(sent(&world), 17);
}

#[test]
fn a_removed_subtree() {
    let (world, root) = both();
    world.app.borrow_mut().remove_all(root, b"a");
    assert_eq!(sent(&world), 0);
}

#[test]
fn out_of_a_removed_directory() {
    let (world, root) = both();
    mv(&world, "a/b/c", "c");
    world.app.borrow_mut().remove_all(root, b"a");
    assert_eq!(sent(&world), 0);
}

#[test]
fn a_deep_new_tree() {
    let (world, root) = both();
    {
        let mut app = world.app.borrow_mut();
        let mut at = root;
        for n in 0..300 {
            at = app.mkdir(at, &format!("level-{n}"));
            app.file(at, "file", b"x");
        }
    }
    assert_eq!(sent(&world), 300);
}

#[test]
fn many_entries() {
    let (world, root) = both();
    {
        let mut app = world.app.borrow_mut();
        let dir = app.mkdir(root, "many");
        for n in 0..2000 {
            app.file(dir, &format!("file-{n}"), b"0123456789");
        }
        app.make(dir, &[b'n'; 255], Kind::Symlink(vec![b't'; 4096]))
            .unwrap();
    }
    assert_eq!(sent(&world), 20_000);
    let requests = world.requests.get();
    world.requests.set(0);
    assert_eq!(sent(&world), 0);
    assert!(world.requests.get() < 20 && requests > 20);
}

/// As a resync does it that has lost the directory, and brings it back with its identity.
#[test]
fn a_directory_that_was_made_anew_since_it_was_marked() {
    let (world, root) = both();
    let old = at(&world, "d").2;
    world.app.borrow_mut().file(old, "new", b"marked");
    world.app.borrow_mut().remove(old, b"other");
    let tree = world.source();
    let uid = Some(tree.uid_of(old));
    let now = (9, 9);
    let anew = tree
        .make((root, b"anew"), Kind::Directory, uid, now)
        .unwrap();
    for name in [&b"file"[..], b"new"] {
        tree.rename((old, name), (anew, name), false, now).unwrap();
    }
    world.app.borrow_mut().remove(root, b"d");
    tree.rename((root, b"anew"), (root, b"d"), false, now)
        .unwrap();
    assert_eq!(sent(&world), 6);
    assert_eq!(world.target.swept(), 1);
}

#[test]
fn attributes_alone() {
    let (world, root) = both();
    let (file, dir) = (at(&world, "a/file"), at(&world, "a/b"));
    {
        let mut app = world.app.borrow_mut();
        app.chmod(&file, 0o4711);
        app.chmod(&dir, 0o1777);
        let root = (root, Box::from(&b""[..]), root);
        app.chmod(&root, 0o700);
    }
    assert_eq!(sent(&world), 0);
}

#[test]
fn large_extended_attributes() {
    let (world, _) = both();
    let file = at(&world, "a/file");
    world.app.borrow_mut().chmod(&file, 0o600);
    for n in 0..6 {
        let name = format!("user.{n}");
        world
            .source()
            .set_xattr(file.2, name.as_bytes(), &[n; 60_000])
            .unwrap();
    }
    sent(&world);
}

#[test]
fn a_full_target_is_named() {
    let (world, root) = both();
    world.app.borrow_mut().file(root, "big", &vec![1; 100_000]);
    world.target.set_room(Some(50_000));
    let failure = world.session().unwrap_err();
    assert!(
        matches!(failure, super::Failure::Target { errno: 28, .. }),
        "{failure}"
    );
    world.target.set_room(None);
    world.resync();
}

#[test]
fn what_was_not_marked_is_found_and_counted() {
    let (world, root) = both();
    // Changed behind our back: the directory is not where it should be.
    world
        .source()
        .rename((root, b"a"), (root, b"hidden"), false, (9, 9))
        .unwrap();
    let file = at(&world, "hidden/b/file");
    world.app.borrow_mut().write(&file, 0, b"marked");
    let dir = at(&world, "hidden/b");
    world.app.borrow_mut().file(dir.2, "new", b"marked");
    world.passes.set(4);
    let outcome = world.resync();
    assert!(outcome.anomalies > 0);
}
