//! Which row has a floor. Floors that were measured with a program hold for rows that use this
//! program: its own cost per call is a part of both rates, and so of their ratio.

use crate::tools::Tool;

/// Smallest accepted ratio of subject to base, and where it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Floor {
    None,
    Always(f64),
    /// Where the program that it was measured with is installed.
    With(Tool, f64),
    /// Only where it is not: another row has the floor otherwise.
    Without(Tool, f64),
}

impl Floor {
    /// The floor on this machine.
    pub(crate) fn here(self) -> Option<f64> {
        self.given(Tool::is_installed)
    }

    fn given(self, is_installed: impl Fn(Tool) -> bool) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Always(floor) => Some(floor),
            Self::With(tool, floor) => is_installed(tool).then_some(floor),
            Self::Without(tool, floor) => (!is_installed(tool)).then_some(floor),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::workloads::{Spec, all};

    /// Ends of the ids of W1 to W6 and F1 to F6, with their floors.
    fn floors(letter: char, fio: bool) -> Vec<(&'static str, Option<f64>)> {
        let is_one = |spec: &&&Spec| {
            let number = spec.id.strip_prefix(letter).unwrap_or_default();
            matches!(number, "1" | "2" | "3" | "4" | "5" | "6")
        };
        let of = |spec: &&Spec| (&spec.id[1..], spec.floor.given(|_| fio));
        let mut found: Vec<_> = all().iter().filter(is_one).map(of).collect();
        found.sort_by_key(|&(number, _)| number);
        found
    }

    #[test]
    fn each_floor_counts_once_with_and_without_fio() {
        let with = floors('F', true);
        assert_eq!(with.len(), 6);
        assert!(with.iter().all(|(_, floor)| floor.is_some()));
        assert_eq!(with, floors('W', false));
        for (letter, fio) in [('F', false), ('W', true)] {
            let none = floors(letter, fio);
            assert_eq!(none.len(), 6);
            assert!(none.iter().all(|(_, floor)| floor.is_none()), "{none:?}");
        }
    }
}
