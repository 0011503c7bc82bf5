//! Anything in any order; afterwards everything goes well, and must.

use super::*;

const CHECKERS: [&str; 5] = ["restart", "stopstart", "wait", "stop", "swap"];
const STATES: [State; 4] = [State::Wait, State::Alone, State::Prim, State::Second];

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn some_command(rng: &mut Rng) -> Command {
    match rng.below(12) {
        0 | 1 => Command::Start,
        2 => Command::Stop,
        3 => Command::Stopstart,
        4 => Command::Restart,
        5 | 6 => Command::Swap,
        7 => Command::Prim {
            force: rng.below(2) == 0,
        },
        8 => Command::Second {
            full: rng.below(2) == 0,
        },
        9 => Command::Failover(rng.below(3) > 0),
        10 => Command::Maintenance(rng.below(3) == 0),
        _ => Command::Checkers(rng.below(3) > 0),
    }
}

/// More addresses than before, or fewer; other checkers.
fn some_config(rng: &mut Rng) -> Module {
    let mut config = config();
    let more = |n: u64| VirtualIp {
        address: std::net::IpAddr::from([10, 0, 1, n as u8]),
        ..config.virtual_ips[0].clone()
    };
    let more: Vec<_> = (0..rng.below(3)).map(more).collect();
    if rng.below(3) == 0 {
        config.virtual_ips.clear();
    }
    config.virtual_ips.extend(more);
    config.checkers.truncate(rng.below(7) as usize);
    config
}

fn some_view(rng: &mut Rng) -> View {
    let state = STATES[rng.below(4) as usize];
    let peer = (rng.below(3) > 0).then(|| STATES[rng.below(4) as usize]);
    let mut view = view(state, peer);
    view.has_epoch = rng.below(8) > 0;
    view.served = rng.below(2) == 0;
    view
}

fn event(world: &mut World, rng: &mut Rng, token: &mut u64) {
    match rng.below(20) {
        0..=5 => {
            let ok = rng.below(5) > 0;
            world.finish(if ok { Ok(()) } else { Err("it failed".into()) });
        }
        6..=9 => {
            let ok = rng.below(4) > 0;
            world.answer(if ok { Ok(()) } else { Err(refusal("isolated")) });
        }
        10 => {
            *token += 1;
            let command = some_command(rng);
            world.command(*token, command);
        }
        11 => {
            if matches!(world.daemon, Daemon::Up(_)) {
                let mut view = some_view(rng);
                let left = Duration::from_millis(rng.below(3000));
                view.until = (rng.below(3) == 0).then(|| world.now + left);
                world.daemon = Daemon::Up(view);
                world.tell();
            }
        }
        12 if rng.below(4) == 0 => {
            world.daemon = Daemon::Gone;
            world.asked.clear();
            world.tell();
        }
        13 => world.input(Input::Checker {
            name: CHECKERS[rng.below(5) as usize].into(),
            up: rng.below(3) > 0,
            detail: "so it is".into(),
        }),
        14 if rng.below(4) == 0 => {
            world.addresses = false;
            world.input(Input::AddressLost("10.0.0.9".into()));
        }
        15 if rng.below(4) == 0 => {
            let slept = Duration::from_millis(rng.below(20_000));
            world.now += slept;
            world.input(Input::Slept(slept));
        }
        16 if rng.below(4) == 0 => {
            *token += 1;
            let config = Box::new(some_config(rng));
            let token = *token;
            world.input(Input::Configure { token, config });
        }
        _ => world.pass(Duration::from_millis(rng.below(1500))),
    }
    assert!(
        !world.machine.running().addresses || world.machine.may_answer(),
        "addresses where nothing allows to serve"
    );
}

/// From here on everything goes well, and an operator wants the module to serve.
fn all_well(world: &mut World, token: &mut u64) {
    for name in CHECKERS {
        world.input(Input::Checker {
            name: name.into(),
            up: true,
            detail: String::new(),
        });
    }
    world.settle();
    let commands = [
        Command::Maintenance(false),
        Command::Failover(true),
        Command::Start,
    ];
    for command in commands {
        *token += 1;
        world.command(*token, command);
    }
    for _ in 0..2 {
        if let Daemon::Up(v) = &mut world.daemon {
            v.until = None;
            v.has_epoch = true;
            v.peer_connected = false;
            v.peer_state = None;
            if v.state == State::Second {
                v.state = State::Wait;
            }
        }
        world.tell();
        world.settle();
    }
}

#[test]
fn whatever_happens_nothing_serves_without_the_right_and_all_ends_well() {
    for seed in 0..3000 {
        let mut rng = Rng(seed);
        let mut config = config();
        config.preferred = (rng.below(3) == 0).then(|| "b".into());
        config.failover = rng.below(4) > 0;
        if rng.below(3) == 0 {
            config.virtual_ips.clear();
        }
        let mut world = World::new(config);
        let mut token = 0;
        for _ in 0..rng.below(400) {
            event(&mut world, &mut rng, &mut token);
        }
        all_well(&mut world, &mut token);
        let shown = world.machine.shown();
        let ends = (shown.state, shown.readiness);
        let good = matches!(ends, (State::Alone | State::Prim, Readiness::Ready));
        assert!(good, "seed {seed}: {shown:?} {:#?}", world.machine);
        token += 1;
        world.command(token, Command::Stop);
        world.settle();
        assert_eq!(world.machine.shown().state, State::Stop, "seed {seed}");
        assert_eq!(world.machine.running(), Running::NOTHING, "seed {seed}");
        let answered = |t: &&u64| world.resolved.contains_key(*t);
        let open: Vec<_> = world.given.iter().filter(|t| !answered(t)).collect();
        assert!(open.is_empty(), "seed {seed}: {open:?} never answered");
    }
}
