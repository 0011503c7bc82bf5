//! Lines of the trace, made short.

/// Long ids are shown by their beginning.
pub(super) fn brief(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut run = 0;
    for c in text.chars() {
        run = if c.is_ascii_hexdigit() { run + 1 } else { 0 };
        if run <= 8 || !c.is_ascii_hexdigit() {
            short.push(c);
        }
    }
    for (long, less) in [
        ("00000000", "0"),
        (
            ", digest: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
          0, 0, 0, 0, 0, 0, 0, 0]",
            "",
        ),
        (", clean: false", ""),
        (", left: false", ""),
        (", stale: false", ""),
        (", lost: false", ""),
        (", served: false", ""),
        (", void: []", ""),
        (", intent: None", ""),
        ("atime: (0, 0), mtime: (0, 0), flags: 0, xattrs: []", ".."),
        (
            "wire_min: 2, wire_max: 2, cluster: \"sim\", module: \"sim\", ",
            "",
        ),
    ] {
        short = short.replace(long, less);
    }
    short
}
