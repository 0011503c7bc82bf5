//! The networks between two nodes.

use super::checked::ClusterNode;
use tandem_repl::logic::paths::MAX_PATHS;

/// What is at the same place of both nodes' addresses is in the same network.
pub(super) fn networks_fault((one, other): (&ClusterNode, &ClusterNode)) -> Option<String> {
    let counts = [one.addresses.len(), other.addresses.len()];
    // One without an address has been noted where it stands.
    if counts.contains(&0) {
        return None;
    }
    if counts[0] != counts[1] {
        return Some(format!(
            "`{}` has {} address(es) in cluster.ron and `{}` has {}, expected as many of each: the \
             first of both are in one network, the second in another",
            one.name, counts[0], other.name, counts[1]
        ));
    }
    if counts[0] > MAX_PATHS {
        let found = counts[0];
        return Some(format!(
            "found {found} addresses of each node in cluster.ron, expected at most {MAX_PATHS}"
        ));
    }
    let mut pairs = one.addresses.iter().zip(&other.addresses);
    let (left, right) = pairs.find(|(left, right)| left.is_ipv4() != right.is_ipv4())?;
    Some(format!(
        "`{left}` of `{}` and `{right}` of `{}` stand at the same place of their lists in \
         cluster.ron, expected two addresses of one network",
        one.name, other.name
    ))
}
