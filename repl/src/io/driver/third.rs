//! What a node goes by that cannot reach its peer: the witness, and whether an address answers.

use super::super::ping::{self, Pinger};
use super::super::witness::{Asker, Witness, WitnessConfig, WitnessError};
use super::{DriverConfig, Event, Shared};
use crate::ids::Id128;
use crate::logic::member::{Input, Isolation, MemberConfig, WitnessAnswer};
use crate::logic::rules::Rules;
use crate::logic::witness::Question;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What decides when the nodes are apart. The same on both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    pub witness: Option<WitnessConfig>,
    /// Where neither witness nor fence can tell.
    pub isolation: Isolation,
    /// For [`Isolation::Ping`]: one that answers is enough.
    pub ping: Vec<IpAddr>,
    /// Time after which a node that lost power may serve alone; `None`: never by itself.
    pub after_power_loss: Option<Duration>,
}

impl Default for Apart {
    fn default() -> Self {
        Self {
            witness: None,
            isolation: Isolation::Wait,
            ping: Vec::new(),
            after_power_loss: None,
        }
    }
}

pub(super) fn member_config(config: &DriverConfig<'_>) -> MemberConfig {
    MemberConfig {
        local: config.local.clone(),
        peer: config.peer.clone(),
        stall_limit: config.stall_limit,
        lease: crate::logic::member::lease(config.stall_limit),
        witness: config.apart.witness.is_some(),
        isolation: config.apart.isolation,
        after_power_loss: config.apart.after_power_loss,
        by_hand: config.by_hand,
        rules: Rules::default(),
    }
}

pub(super) fn start_witness(
    config: &DriverConfig<'_>,
    events: &Sender<Event>,
) -> Result<Option<Witness>, WitnessError> {
    let Some(witness) = &config.apart.witness else {
        return Ok(None);
    };
    let asker = Asker {
        cluster: &config.cluster,
        node: &config.local,
        pem: config.pem,
    };
    let events = events.clone();
    // The machine has its own, shorter limits; an answer after the stall limit helps nobody.
    let answered = move |round, answer| {
        // Nobody listens at the very end.
        let _ = events.send(Event::Input(Input::Witness(round, answer)));
    };
    Witness::start(witness, &asker, config.stall_limit, answered).map(Some)
}

pub(super) fn start_pinger(
    config: &DriverConfig<'_>,
    events: &Sender<Event>,
) -> io::Result<Option<Pinger>> {
    if config.apart.isolation != Isolation::Ping {
        return Ok(None);
    }
    let events = events.clone();
    let changed = move |answers| {
        match answers {
            true => tracing::info!("an address of `ping` answers"),
            false => tracing::warn!("no address of `ping` answers"),
        }
        let _ = events.send(Event::Input(Input::Reachable(answers)));
    };
    ping::start(&config.apart.ping, config.stall_limit, changed).map(Some)
}

impl Shared {
    /// Puts a question to the witness, or answers it where nothing is to be asked.
    pub(super) fn ask_third(
        &self,
        round: u64,
        volume: Id128,
        question: Option<Question>,
    ) -> Option<Input> {
        let Some(witness) = &self.witness else {
            return Some(Input::Witness(round, WitnessAnswer::Silent));
        };
        match question {
            Some(question) if volume != Id128::default() => {
                witness.put(round, volume, question);
                None
            }
            // Of a volume that does not exist yet no register was ever told anything.
            _ => Some(Input::Witness(round, WitnessAnswer::Refused(None))),
        }
    }
}
