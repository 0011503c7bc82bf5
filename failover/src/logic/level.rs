//! What of a module runs on this node, what should, and the next step from one to the other.
//!
//! This is the only place that knows the order of scripts and addresses. A level is what runs: the
//! part common to both roles, the part of one role, the addresses. [`next`] compares what runs with
//! what should and names one step; when it is done it is asked again. So an order that changes
//! half way (the peer came back while the application stopped) needs no case of its own.
//!
//! Down before up; the role's part before the common part; on the way down the application before
//! its addresses (who may not serve any more has dropped them before, see
//! [`super::api::Output::DropAddresses`]); on the way up the addresses before the application, so
//! that it can bind to them.

use crate::config::Script;
use serde::{Deserialize, Serialize};

/// The part of the application that belongs to a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Prim,
    Second,
}

/// What runs, or what should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    pub both: bool,
    pub role: Option<Role>,
    pub addresses: bool,
    /// Something was left half way: everything is stopped by force before it counts as known.
    pub doubtful: bool,
}

/// What should run.
impl Running {
    pub const NOTHING: Self = Self {
        both: false,
        role: None,
        addresses: false,
        doubtful: false,
    };
    pub const PRIM: Self = Self {
        both: true,
        role: Some(Role::Prim),
        addresses: true,
        doubtful: false,
    };
    pub const SECOND: Self = Self {
        both: true,
        role: Some(Role::Second),
        addresses: false,
        doubtful: false,
    };
    /// Between two roles.
    pub const BOTH: Self = Self {
        both: true,
        role: None,
        addresses: false,
        doubtful: false,
    };
}

/// A step of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    Script(Script),
    TakeAddresses,
    ReleaseAddresses,
    /// Every stop script, by force.
    Clean(Script),
    /// All that had to be stopped is; nothing is started yet.
    Middle,
}

/// The stop scripts in the order in which they are called when it is not known what runs.
pub const CLEAN: [Script; 3] = [Script::StopSecond, Script::StopPrim, Script::StopBoth];

/// The next step from `has` to `wish`; `None`: there. `clean`: the script to be called next while
/// it is doubtful what runs. [`Next::Middle`] is named once between the last step down and the
/// first step up, while `middle` is false.
pub fn next(has: Running, wish: Running, clean: Option<Script>, middle: bool) -> Option<Next> {
    if has.doubtful {
        return Some(clean.map_or(Next::ReleaseAddresses, Next::Clean));
    }
    if let Some(role) = has.role
        && has.role != wish.role
    {
        return Some(Next::Script(match role {
            Role::Prim => Script::StopPrim,
            Role::Second => Script::StopSecond,
        }));
    }
    if has.addresses && !wish.addresses {
        return Some(Next::ReleaseAddresses);
    }
    if has.both && !wish.both {
        return Some(Next::Script(Script::StopBoth));
    }
    if !middle {
        return Some(Next::Middle);
    }
    if wish.both && !has.both {
        return Some(Next::Script(Script::StartBoth));
    }
    if wish.addresses && !has.addresses {
        return Some(Next::TakeAddresses);
    }
    match wish.role {
        Some(role) if has.role.is_none() => Some(Next::Script(match role {
            Role::Prim => Script::StartPrim,
            Role::Second => Script::StartSecond,
        })),
        _ => None,
    }
}

/// What runs after a step was done.
pub fn after(has: Running, step: Next) -> Running {
    let mut has = has;
    match step {
        Next::Script(Script::StartBoth) => has.both = true,
        Next::Script(Script::StopBoth) => has.both = false,
        Next::Script(Script::StartPrim) => has.role = Some(Role::Prim),
        Next::Script(Script::StartSecond) => has.role = Some(Role::Second),
        Next::Script(Script::StopPrim | Script::StopSecond) => has.role = None,
        Next::TakeAddresses => has.addresses = true,
        Next::ReleaseAddresses if has.doubtful => return Running::NOTHING,
        Next::ReleaseAddresses => has.addresses = false,
        Next::Script(_) | Next::Clean(_) | Next::Middle => {}
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(from: Running, to: Running) -> Vec<Next> {
        let (mut has, mut steps, mut cleaned, mut middle) = (from, Vec::new(), 0, false);
        while let Some(step) = next(has, to, CLEAN.get(cleaned).copied(), middle) {
            assert!(steps.len() < 20, "{from:?} -> {to:?} never ends: {steps:?}");
            match step {
                Next::Clean(_) => cleaned += 1,
                Next::Middle => middle = true,
                _ => {}
            }
            has = after(has, step);
            steps.push(step);
        }
        let reached = Running {
            doubtful: false,
            ..has
        };
        assert_eq!(reached, to);
        steps
    }

    const ALL: [Running; 4] = [
        Running::NOTHING,
        Running::PRIM,
        Running::SECOND,
        Running::BOTH,
    ];

    #[test]
    fn every_way_ends_and_stops_before_it_starts() {
        for has in ALL {
            for to in ALL {
                for doubtful in [false, true] {
                    let steps = way(Running { doubtful, ..has }, to);
                    let middle = steps.iter().position(|s| *s == Next::Middle);
                    let (down, up) = steps.split_at(middle.expect("always passed"));
                    let starts = |s: &Next| match s {
                        Next::Script(s) => !s.stops(),
                        Next::TakeAddresses => true,
                        _ => false,
                    };
                    assert!(!down.iter().any(starts), "{steps:?}");
                    assert!(up[1..].iter().all(starts), "{steps:?}");
                }
            }
        }
    }

    #[test]
    fn the_orders_of_the_acceptance_table() {
        use Script::*;
        let script = Next::Script;
        assert_eq!(
            way(Running::NOTHING, Running::PRIM),
            [
                Next::Middle,
                script(StartBoth),
                Next::TakeAddresses,
                script(StartPrim)
            ]
        );
        assert_eq!(
            way(Running::PRIM, Running::SECOND),
            [
                script(StopPrim),
                Next::ReleaseAddresses,
                Next::Middle,
                script(StartSecond)
            ]
        );
        assert_eq!(
            way(Running::SECOND, Running::PRIM),
            [
                script(StopSecond),
                Next::Middle,
                Next::TakeAddresses,
                script(StartPrim)
            ]
        );
        assert_eq!(
            way(Running::PRIM, Running::NOTHING),
            [
                script(StopPrim),
                Next::ReleaseAddresses,
                script(StopBoth),
                Next::Middle
            ]
        );
    }
}
