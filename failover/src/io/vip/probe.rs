//! Asks whether somebody else has an address before it is taken (RFC 5227, RFC 4862).

use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::frames;
use super::packet::Port;
use super::place::Place;
use super::worker::Worker;
use super::{Mac, Options, VipError};

impl Worker {
    /// Asks for all at the same time; the first that is in use is the error.
    ///
    /// Somebody who only asks for the same address at the same time does not have it: as soon as
    /// it is here, the kernel answers them.
    pub(super) async fn probe(
        self: &Rc<Self>,
        places: impl Iterator<Item = &Place>,
    ) -> Result<(), VipError> {
        let macs = self
            .state
            .borrow()
            .links
            .values()
            .filter_map(|link| link.mac)
            .collect();
        let macs: Rc<Vec<Mac>> = Rc::new(macs);
        let ask = |place: &Place| {
            let (place, macs, options) = (place.clone(), Rc::clone(&macs), self.options);
            spawn_local(async move {
                let found = ask(&place, &macs, options).await;
                (place, found)
            })
        };
        let asked: Vec<_> = places.map(ask).collect();
        for answer in asked {
            // A task that was ended with the runtime: so is this one.
            let Ok((place, found)) = answer.await else {
                continue;
            };
            let (address, interface) = (place.address, place.link.name);
            match found {
                Ok(None) => {}
                Ok(Some(mac)) => {
                    return Err(VipError::InUse {
                        address,
                        mac,
                        interface,
                    });
                }
                Err(source) => {
                    return Err(VipError::Address {
                        address,
                        interface,
                        action: "ask whether the address is in use",
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Who else has the address, if anybody says so in time.
async fn ask(place: &Place, own: &[Mac], options: Options) -> std::io::Result<Option<Mac>> {
    let Some(mac) = place.link.mac.filter(|_| place.link.up) else {
        tracing::warn!(
            "virtual address {} is taken without asking who has it: {} is down or no Ethernet",
            place.address,
            place.link.name
        );
        return Ok(None);
    };
    let port = Port::open(place.link.index, place.address.is_ipv6())?;
    let begin = Instant::now();
    for probe in 1..=options.probes {
        port.send(&frames::probe(mac, place.address));
        let end = begin + options.probe_interval * probe;
        while let Ok(heard) = timeout_at(end, port.hear()).await {
            let claim = heard?;
            if claim.address == place.address && !own.contains(&claim.mac) {
                return Ok(Some(claim.mac));
            }
        }
    }
    Ok(None)
}
