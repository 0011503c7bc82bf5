//! What `/proc` tells about processes: enough to recognise one again although numbers are reused.

use std::fs;
use std::io::{self, ErrorKind};

/// Kernel threads carry this in their flags.
const PF_KTHREAD: u64 = 0x0020_0000;

/// One line of `/proc/PID/stat`, as far as it is needed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// At most 15 bytes of the program's name.
    pub(crate) comm: Vec<u8>,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// Clock ticks from boot to its start: with the number, the identity of a process.
    pub(crate) started: u64,
    state: u8,
    flags: u64,
    threads: u64,
}

impl Stat {
    fn parse(line: &[u8]) -> Option<Self> {
        // The name may itself contain blanks and parentheses, so the last one ends it.
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let comm = line.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            comm,
            state: *fields.first()?.as_bytes().first()?,
            group: u32::try_from(number(2)?).ok()?,
            session: u32::try_from(number(3)?).ok()?,
            flags: number(6)?,
            threads: number(17)?,
            started: number(19)?,
        })
    }

    /// Whether it still runs. A process whose first thread has ended is listed as a zombie while
    /// its other threads go on.
    pub(crate) fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x') || self.threads > 1
    }

    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }
}

/// `None` when there is no such process (any more).
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes this PID namespace has now, those of namespaces below it included.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let names = fs::read_dir("/proc")?.filter_map(Result::ok);
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.collect())
}

/// The arguments of a process, the first is its name for itself. This may wait for a process that
/// is stuck in the kernel: call it where waiting is bounded.
pub(crate) fn arguments(pid: u32) -> Vec<Vec<u8>> {
    strings(&format!("/proc/{pid}/cmdline"))
}

/// Whether the environment a process was started with has this `NAME=VALUE`. May wait as
/// [`arguments`] does.
pub(crate) fn started_with(pid: u32, variable: &str) -> bool {
    strings(&format!("/proc/{pid}/environ"))
        .iter()
        .any(|entry| entry == variable.as_bytes())
}

fn strings(path: &str) -> Vec<Vec<u8>> {
    let mut bytes = fs::read(path).unwrap_or_default();
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// Whether a process is in this process's own PID namespace, and not in a container's. Where it
/// cannot be told, it counts as ours.
pub(crate) fn in_our_namespace(pid: u32) -> bool {
    let own = fs::read_link("/proc/self/ns/pid");
    match (own, fs::read_link(format!("/proc/{pid}/ns/pid"))) {
        (Ok(own), Ok(its)) => own == its,
        _ => true,
    }
}

/// An id that changes with every boot: process numbers of another boot mean nothing.
pub(crate) fn boot_id() -> io::Result<String> {
    line("/proc/sys/kernel/random/boot_id")
}

/// A text that no other run has.
pub(crate) fn unique() -> io::Result<String> {
    line("/proc/sys/kernel/random/uuid")
}

fn line(path: &str) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let line = text.trim();
    if line.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, path.to_owned()));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] =
        b"42 (odd) name (x) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 987 1\n";

    #[test]
    fn a_name_may_hold_parentheses() {
        let stat = Stat::parse(LINE).unwrap();
        assert_eq!(stat.comm, b"odd) name (x");
        assert_eq!((stat.group, stat.session, stat.started), (40, 39, 987));
        assert!(stat.lives() && !stat.is_kernel_thread());
    }

    #[test]
    fn zombies_and_kernel_threads_are_told() {
        let with = |from: &str, to: &str| {
            let text = String::from_utf8(LINE.to_vec()).unwrap();
            Stat::parse(text.replace(from, to).as_bytes()).unwrap()
        };
        assert!(with(") S ", ") Z ").lives(), "its other threads run");
        let one = with("20 0 3 0", "20 0 1 0");
        assert!(one.lives());
        let text = String::from_utf8(LINE.to_vec()).unwrap();
        let dead = text.replace(") S ", ") Z ").replace("20 0 3 0", "20 0 1 0");
        assert!(!Stat::parse(dead.as_bytes()).unwrap().lives());
        assert!(with("4194560", "2129984").is_kernel_thread());
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in [&b""[..], b"1 (a", b"1 (a) S", b"1 (a) S x y z", b")("] {
            assert_eq!(Stat::parse(line), None);
        }
        for end in 0..LINE.len() {
            let _ = Stat::parse(&LINE[..end]);
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = std::process::id();
        assert!(pids().unwrap().contains(&me));
        assert!(stat(me).unwrap().lives());
        assert!(!arguments(me).is_empty());
        assert!(in_our_namespace(me));
        assert!(!started_with(me, "TANDEM_RUN=none"));
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(unique().unwrap(), unique().unwrap());
    }
}
