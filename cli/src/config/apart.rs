//! What decides when the nodes of a module are apart, where no witness does: the module's
//! `isolation` and `ping`; and `after_power_loss`.

use std::net::IpAddr;
use std::time::Duration;

use tandem_fs::config::{Apart, Isolation, WitnessConfig};

use super::checked::{Cluster, note};
use super::names::address;
use super::problem::{At, Place, Problem};
use super::raw::optional_duration;
use super::reader::{Keys, Reader};
use super::units::show_duration;
use super::witness::{MOST_PLACES, Way, Witness};

/// Time after a power loss, with a witness: what was synced is complete by then, or never will be.
const DEFAULT_AFTER_POWER_LOSS: Duration = Duration::from_secs(60);
const AFTER_POWER_LOSS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 3600)];

/// A module's part as typed.
pub(crate) struct RawApart {
    isolation: Option<At<&'static str>>,
    ping: Option<At<Vec<At<String>>>>,
    /// Nothing: off.
    after_power_loss: Option<At<Option<Duration>>>,
}

/// A module's part as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) isolation: Isolation,
    pub(crate) ping: Vec<IpAddr>,
    pub(crate) after_power_loss: Option<Duration>,
}

/// Keys of a module that are read here.
pub(crate) const KEYS: [&str; 3] = ["isolation", "ping", "after_power_loss"];

/// Reads a module's keys.
pub(crate) fn raw_apart<'s>(reader: &mut Reader<'s>, keys: &Keys<'_, 's>) -> RawApart {
    let isolation = keys
        .optional("isolation")
        .and_then(|t| reader.word(t, &["wait", "ping", "alone"]));
    let ping = keys.optional("ping").and_then(|tree| {
        let value = reader.strings(tree, "[\"10.0.0.254\"]")?;
        let place = reader.place(tree);
        Some(At { value, place })
    });
    let after_power_loss = keys
        .optional("after_power_loss")
        .and_then(|t| optional_duration(reader, t));
    RawApart {
        isolation,
        ping,
        after_power_loss,
    }
}

/// Checks a module's part against the cluster's. `cluster` is `None` when that file is wrong.
pub(crate) fn policy(
    raw: RawApart,
    cluster: Option<&Cluster>,
    problems: &mut Vec<Problem>,
) -> Policy {
    let witness = cluster.is_some_and(|c| c.witness.is_some());
    let isolation = match raw.isolation.as_ref().map(|word| word.value) {
        Some("ping") => Isolation::Ping,
        Some("alone") => Isolation::Alone,
        _ => Isolation::Wait,
    };
    if let (Some(word), true) = (&raw.isolation, witness && isolation != Isolation::Wait) {
        let message = format!(
            "isolation `{}` would never be asked: cluster.ron names a witness, which decides; \
             remove one of the two",
            word.value
        );
        problems.push(Problem::new(word.place.clone(), message));
    }
    let ping = ping(raw.ping, isolation, raw.isolation.as_ref(), problems);
    let after_power_loss = match raw.after_power_loss {
        None => witness.then_some(DEFAULT_AFTER_POWER_LOSS),
        Some(chosen) => {
            let [least, most] = AFTER_POWER_LOSS;
            let bad = chosen.value.filter(|time| !(least..=most).contains(time));
            let fault = bad.map(|time| {
                let [found, least, most] = [time, least, most].map(show_duration);
                format!("found after_power_loss {found}, expected {least} to {most}, or \"off\"")
            });
            note(problems, &chosen.place, fault);
            chosen.value
        }
    };
    Policy {
        isolation,
        ping,
        after_power_loss,
    }
}

fn ping(
    raw: Option<At<Vec<At<String>>>>,
    isolation: Isolation,
    word: Option<&At<&'static str>>,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let pings = isolation == Isolation::Ping;
    let Some(At {
        value: texts,
        place,
    }) = raw
    else {
        if let (true, Some(word)) = (pings, word) {
            let message = "isolation `ping` needs an address outside the two nodes, such as the \
                 default gateway; add `ping: [\"10.0.0.254\"]`";
            problems.push(Problem::new(word.place.clone(), message));
        }
        return Vec::new();
    };
    if !pings {
        let message = "`ping` is only asked with `isolation: ping`; add that, or remove this";
        problems.push(Problem::new(place, message));
    } else if texts.is_empty() || texts.len() > MOST_PLACES {
        let message = format!(
            "found {} addresses, expected 1 to {MOST_PLACES}",
            texts.len()
        );
        problems.push(Problem::new(place, message));
    }
    let mut found = Vec::new();
    for text in texts {
        match address(&text.value) {
            Ok(address) => found.push(address),
            Err(message) => problems.push(Problem::new(text.place, message)),
        }
    }
    found
}

