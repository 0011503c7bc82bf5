//! The cases.

use super::*;

#[test]
fn changes_while_the_target_was_away() {
    for seed in seeds() {
        println!("seed {seed}");
        let pair = synchronised("away", seed);
        for _ in 0..4 {
            pair.app.borrow_mut().changes(60);
            assert_eq!(pair.resync().anomalies, 0);
        }
    }
}

#[test]
fn changes_while_the_resync_runs_and_breaks() {
    for seed in seeds() {
        println!("seed {seed}");
        let pair = synchronised("runs", seed);
        pair.passes.set(3);
        pair.busy.set(1);
        for _ in 0..4 {
            pair.app.borrow_mut().changes(40);
            let breaks = pair.app.borrow_mut().below(40);
            pair.breaks.set(breaks);
            pair.resync();
        }
    }
}

/// Nothing marked leads to what such a comparison had parked, and nobody asks for it again.
#[test]
fn an_interrupted_comparison_of_everything_begins_anew() {
    for seed in seeds() {
        for requests in [5, 10, 14] {
            let pair = synchronised("walked", seed);
            pair.app.borrow_mut().changes(60);
            pair.app.borrow_mut().marking.mark_everything();
            pair.breaks.set(requests);
            let broken = pair.session();
            assert!(matches!(broken, Err(Failure::Gone(_))), "{broken:?}");
            // The source serves in another epoch since.
            pair.baseline.set(pair.baseline.get() + 1);
            pair.gens.borrow_mut().clear();
            pair.app.borrow_mut().marking.take();
            pair.breaks.set(usize::MAX);
            pair.peer_marks.set(true);
            pair.resync();
        }
    }
}

#[test]
fn a_first_synchronisation_of_an_older_copy() {
    for seed in seeds() {
        println!("seed {seed}");
        let pair = Pair::new("copy", seed);
        pair.app.borrow_mut().changes(150);
        // With all attributes, the identities too, which belong to other inodes.
        let copied = std::process::Command::new("cp")
            .args(["-a", "-T"])
            .args([pair.source(), pair.target()])
            .status()
            .unwrap();
        assert!(copied.success());
        pair.app.borrow_mut().changes(20);
        pair.everything();
        // Nothing has changed: nothing is sent.
        pair.app.borrow_mut().marking.mark_everything();
        assert_eq!(pair.cost(), 0);
    }
}

#[test]
fn a_moved_directory_is_moved() {
    let pair = Pair::new("moved", 1);
    let root = pair.source();
    {
        let mut app = pair.app.borrow_mut();
        app.mkdir(&root.join("a"));
        app.mkdir(&root.join("b"));
        app.mkdir(&root.join("a/big"));
        for n in 0..50 {
            app.file(&root.join(format!("a/big/{n}")), &vec![n; 20_000]);
        }
    }
    assert_eq!(pair.cost(), 50 * 20_000);
    let inode = |path: &str| std::fs::metadata(pair.target().join(path)).unwrap().ino();
    let before = inode("a/big/7");
    pair.app
        .borrow_mut()
        .rename(&root.join("a"), &root.join("b/c"));
    assert_eq!(pair.cost(), 0);
    assert_eq!(inode("b/c/big/7"), before);
}

