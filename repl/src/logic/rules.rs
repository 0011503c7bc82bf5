//! One switch per rule of the control plane, so that the simulator can take a single rule away and
//! show that the invariants then break. Only for tests that prove each rule is needed: the product
//! runs with [`Rules::default`], which has all of them, and nothing configures it otherwise.

/// All rules are on by default. Each field is asked at the one place where its rule lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The source is chosen in the table's order. Off: lower node id first.
    pub verdict_order: bool,
    /// A node whose page cache is gone is known as such. Off: nobody is ever lost.
    pub lost_node: bool,
    /// Eligibility is checked again when a reply arrives. Off: the reply is enough.
    pub eligibility_on_reply: bool,
    /// A refusal of the witness changes no flag. Off: the refused node calls itself stale.
    pub refusal_changes_nothing: bool,
    /// Ids of epochs decide who is ahead. Off: the number does.
    pub epoch_ids: bool,
    /// The register is compared with the asker's list. Off: it grants whatever it holds.
    pub cas_by_ancestry: bool,
    /// Who leaves promises not to serve alone before it says so. Off: it says so only.
    pub left_before_leave: bool,
    /// A swap makes a new epoch. Off: both go on in the old one.
    pub epoch_at_swap: bool,
    /// The target is durably stale before it is touched. Off: it never says so.
    pub target_stale_first: bool,
    /// Growth: the source's record first. Off: the target's.
    pub growth_order: bool,
    /// The target flushes before it counts. Off: it does not.
    pub growth_second_flush: bool,
    /// Growth drops no mark. Off: the source drops its marks when the target counts.
    pub marks_after_growth: bool,
    /// Growth hands over the whole ended list. Off: the target adds the parent to its own.
    pub ended_whole: bool,
    /// Open intents are given up, and listed by both, before a verdict. Off: they stay open.
    pub void_intents: bool,
    /// Nothing is acknowledged in a set of two without the peer's lease, and who promotes waits
    /// the promised one out. Off: neither.
    pub lease: bool,
    /// A lease counts from the time its request was sent. Off: from the grant's arrival.
    pub lease_send_time: bool,
    /// A promise outlasts the lease it gives by the time a manager takes to remove addresses.
    /// Off: they end together.
    pub lease_grace: bool,
    /// The intent is durable before the witness is asked. Off: it is only remembered.
    pub intent_first: bool,
    /// A checkpoint waits for the operations its marks cover. Off: it flushes at once.
    pub checkpoint_waits: bool,
    /// A checkpoint drops marks after both flushes. Off: after this node's.
    pub checkpoint_both_flush: bool,
    /// Told-stale is refused by a node that serves, is not in the parent, or has an open intent.
    /// Off: it is always answered with yes.
    pub told_stale_checks: bool,
    /// A node told stale has that on disk before it says so. Off: it only says so.
    pub told_stale_durable: bool,
    /// An epoch that a node it names never took up acknowledged nothing (V5a). Off: it counts.
    pub step_back: bool,
    /// Nothing is acknowledged between the source's record of a growth and the target's. Off: the
    /// peer's answers are enough.
    pub growth_holds_answers: bool,
    /// A record without the peer is durable before anything is answered without it. Off: after.
    pub shrink_first: bool,
    /// The source lists what the target's branch of the history was when it takes it in. Off: not.
    pub loser_listed: bool,
    /// After a failed flush no later one proves that marks may go. Off: the next one does.
    pub failed_flush_counts: bool,
    /// In a swap the old server answers everything before its record. Off: it hands over at once.
    pub swap_drains: bool,
    /// The new server of a swap serves with its first lease. Off: when its record is written.
    pub swap_waits_for_lease: bool,
    /// A node that leaves takes no handover. Off: it takes the role.
    pub leaving_ignores_swap: bool,
    /// A node that leaves does not go on for a peer that leaves, too. Off: it does.
    pub leaving_ignores_leave: bool,
    /// What a clean stop calls clean was flushed. Off: it is only said.
    pub stop_flushes: bool,
    /// An empty register grants nothing. Off: whoever asks first.
    pub empty_grants_nothing: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            verdict_order: true,
            lost_node: true,
            eligibility_on_reply: true,
            refusal_changes_nothing: true,
            epoch_ids: true,
            cas_by_ancestry: true,
            left_before_leave: true,
            epoch_at_swap: true,
            target_stale_first: true,
            growth_order: true,
            growth_second_flush: true,
            marks_after_growth: true,
            ended_whole: true,
            void_intents: true,
            lease: true,
            lease_send_time: true,
            lease_grace: true,
            intent_first: true,
            checkpoint_waits: true,
            checkpoint_both_flush: true,
            told_stale_checks: true,
            told_stale_durable: true,
            step_back: true,
            growth_holds_answers: true,
            shrink_first: true,
            loser_listed: true,
            failed_flush_counts: true,
            swap_drains: true,
            swap_waits_for_lease: true,
            leaving_ignores_swap: true,
            leaving_ignores_leave: true,
            stop_flushes: true,
            empty_grants_nothing: true,
        }
    }
}
