//! When a checker counts as down: not by one failed look, which may be chance, but by several in
//! a row. One good look is enough for up, since what answers is there.

/// What many looks say about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Looks in a row that must fail.
    needed: u32,
    /// Looks in a row that have failed.
    failed: u32,
    /// What was said last; `None`: nothing yet.
    up: Option<bool>,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Up,
    /// With what the last look found.
    Down(String),
}

impl Count {
    /// `failures` looks in a row must fail; none at all would mean down without a look, so that
    /// counts as one.
    pub fn new(failures: u32) -> Self {
        Self {
            needed: failures.max(1),
            failed: 0,
            up: None,
        }
    }

    /// Takes the result of a look; what it changes, or settles for the first time.
    pub fn look(&mut self, result: Result<(), String>) -> Option<Change> {
        let Err(found) = result else {
            self.failed = 0;
            let known = self.up.replace(true) == Some(true);
            return (!known).then_some(Change::Up);
        };
        self.failed = self.failed.saturating_add(1);
        if self.failed < self.needed || self.up == Some(false) {
            return None;
        }
        self.up = Some(false);
        let times = match self.failed {
            1 => String::new(),
            times => format!(" ({times} times in a row)"),
        };
        Some(Change::Down(found + &times))
    }

    /// Forgets everything: what is looked at has been started anew.
    pub fn reset(&mut self) {
        self.failed = 0;
        self.up = None;
    }

    /// What was said last.
    pub fn up(&self) -> Option<bool> {
        self.up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn down(found: &str) -> Option<Change> {
        Some(Change::Down(found.into()))
    }

    fn bad() -> Result<(), String> {
        Err("gone".into())
    }

    #[test]
    fn the_first_good_look_is_told_and_the_next_is_not() {
        let mut count = Count::new(3);
        assert_eq!(count.up(), None);
        assert_eq!(count.look(Ok(())), Some(Change::Up));
        assert_eq!(count.look(Ok(())), None);
        assert_eq!(count.up(), Some(true));
    }

    #[test]
    fn down_needs_failures_in_a_row() {
        let mut count = Count::new(3);
        assert_eq!(count.look(Ok(())), Some(Change::Up));
        for _ in 0..5 {
            assert_eq!(count.look(bad()), None);
            assert_eq!(count.look(bad()), None);
            assert_eq!(count.look(Ok(())), None);
        }
        assert_eq!(count.look(bad()), None);
        assert_eq!(count.look(bad()), None);
        assert_eq!(count.look(bad()), down("gone (3 times in a row)"));
        assert_eq!(count.look(bad()), None);
        assert_eq!(count.look(Ok(())), Some(Change::Up));
        assert_eq!(count.look(bad()), None, "it counts from the beginning");
    }

    #[test]
    fn something_that_never_was_up_is_told_to_be_down() {
        let mut count = Count::new(2);
        assert_eq!(count.look(bad()), None);
        assert_eq!(count.look(bad()), down("gone (2 times in a row)"));
    }

    #[test]
    fn no_failures_at_all_means_one() {
        assert_eq!(Count::new(0).look(bad()), down("gone"));
        assert_eq!(Count::new(0).look(Ok(())), Some(Change::Up));
    }

    #[test]
    fn a_reset_forgets() {
        let mut count = Count::new(2);
        assert_eq!(count.look(Ok(())), Some(Change::Up));
        assert_eq!(count.look(bad()), None);
        count.reset();
        assert_eq!(count.look(bad()), None);
        assert_eq!(count.look(Ok(())), Some(Change::Up));
        count.reset();
        assert_eq!(count.look(Ok(())), Some(Change::Up), "told again");
    }

    proptest! {
        /// Against the definition, by looking back over everything seen.
        #[test]
        fn changes_are_those_of_the_definition(
            needed in 0u32..5,
            looks in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut count = Count::new(needed);
            let mut said = None;
            for end in 1..=looks.len() {
                let good = looks[end - 1];
                let bad = looks[..end].iter().rev().take_while(|good| !**good).count();
                let now = match good {
                    true => Some(true),
                    false if bad >= needed.max(1) as usize => Some(false),
                    false => said,
                };
                let change = count.look(good.then_some(()).ok_or("x".into()));
                prop_assert_eq!(change.is_some(), now != said);
                prop_assert_eq!(count.up(), now);
                said = now;
            }
        }
    }
}
