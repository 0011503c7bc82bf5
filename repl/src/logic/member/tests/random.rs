//! Random schedules of two members and a witness with slow disks, a net that cuts, and daemons
//! that crash: a first look for steps that do not go together. The simulator looks further.

use super::world::{Node, World};
use super::*;

impl World {
    fn command(&mut self, n: usize) {
        let token = self.token;
        self.token += 1;
        let input = match self.random(10) {
            0..4 => Input::Prim {
                token,
                force: false,
            },
            4..7 => Input::Second { token },
            7 => Input::Swap { token },
            8 => Input::Stop { token },
            _ => Input::Resync {
                token,
                everything: token.is_multiple_of(2),
            },
        };
        self.input(n, input);
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for n in [0, 1] {
            self.input(n, Input::Tick);
        }
    }

    fn step(&mut self) {
        let n = self.random(2) as usize;
        match self.random(100) {
            0..35 => self.deliver(n, true),
            35..65 => self.effect(n, true),
            65..80 => self.write(n),
            80..90 => {
                let ms = self.random(200);
                self.pass(ms);
            }
            90..93 => self.connect(),
            93 => self.cut(),
            94 if self.random(4) == 0 => self.restart(n),
            95 if self.nodes[n].exited => self.restart(n),
            96 => {
                let pressure = Pressure {
                    marked: true,
                    urgent: true,
                    quiet: false,
                };
                self.input(n, Input::Pressure(pressure));
            }
            97..99 => self.command(n),
            99 => {
                let ms = self.random(3000);
                self.pass(ms);
            }
            _ => {}
        }
    }

    fn quiet(&mut self, steps: usize) {
        for _ in 0..steps {
            for n in [0, 1] {
                self.deliver(n, false);
                self.effect(n, false);
                self.write(n);
            }
        }
    }

    /// Faults stop; a manager that only repeats simple commands brings both in sync.
    fn heal(&mut self) {
        let before = self.history();
        for round in 0..400u64 {
            self.quiet(30);
            for n in [0, 1] {
                if self.nodes[n].exited {
                    self.restart(n);
                }
            }
            self.connect();
            self.pass(100);
            let states = self.nodes.iter().map(|n| n.member.state());
            let states: Vec<_> = states.collect();
            let serving = states.iter().position(|s| s.serves());
            let token = round;
            match serving {
                None if round.is_multiple_of(7) => {
                    for n in [0, 1] {
                        self.input(
                            n,
                            Input::Prim {
                                token,
                                force: false,
                            },
                        );
                        self.quiet(30);
                    }
                }
                Some(n) if round.is_multiple_of(5) => self.input(1 - n, Input::Second { token }),
                _ => {}
            }
            if states.contains(&State::Prim) && states.contains(&State::Second) && round > 50 {
                return;
            }
        }
        let why = |n: &Node| format!("{:?} {:?} {:?}", n.member.phase, n.member.why(), n.disk);
        let why: Vec<_> = self.nodes.iter().map(why).collect();
        panic!("I10: not in sync: {}\n{}", why.join("\n"), before);
    }
}

#[test]
fn random_schedules_keep_the_invariants_and_heal() {
    let seeds = std::env::var("TANDEM_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(300);
    let first = std::env::var("TANDEM_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    for seed in first..first + seeds {
        for witness in [true, false] {
            let mut world = World::new((seed * 0x9e37_79b9_7f4a_7c15) | 1, witness);
            world.log.push(format!("seed {seed} witness {witness}"));
            world.connect();
            world.quiet(5);
            world.input(
                0,
                Input::Prim {
                    token: 0,
                    force: false,
                },
            );
            world.quiet(5);
            world.input(1, Input::Second { token: 0 });
            let steps = 400 + world.random(800);
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for _ in 0..steps {
                    world.step();
                }
                world.heal();
            }));
            if let Err(panic) = run {
                println!("seed {seed}, witness {witness}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