#[test]
fn protected_files_and_all_kinds_of_attributes() {
    let pair = Pair::new("attributes", 1);
    let root = pair.source();
    let path = |name: &str| root.join(name);
    {
        let mut app = pair.app.borrow_mut();
        app.mkdir(&path("dir"));
        app.file(&path("dir/immutable"), b"one");
        app.file(&path("dir/append"), b"two");
        app.file(&path("setuid"), b"three");
        app.file(&path("capable"), b"four");
        app.touch(&path("dir"), None);
        std::fs::set_permissions(path("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
        std::os::unix::fs::chown(path("setuid"), Some(1000), Some(1001)).unwrap();
        std::fs::set_permissions(path("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
        symlink("nowhere", path("link")).unwrap();
        app.made(&path("link"));
        // What setcap writes: version 2, cap_net_raw, effective.
        let capability = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        app::set_xattr(&path("capable"), c"security.capability", &capability);
        app::set_xattr(&path("dir"), c"user.note", &[7; 3000]);
        app::set_xattr(&path("link"), c"trusted.of-a-link", b"x");
        app::protect(&path("dir/immutable"), 0x10);
        app::protect(&path("dir/append"), 0x20);
        app::protect(&path("dir"), 0x10);
    }
    pair.resync();
    for name in ["dir", "dir/immutable"] {
        let refused = std::fs::write(pair.target().join(name).join("x"), b"").unwrap_err();
        println!("{name}: {refused}");
    }
    // Changed under protection, and protected again.
    {
        let mut app = pair.app.borrow_mut();
        for name in ["dir", "dir/immutable", "dir/append"] {
            app.touch(&path(name), None);
            app::protect(&path(name), 0);
        }
        app.write(&path("dir/immutable"), 1, b"changed");
        app.rename(&path("dir/append"), &path("dir/renamed"));
        app.remove(&path("capable"));
        app::protect(&path("dir/immutable"), 0x10);
        app::protect(&path("dir/renamed"), 0x20);
        app::protect(&path("dir"), 0x10);
    }
    pair.resync();
    // And removed.
    {
        let mut app = pair.app.borrow_mut();
        for name in ["dir", "dir/immutable", "dir/renamed"] {
            app.touch(&path(name), None);
            app::protect(&path(name), 0);
        }
        for name in ["dir/immutable", "dir/renamed", "dir"] {
            app.remove(&path(name));
        }
    }
    pair.resync();
}

#[test]
fn a_large_file_of_which_little_changed() {
    let pair = Pair::new("large", 1);
    let file = pair.source().join("large");
    pair.app.borrow_mut().file(&file, &vec![0x5a; 40 << 20]);
    // Data, a hole of 100 MiB, data.
    pair.app.borrow_mut().write(&file, 140 << 20, &[1; 10_000]);
    assert_eq!(pair.cost(), (40 << 20) + 10_000);
    let blocks = std::fs::metadata(pair.target().join("large"))
        .unwrap()
        .blocks();
    assert!(blocks * 512 < 48 << 20, "the hole is one: {blocks} blocks");
    pair.app.borrow_mut().write(&file, 30 << 20, b"changed");
    pair.app.borrow_mut().touch(&file, Some((0, 40 << 20)));
    assert_eq!(pair.cost(), 8192);
}

/// Figures, for whoever works on the speed: `cargo test --release -p tandem-fs figures -- --ignored
/// --nocapture`.
#[test]
#[ignore = "measures, does not test"]
fn figures() {
    let pair = Pair::new("figures", 1);
    let root = pair.source();
    let files = 20_000;
    for d in 0..files / 100 {
        let dir = root.join(format!("d{d}"));
        std::fs::create_dir(&dir).unwrap();
        for n in 0..100 {
            std::fs::write(dir.join(format!("file-{n}")), vec![n as u8; 4000]).unwrap();
        }
    }
    // Processor time: this machine may be busy with other things.
    let processor = || {
        let of = |who| {
            // SAFETY: `rusage` is plain data for which zero is a value, and valid for writes.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(who, &raw mut usage);
                usage
            };
            let time = |t: libc::timeval| t.tv_sec as f64 * 1e6 + t.tv_usec as f64;
            time(usage.ru_utime) + time(usage.ru_stime)
        };
        of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
    };
    let run = |what: &str, work: &dyn Fn()| {
        let (began, before) = (std::time::Instant::now(), processor());
        work();
        let took = began.elapsed();
        let each = (processor() - before) / f64::from(files);
        println!("{what}: {took:?}, {each:.1} us of processor time a file");
    };
    run("give identities, copy", &|| {
        pair.app.borrow_mut().marking.mark_everything();
        pair.session().unwrap();
    });
    // Not removed: ext4 looks long for inodes that were not used just before.
    let aside = |n: u32| {
        std::fs::rename(pair.target(), pair.top.join(format!("old-{n}"))).unwrap();
        std::fs::create_dir(pair.target()).unwrap();
    };
    aside(1);
    run("copy", &|| {
        pair.app.borrow_mut().marking.mark_everything();
        pair.session().unwrap();
    });
    run("compare", &|| {
        pair.app.borrow_mut().marking.mark_everything();
        pair.session().unwrap();
    });
    aside(2);
    run("rsync -aX", &|| {
        let from = format!("{}/", root.display());
        let copied = std::process::Command::new("rsync")
            .args(["-aX", &from])
            .arg(pair.target())
            .status();
        assert!(copied.is_ok_and(|s| s.success()));
    });
}
