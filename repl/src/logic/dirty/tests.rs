//! The map against what was really touched.

use super::world::{DIR, Rng, World, key, large, name, small};
use super::*;

fn run(seed: u64, limits: Limits, rules: Rules) -> Option<String> {
    let mut world = World::new(seed, limits, rules);
    for _ in 0..400 {
        world.step();
        let missing = match world.rng.below(12) {
            0 => world.crash(),
            _ => world.missing(),
        };
        if missing.is_some() {
            return missing;
        }
        let map = &world.map;
        assert!(map.files.len() <= limits.files && map.dirs.len() <= limits.dirs);
        assert!(map.names <= limits.names && map.chunks <= limits.chunks);
        let chunks: usize = map.files.values().map(|f| f.chunks()).sum();
        assert_eq!(map.chunks, chunks);
    }
    None
}

#[test]
fn nothing_touched_is_ever_unmarked_within_bounds_or_not() {
    for seed in 0..300 {
        let limits = if seed % 2 == 0 { small() } else { large() };
        let missing = run(seed, limits, Rules::default());
        assert_eq!(missing, None, "seed {seed}");
    }
}

#[test]
fn a_rule_turned_off_is_noticed() {
    let two_generations = Rules {
        two_generations: false,
        ..Rules::default()
    };
    let births = Rules {
        births: false,
        ..Rules::default()
    };
    for rules in [two_generations, births] {
        let noticed = |seed| run(seed, large(), rules).is_some();
        assert!((0..50).any(noticed), "{rules:?}");
    }
}

#[test]
fn an_idle_pair_ends_with_an_empty_map() {
    for seed in 0..50 {
        let mut world = World::new(seed, large(), Rules::default());
        (0..100).for_each(|_| world.step());
        assert_eq!(world.crash(), None);
        for _ in 0..2 {
            world.flush();
            let generation = world.map.begin_generation();
            world.map.drop_before(generation, true);
            world.rewrite();
        }
        assert!(world.map.is_empty());
        assert_eq!(world.map.pressure().level, Level::Quiet);
        assert_eq!(world.map.marks(), Marks::default());
        assert!(world.disk.iter().all(|r| matches!(r, Record::Births(_))));
    }
}

fn data(n: u64, offset: u64, len: u64, size: u64) -> Touch<'static> {
    let file = FileRef {
        key: key(n),
        uid: Uid::NONE,
        place: Some((key(0), b"file")),
    };
    Touch::Data {
        file,
        offset,
        len,
        size,
    }
}

/// Flushes it takes to cover all of it, one after the other.
fn flushes<'a>(map: &mut Map, touches: impl Iterator<Item = Touch<'a>>) -> usize {
    let mut count = 0;
    for touch in touches {
        if let Cover::Needs(_) = map.cover(DIR, &touch) {
            count += 1;
            let (_, seq) = map.take_pending();
            map.flushed(seq);
        }
    }
    count
}

fn checkpoint(map: &mut Map) {
    let generation = map.begin_generation();
    map.drop_before(generation, true);
    let (_, seq) = map.snapshot();
    map.flushed(seq);
}

#[test]
fn few_flushes_cover_much() {
    let mut map = Map::new(2, large(), Rules::default());
    let (gib, write) = (1_u64 << 30, 128 << 10);
    let run = (0..8 * gib / write).map(|n| data(1, n * write, write, 8 * gib));
    let count = flushes(&mut map, run);
    assert!(
        count < 150,
        "{count} for overwriting 8 GiB from front to end"
    );

    let mut rng = Rng(1);
    let size = 4 * gib;
    let mut random = |count: u64| {
        let at: Vec<_> = (0..count).map(|_| rng.below(size / 4096) * 4096).collect();
        at.into_iter().map(|at| data(2, at, 4096, size))
    };
    let count = flushes(&mut map, random(60_000));
    assert!(count < 400, "{count} for random writes over 4 GiB");
    checkpoint(&mut map);
    let warm = flushes(&mut map, random(60_000));
    assert!(warm < 20, "{warm} for going on so");

    let names: Vec<_> = (0..10_000_u64).map(name).collect();
    let dir = DirRef {
        key: key(3),
        uid: Uid::NONE,
    };
    let create = || names.iter().map(|name| Touch::Entry { dir, name });
    let count = flushes(&mut map, create());
    assert!(count < 130, "{count} for making files in a directory");
    checkpoint(&mut map);
    assert_eq!(flushes(&mut map, create()), 0);

    // What was born needs none, nor do entries of a directory that was.
    let uid = map.next_uid();
    let dir = DirRef { key: key(4), uid };
    let inside = names.iter().map(|name| Touch::Entry { dir, name });
    assert_eq!(flushes(&mut map, inside), 0);
}

