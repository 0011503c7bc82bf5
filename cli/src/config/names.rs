//! Rules for single values: names, addresses, paths, patterns. Each answers what is wrong, ready
//! for a message, or nothing.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

/// Longest name, characters: a name becomes a file name, a DNS label and part of a log line.
const LONGEST_NAME: usize = 31;

/// What is wrong with a cluster, node or module name.
///
/// The last character must not be `-`: a node's name stands in its certificate as a DNS label,
/// where that is not allowed.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    let good = name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-');
    (!good).then(|| {
        format!(
            "found name `{name}`, expected 1 to {LONGEST_NAME} of a-z, 0-9 and `-`, \
             beginning with a letter and not ending in `-`"
        )
    })
}

/// The address of a node.
///
/// # Errors
/// When it is no IP address, or none a node can be reached at.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let expected = "expected an IP address such as \"10.0.0.1\" or \"2001:db8::1\"";
    let address: IpAddr = text
        .parse()
        .map_err(|_| match text.parse::<std::net::SocketAddr>() {
            Ok(_) => format!("found `{text}`, {expected}, without a port (modules have the port)"),
            Err(_) => format!("found `{text}`, {expected}, not a host name"),
        })?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!(
            "found `{text}`, which is no address of a single node; {expected}"
        ));
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(format!(
            "found `{text}`, which needs an interface to be reached; {expected}"
        ));
    }
    Ok(address)
}

/// What is wrong with the path of a directory, by its text alone.
pub(crate) fn path_fault(text: &str) -> Option<String> {
    let path = Path::new(text);
    if text == "/" {
        return Some("`/` cannot be replicated; name the directories of the application".into());
    }
    if !path.is_absolute() {
        return Some(format!(
            "found path `{text}`, expected one that begins with `/`"
        ));
    }
    if text.contains('\0') {
        return Some("a path cannot contain a zero byte".into());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Some(format!("found path `{text}`, expected one without `..`"));
    }
    // Collecting components drops `.`, `//` and a trailing `/`.
    let normal: PathBuf = path.components().collect();
    (normal.as_os_str() != text)
        .then(|| format!("found path `{text}`, expected `{}`", normal.display()))
}

/// What is wrong with a pattern of `direct`.
pub(crate) fn pattern_fault(text: &str) -> Option<String> {
    if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
        return Some(format!(
            "found pattern `{text}`, expected one on the path below the directory, such as `*.ibd`"
        ));
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some(format!(
            "found pattern `{text}`, expected one without `//`, `.` and `..`"
        ));
    }
    // They would stand for themselves, and the pattern would silently match nothing.
    text.contains(['[', ']', '{', '}', '\\']).then(|| {
        format!(
            "found pattern `{text}`, but only `*`, `?` and `**` are known; list several patterns"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "db-1", "shop", "abcdefghijklmnopqrstuvwxyz-0123"] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            "-a",
            "a-",
            "a_b",
            "ä",
            "a.b",
            "abcdefghijklmnopqrstuvwxyz-01234",
        ] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        for good in ["10.0.0.1", "2001:db8::1", "127.0.0.1", "fd00::1"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "node-b",
            "10.0.0",
            "10.0.0.1:7400",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        for good in ["/srv", "/var/lib/ledger", "/srv/a b", "/srv/..data"] {
            assert_eq!(path_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "/",
            "srv",
            "./srv",
            "/srv/",
            "/srv//db",
            "/srv/./db",
            "/srv/../db",
            "//srv",
        ] {
            assert!(path_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        for good in ["*.ibd", "a/**/b?", "**"] {
            assert_eq!(pattern_fault(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "../a", "a//b", "*.{ibd,log}", "[ab]"] {
            assert!(pattern_fault(bad).is_some(), "{bad}");
        }
    }
}
