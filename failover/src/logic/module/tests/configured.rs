//! A changed configuration is taken over while the module runs.

use super::*;

fn more() -> Module {
    let mut config = config();
    let address = std::net::IpAddr::from([10, 0, 0, 10]);
    config.virtual_ips.push(VirtualIp {
        address,
        ..config.virtual_ips[0].clone()
    });
    config
}

fn configure(world: &mut World, token: u64, config: Module) {
    let config = Box::new(config);
    world.input(Input::Configure { token, config });
}

#[test]
fn a_new_address_is_taken_and_nothing_else_moves() {
    let mut world = prim();
    configure(&mut world, 5, more());
    assert_eq!(
        world.steps.front().map(|s| &s.1),
        Some(&Step::TakeAddresses)
    );
    assert_eq!(world.resolved.get(&5), None, "answered before it was taken");
    // It is shown as before, and looked at as before.
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    assert!(world.machine.settled() && world.machine.running() == Running::PRIM);
    world.settle();
    assert_eq!(world.resolved[&5], Ok(()));
    assert_eq!(names(&world), [""; 0]);
    // What is not taken here is no news.
    configure(&mut world, 6, config());
    assert_eq!(world.resolved[&6], Ok(()));
    assert!(world.steps.is_empty());
}

#[test]
fn an_address_that_cannot_be_taken_is_refused_and_the_others_stay() {
    let mut world = prim();
    configure(&mut world, 5, more());
    world.finish(Err("it is in use".into()));
    assert_eq!(world.resolved[&5], Err("address".into()));
    assert_eq!(world.machine.running(), Running::PRIM);
    assert_eq!(world.machine.shown().readiness, Readiness::Ready);
    world.settle();
    assert!(world.addresses);
    assert_eq!(names(&world), [""; 0]);
}

#[test]
fn who_may_not_serve_any_more_keeps_none_of_the_new_ones() {
    let mut world = prim();
    configure(&mut world, 5, more());
    world.set(State::Wait, None);
    assert!(!world.addresses);
    // It came a moment too late.
    world.finish(Ok(()));
    assert!(!world.addresses);
    assert!(world.resolved.contains_key(&5));
}

#[test]
fn on_the_following_node_it_is_only_known() {
    let mut world = prim();
    world.set(State::Second, Some(State::Prim));
    world.settle();
    configure(&mut world, 5, more());
    assert_eq!(world.resolved[&5], Ok(()));
    assert!(world.steps.is_empty());
}

#[test]
fn a_checker_that_is_no_more_keeps_nothing_waiting() {
    let mut world = started();
    checker(&mut world, "wait", false);
    world.settle();
    assert_eq!(world.machine.shown().state, State::Wait);
    let mut config = config();
    config.checkers.retain(|c| c.name != "wait");
    configure(&mut world, 5, config);
    world.settle();
    let shown = world.machine.shown();
    assert_eq!((shown.state, shown.why), (State::Alone, Vec::new()));
}