/// A third party on a machine of the two is none: it would be lost together with that machine.
pub(crate) fn not_on_its_nodes(
    nodes: &[String; 2],
    cluster: &Cluster,
    policy: &Policy,
    file: &Place,
    problems: &mut Vec<Problem>,
) {
    let owner = |ip: IpAddr| {
        let mut own = cluster.nodes.iter().filter(|n| nodes.contains(&n.name));
        own.find(|n| n.addresses.contains(&ip)).map(|n| &n.name)
    };
    let mut refuse = |what: &str, ip: IpAddr, place: &Place| {
        if let Some(node) = owner(ip) {
            let message = format!(
                "{what} `{ip}` is an address of node {node}, which holds the module; \
                 name another machine"
            );
            problems.push(Problem::new(place.clone(), message));
        }
    };
    if let Some(Witness {
        way: Way::Tandem { addresses, .. },
        ..
    }) = &cluster.witness
    {
        for At { value, place } in addresses {
            refuse("the witness's address", value.ip(), place);
        }
    }
    for ip in &policy.ping {
        refuse("the pinged address", *ip, file);
    }
}

impl Policy {
    /// All that the daemon needs.
    pub(crate) fn with(&self, witness: Option<WitnessConfig>) -> Apart {
        Apart {
            witness,
            isolation: self.isolation,
            ping: self.ping.clone(),
            after_power_loss: self.after_power_loss,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::load;
    use super::super::testing::{CLUSTER, Example};
    use super::*;

    const LEDGER: &str = r#"(mode: mirror, nodes: ["a", "b"], directories: ["/nowhere/ledger"])"#;
    const WITNESS: &str = "name: \"shop\", witness: (tandem: [\"10.0.0.9:7402\"]),";

    fn example(cluster: &str, module: &str) -> Example {
        let cluster = CLUSTER.replace("name: \"shop\",", cluster);
        let module = LEDGER.replace("mirror,", &format!("mirror, {module}"));
        Example::new()
            .with("cluster.ron", &cluster)
            .with("modules/ledger.ron", &module)
    }

    fn apart(cluster: &str, module: &str) -> Apart {
        let config = load(&example(cluster, module).dirs).complete().unwrap();
        config.module_config("ledger").unwrap().apart
    }

    #[test]
    fn without_a_word_a_node_waits() {
        assert_eq!(apart("name: \"shop\",", ""), Apart::default());
        let with = apart(WITNESS, "");
        assert_eq!(with.isolation, Isolation::Wait);
        assert_eq!(with.after_power_loss, Some(Duration::from_secs(60)));
        let off = apart(WITNESS, "after_power_loss: \"off\",");
        assert_eq!(off.after_power_loss, None);
        let set = apart("name: \"shop\",", "after_power_loss: \"2m\",");
        assert_eq!(set.after_power_loss, Some(Duration::from_secs(120)));
    }

    #[test]
    fn the_policies_are_read() {
        let name = "name: \"shop\",";
        let ping = apart(
            name,
            "isolation: ping, ping: [\"10.0.0.254\", \"fd00::1\"],",
        );
        assert_eq!(ping.isolation, Isolation::Ping);
        assert_eq!(ping.ping.len(), 2);
        assert_eq!(apart(name, "isolation: alone,").isolation, Isolation::Alone);
    }

    #[test]
    fn policies_that_mean_nothing_are_refused() {
        let name = "name: \"shop\",";
        for (cluster, module, expected) in [
            (
                name,
                "isolation: pink,",
                "found `pink`, expected one of wait, ping, alone; did you mean `ping`?",
            ),
            (name, "isolation: ping,", "add `ping: [\"10.0.0.254\"]`"),
            (name, "isolation: ping, ping: [],", "found 0 addresses"),
            (
                name,
                "isolation: ping, ping: [\"gateway\"],",
                "expected an IP address",
            ),
            (
                name,
                "isolation: ping, ping: [\"10.0.0.2\"],",
                "the pinged address `10.0.0.2` is an address of node b",
            ),
            (
                name,
                "ping: [\"10.0.0.254\"],",
                "`ping` is only asked with `isolation: ping`",
            ),
            (
                WITNESS,
                "isolation: alone,",
                "isolation `alone` would never be asked",
            ),
            (
                name,
                "after_power_loss: \"0s\",",
                "found after_power_loss 0ms, expected 1s to 1d, or \"off\"",
            ),
            (
                &WITNESS.replace("0.9:", "0.1:"),
                "",
                "the witness's address `10.0.0.1` is an address of node a",
            ),
        ] {
            let problems = example(cluster, module).problems();
            assert!(problems.contains(expected), "{module}: {problems}");
            assert!(problems.ends_with("has 1 problem"), "{module}: {problems}");
        }
    }
}
