//! Why another node's manager is not heard of, in words.

use tandem_repl::control::Refusal;

/// Why a node's manager is not heard of.
pub(super) fn not_heard(node: &str, trouble: Option<&str>) -> Refusal {
    let why = trouble.map(|why| format!(": {why}")).unwrap_or_default();
    let refused = trouble.is_some_and(|why| why.contains("certificate") || why.contains("alert"));
    if refused {
        return Refusal::new(
            "link-refused",
            format!("the managers here and on {node} do not accept each other{why}"),
            "give both nodes certificates of one authority that are valid now (`tandem pki \
             issue`), then start the managers again",
        );
    }
    Refusal::new(
        "silent",
        format!("the manager of {node} does not answer{why}"),
        format!("start it on {node}, or repair the network between the nodes"),
    )
}
