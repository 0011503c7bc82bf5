//! The first message of a session: whether two nodes belong together and can talk.

use super::HelloParts;
use super::director::Director;
use crate::logic::member::Input;
use crate::wire::{Control, Hello, Reject, WIRE_VERSION, WIRE_VERSION_MIN};

impl Director {
    /// Two nodes that do not belong together, or are not configured alike, go no further.
    pub(super) fn on_hello(&mut self, session: u64, hello: Hello) {
        if let Err(reject) = judge(&self.shared.hello, &hello) {
            let why = reject.reason.clone();
            self.shared
                .send_control(&mut self.shared.lock(), &Control::Reject(reject));
            tracing::warn!("refused {}: {why}", self.shared.hello.peer);
            return self.close(&why);
        }
        self.shared.lock().greeted = true;
        self.session = Some(session);
        self.shared.tree.reset_peer_ids();
        tracing::info!("session with {}", hello.node);
        self.run(Input::SessionUp(Box::new(hello)));
    }
}

/// Whether a node that greets is the one that is expected, and is configured alike.
fn judge(own: &HelloParts, hello: &Hello) -> Result<(), Reject> {
    let reject = |code: &str, reason: String| {
        Err(Reject {
            code: code.to_string(),
            reason,
        })
    };
    if hello.wire_max < WIRE_VERSION_MIN || hello.wire_min > WIRE_VERSION {
        return reject(
            "version",
            format!(
                "{} speaks versions {} to {}, {} speaks {WIRE_VERSION_MIN} to {WIRE_VERSION}",
                hello.node, hello.wire_min, hello.wire_max, own.node
            ),
        );
    }
    if (&hello.cluster, &hello.module) != (&own.cluster, &own.module) {
        return reject(
            "module",
            format!(
                "{} runs module {} of cluster {}, {} runs {} of {}",
                hello.node, hello.module, hello.cluster, own.node, own.module, own.cluster
            ),
        );
    }
    if hello.node != own.peer {
        return reject("node", format!("expected {}, met {}", own.peer, hello.node));
    }
    if hello.digest != own.digest {
        return reject(
            "configuration",
            format!(
                "the configuration of {} differs from that of {}: compare cluster.ron and \
                 modules/{}.ron on both nodes",
                hello.node, own.node, own.module
            ),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::State;
    use crate::logic::record::Record;

    fn own() -> HelloParts {
        HelloParts {
            cluster: "shop".into(),
            module: "db".into(),
            node: "node1".into(),
            peer: "node2".into(),
            digest: [7; 32],
        }
    }

    fn hello() -> Hello {
        Hello {
            wire_min: WIRE_VERSION_MIN,
            wire_max: WIRE_VERSION,
            cluster: "shop".into(),
            module: "db".into(),
            node: "node2".into(),
            digest: [7; 32],
            record: Record::default(),
            state: State::Wait,
        }
    }

    fn refused(change: impl FnOnce(&mut Hello)) -> (String, String) {
        let mut hello = hello();
        change(&mut hello);
        let reject = judge(&own(), &hello).expect_err("it differs");
        (reject.code, reject.reason)
    }

    #[test]
    fn the_expected_node_is_welcome() {
        assert!(judge(&own(), &hello()).is_ok());
        let newer = Hello {
            wire_max: WIRE_VERSION + 5,
            ..hello()
        };
        assert!(judge(&own(), &newer).is_ok(), "it still speaks ours");
    }

    #[test]
    fn who_is_refused_hears_what_differs() {
        let (code, reason) = refused(|h| h.wire_min = WIRE_VERSION + 1);
        assert_eq!(code, "version");
        assert!(reason.contains("node2 speaks versions"), "{reason}");
        assert_eq!(refused(|h| h.wire_max = WIRE_VERSION_MIN - 1).0, "version");
        assert_eq!(refused(|h| h.module = "web".into()).0, "module");
        assert_eq!(refused(|h| h.cluster = "barn".into()).0, "module");
        assert_eq!(refused(|h| h.node = "node3".into()).0, "node");
        let (code, reason) = refused(|h| h.digest[0] = 0);
        assert_eq!(code, "configuration");
        assert!(reason.contains("modules/db.ron"), "{reason}");
    }
}
