//! Why a program cannot be run, in words an operator can act on. The kernel's own answer to a
//! missing interpreter is that the program is missing.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A program that cannot be run, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

fn unusable<T>(reason: String, remedy: impl Into<String>) -> Result<T, Unusable> {
    let remedy = remedy.into();
    Err(Unusable { reason, remedy })
}

/// Looks at what can be known before trying.
pub(crate) fn check(command: &[String], env: &[(String, String)]) -> Result<(), Unusable> {
    let Some(program) = command.first() else {
        return unusable("no program is named".into(), "name one: an absolute path");
    };
    if command.iter().any(|word| word.contains('\0')) {
        return unusable(
            format!("{program:?}: a zero byte in the command"),
            "take it out of the configuration",
        );
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return unusable(
                format!("the environment variable {name:?} cannot be passed to a program"),
                "rename it; a value must not hold a zero byte",
            );
        }
    }
    let path = Path::new(program);
    if !path.is_absolute() {
        return unusable(
            format!("{program}: not an absolute path"),
            "write the whole path of the program",
        );
    }
    let data = match fs::metadata(path) {
        Ok(data) => data,
        Err(error) => return missing(path, &error),
    };
    if !data.is_file() {
        return unusable(format!("{program}: not a file"), "name a program's file");
    }
    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    if !super::sys::may_execute(&name) {
        return unusable(
            format!("{program}: not executable"),
            format!("chmod +x {program}, or mount its file system without noexec"),
        );
    }
    readable_start(path)
}

fn missing<T>(path: &Path, error: &io::Error) -> Result<T, Unusable> {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => unusable(
            format!("{shown}: a symbolic link to something that does not exist"),
            "let the link point to the program",
        ),
        io::ErrorKind::NotFound => unusable(
            format!("{shown}: no such file"),
            "put the program there, on both nodes, or correct the path",
        ),
        _ => unusable(format!("{shown}: {error}"), "see to it that it can be read"),
    }
}

/// What begins neither as a script nor as a binary would be taken for a shell script by the
/// library, and a damaged file would be executed line by line.
fn readable_start(path: &Path) -> Result<(), Unusable> {
    let shown = path.display();
    let Ok(start) = start(path) else {
        // Executable and not readable: only the kernel can tell.
        return Ok(());
    };
    if start.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let Some(line) = start.strip_prefix(b"#!") else {
        return unusable(
            format!("{shown}: neither a binary nor a script that names its interpreter"),
            "let its first line be `#!/bin/sh` or the like",
        );
    };
    let Some(interpreter) = interpreter(line) else {
        return unusable(
            format!("{shown}: its first line names no interpreter"),
            "let its first line be `#!/bin/sh` or the like",
        );
    };
    if Path::new(&interpreter).exists() {
        return Ok(());
    }
    let remedy = match interpreter.ends_with('\r') {
        true => "save the script with Unix line ends".to_owned(),
        false => format!("install {interpreter}, or correct the first line"),
    };
    unusable(
        format!("{shown}: its interpreter {interpreter:?} does not exist"),
        remedy,
    )
}

/// Of a script's first line, without `#!`.
fn interpreter(line: &[u8]) -> Option<String> {
    let line = line.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let word = line.split([' ', '\t']).find(|word| !word.is_empty())?;
    Some(word.to_owned())
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The kernel's refusal, in words.
pub(crate) fn refused(program: &str, error: &io::Error) -> Unusable {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT) => "a part it needs is missing: its interpreter or loader",
        Some(libc::ENOEXEC) => "it is not for this machine, or damaged",
        Some(libc::EACCES) => "see its rights, and whether its file system is mounted noexec",
        Some(libc::ETXTBSY) => "it is open for writing; replace programs by renaming",
        Some(libc::E2BIG) => "shorten its arguments and variables",
        Some(libc::EAGAIN | libc::ENOMEM) => "this node is out of memory or of processes",
        Some(libc::EMFILE | libc::ENFILE) => "this node is out of file descriptors",
        _ => "see the system's log",
    };
    Unusable {
        reason: format!("{program}: {error}"),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_read_as_the_kernel_does() {
        assert_eq!(interpreter(b"/bin/sh -e\necho").as_deref(), Some("/bin/sh"));
        assert_eq!(interpreter(b" \t/bin/sh\n").as_deref(), Some("/bin/sh"));
        assert_eq!(interpreter(b"/bin/sh\r\n").as_deref(), Some("/bin/sh\r"));
        assert_eq!(interpreter(b"  \necho"), None);
        assert_eq!(interpreter(b""), None);
    }
}