#[test]
fn marks_are_no_wider_than_what_was_touched() {
    let mut map = Map::new(2, large(), Rules::default());
    flushes(&mut map, (0..500).map(|n| data(1, n << 24, 1, 1 << 33)));
    let since = map.begin_generation();
    flushes(&mut map, (0..3).map(|n| data(1, n << 30, 1, 1 << 33)));
    let dir = DirRef {
        key: key(3),
        uid: Uid::NONE,
    };
    let names: Vec<_> = (0..1000_u64).map(name).collect();
    let touches = names.iter().map(|name| Touch::Entry { dir, name });
    flushes(&mut map, touches);
    let marks = map.marks_since(since);
    let grain = 1 << 20;
    let ranges: Vec<_> = (0..3).map(|n| (n << 30, grain)).collect();
    assert_eq!(marks.files[0].ranges, ranges);
    assert_eq!(
        (marks.dirs[0].names.len(), marks.dirs[0].all),
        (1000, false)
    );
    assert!(!marks.everything && marks.births.is_empty());
}

#[test]
fn the_bytes_touched_call_for_a_checkpoint() {
    let mut map = Map::new(2, large(), Rules::default());
    assert_eq!(map.pressure().level, Level::Quiet);
    // The same place again and again is one place.
    flushes(&mut map, (0..1 << 20).map(|_| data(1, 0, 4096, 1 << 30)));
    assert_eq!(map.pressure().level, Level::Marked);
    assert_eq!(map.pressure().hot, 64 << 10);
    flushes(&mut map, [data(2, 0, 1 << 29, 1 << 30)].into_iter());
    assert_eq!(map.pressure().level, Level::Due);
    let generation = map.begin_generation();
    flushes(&mut map, [data(2, 0, 1 << 29, 1 << 30)].into_iter());
    assert_eq!(map.pressure().level, Level::Full);
    map.drop_before(generation, true);
    let _ = map.snapshot();
    assert_eq!(map.pressure().hot, 1 << 29);
}

#[test]
fn a_file_that_leaves_is_marked_beyond_its_end() {
    let mut map = Map::new(2, large(), Rules::default());
    let file = FileRef {
        key: key(1),
        uid: Uid::NONE,
        place: Some((key(2), b"f")),
    };
    let size = 1 << 20;
    flushes(&mut map, [Touch::Whole { file, size }].into_iter());
    let marks = map.marks();
    assert_eq!(marks.files[0].ranges, [(0, 1 << 63)]);
    assert_eq!(map.pressure().hot, size, "only what it holds was touched");
    let mut again = Map::new(4, large(), Rules::default());
    again.replay(&map.exact());
    assert_eq!(again.marks().files[0].ranges, [(0, 1 << 63)]);
    assert!(again.chunks <= 1, "all offsets are one chunk");
    // Of one that was written to later, as coarsely.
    let checkpointed = |map: &mut Map| {
        checkpoint(map);
        flushes(map, [data(1, 0, 4096, size)].into_iter());
        map.exact()
    };
    let mut later = Map::new(6, large(), Rules::default());
    later.replay(&checkpointed(&mut map));
    assert!(later.chunks <= 1, "{} chunks", later.chunks);
}

#[test]
fn deep_marks_of_a_journal_are_doubted_until_a_checkpoint() {
    let deep = |deep| Record::Folder {
        dir: DIR,
        key: key(2),
        uid: Uid::NONE,
        deep,
    };
    let mut map = Map::new(2, large(), Rules::default());
    map.replay(&[deep(false)]);
    assert!(!map.marks().doubtful);
    map.replay(&[deep(true)]);
    assert!(map.marks().doubtful);
    checkpoint(&mut map);
    assert!(!map.marks().doubtful);
}

#[test]
fn a_follower_keeps_nothing_warm() {
    for warm in [true, false] {
        let mut map = Map::new(2, large(), Rules::default());
        flushes(&mut map, [data(1, 0, 4096, 1 << 20)].into_iter());
        let generation = map.begin_generation();
        map.drop_before(generation, warm);
        assert_eq!(map.is_empty(), !warm);
    }
}
