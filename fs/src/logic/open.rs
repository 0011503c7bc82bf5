//! How a file is opened.
//!
//! With the kernel's page cache a file's reads are native, but its writers wait for each other:
//! the kernel holds the file's lock until a write is answered, so that there is one write per
//! round trip. Without it writes to one file run side by side, but every read comes to the
//! daemon. Who opens with `O_DIRECT` has a cache of its own and gets the latter, and so do files
//! that the configuration names.

/// What is known when a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// For writing, perhaps also for reading.
    pub writes: bool,
    /// With `O_DIRECT`.
    pub direct: bool,
    /// This node serves; nothing but its own kernel changes the tree.
    pub serving: bool,
    /// A pattern of the configuration asks for direct access.
    pub named_direct: bool,
    /// The kernel's pages of this file are known to be true.
    pub coherent: bool,
}

/// How the kernel is to treat the open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Through the page cache; `keep` what is there.
    Cached { keep: bool },
    /// Past the page cache; writes side by side where the kernel can.
    Direct,
    /// Not for writing here.
    ReadOnly,
}

/// Decides.
pub fn mode(opening: Opening) -> Mode {
    if !opening.serving {
        return if opening.writes {
            Mode::ReadOnly
        } else {
            Mode::Direct
        };
    }
    if opening.named_direct || opening.direct {
        return Mode::Direct;
    }
    Mode::Cached {
        keep: opening.coherent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case() {
        let base = Opening {
            writes: false,
            direct: false,
            serving: true,
            named_direct: false,
            coherent: true,
        };
        assert_eq!(mode(base), Mode::Cached { keep: true });
        let stale = Opening {
            coherent: false,
            ..base
        };
        assert_eq!(mode(stale), Mode::Cached { keep: false });
        assert_eq!(
            mode(Opening {
                direct: true,
                ..base
            }),
            Mode::Direct
        );
        assert_eq!(
            mode(Opening {
                named_direct: true,
                ..base
            }),
            Mode::Direct
        );
        let following = Opening {
            serving: false,
            ..base
        };
        assert_eq!(
            mode(following),
            Mode::Direct,
            "the peer changes it under the cache"
        );
        assert_eq!(
            mode(Opening {
                writes: true,
                ..following
            }),
            Mode::ReadOnly
        );
    }
}
