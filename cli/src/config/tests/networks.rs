//! Several networks between the nodes of a module.

use super::*;

#[test]
fn networks_are_given_in_the_same_order() {
    let nodes = |a: &str, b: &str| {
        let cluster = CLUSTER.replace("[\"10.0.0.1\"]", a);
        let cluster = cluster.replace("[\"10.0.0.2\"]", b);
        let example = Example::new().with("modules/ledger.ron", LEDGER);
        example.with("cluster.ron", &cluster)
    };
    let two = nodes("[\"10.0.0.1\", \"fd00::1\"]", "[\"10.0.0.2\", \"fd00::2\"]");
    assert_eq!(config(&two, "ledger").local.addresses.len(), 2);
    assert_problems(
        &nodes("[\"10.0.0.1\", \"10.0.1.1\"]", "[\"10.0.0.2\"]"),
        &[
            "etc/modules/ledger.ron:1:23: `a` has 2 address(es) in cluster.ron and `b` has 1, \
           expected as many of each: the first of both are in one network, the second in another",
        ],
    );
    assert_problems(
        &nodes("[\"10.0.0.1\"]", "[\"fd00::2\"]"),
        &[
            "etc/modules/ledger.ron:1:23: `10.0.0.1` of `a` and `fd00::2` of `b` stand at the same \
           place of their lists in cluster.ron, expected two addresses of one network",
        ],
    );
}
