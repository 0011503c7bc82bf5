//! Looks for processes by name and arguments.
//!
//! Zombies have ended, kernel threads are nobody's application, and processes of containers are not
//! this system's: none of them counts.

use regex_lite::Regex;

use crate::io::proc;

/// The kernel keeps this much of a program's name.
const COMM: usize = 15;

/// What is looked for.
pub(super) struct Wanted {
    name: String,
    arguments: Option<Regex>,
}

impl Wanted {
    /// # Errors
    /// When `arguments` is not a regular expression.
    pub(super) fn new(name: &str, arguments: Option<&str>) -> Result<Self, String> {
        let regex = |text: &str| {
            Regex::new(text).map_err(|error| {
                format!("processes {name:?}: {text:?} is not a regular expression: {error}")
            })
        };
        Ok(Self {
            name: name.to_owned(),
            arguments: arguments.map(regex).transpose()?,
        })
    }

    pub(super) fn judge(&self, at_least: u32, at_most: Option<u32>) -> Result<(), String> {
        let count = self.count()?;
        let text = self.arguments.as_ref().map_or(String::new(), |regex| {
            format!(" with arguments {:?}", regex.as_str())
        });
        let found = format!("{count} processes {:?}{text}", self.name);
        if count < at_least {
            return Err(format!("{found}, at least {at_least} expected"));
        }
        match at_most {
            Some(most) if count > most => Err(format!("{found}, at most {most} expected")),
            _ => Ok(()),
        }
    }

    fn count(&self) -> Result<u32, String> {
        let pids = proc::pids().map_err(|error| format!("/proc cannot be read: {error}"))?;
        let found = pids.into_iter().filter(|&pid| self.is(pid)).count();
        Ok(u32::try_from(found).unwrap_or(u32::MAX))
    }

    fn is(&self, pid: u32) -> bool {
        let Some(stat) = proc::stat(pid) else {
            return false;
        };
        if !stat.lives() || stat.is_kernel_thread() {
            return false;
        }
        let arguments = proc::arguments(pid);
        self.named(&stat.comm, &arguments)
            && self.matches(&arguments)
            && proc::in_our_namespace(pid)
    }

    /// By what the kernel calls it (the script, if it is one) or what it calls itself.
    fn named(&self, comm: &[u8], arguments: &[Vec<u8>]) -> bool {
        let name = self.name.as_bytes();
        let known = name.get(..COMM).unwrap_or(name);
        if comm == known && name.len() <= COMM {
            return true;
        }
        let base = |word: &[u8]| word.rsplit(|&byte| byte == b'/').next() == Some(name);
        // The kernel cuts longer names off. The whole one of a script is its interpreter's
        // argument.
        let script = || comm == known && arguments.iter().skip(1).any(|word| base(word));
        arguments.first().is_some_and(|word| base(word)) || script()
    }

    fn matches(&self, arguments: &[Vec<u8>]) -> bool {
        let Some(regex) = &self.arguments else {
            return true;
        };
        regex.is_match(&joined(arguments))
    }
}

/// What follows the name, with blanks between. A program that has replaced its arguments by a
/// title has them all in one.
fn joined(arguments: &[Vec<u8>]) -> String {
    let words = arguments.iter().map(|word| String::from_utf8_lossy(word));
    let words: Vec<_> = words.collect();
    match words.as_slice() {
        [title] => title
            .split_once(' ')
            .map_or(String::new(), |(_, rest)| rest.to_owned()),
        words => words.get(1..).unwrap_or_default().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<Vec<u8>> {
        text.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn named(name: &str, comm: &str, arguments: &[&str]) -> bool {
        let wanted = Wanted::new(name, None).unwrap();
        wanted.named(comm.as_bytes(), &words(arguments))
    }

    #[test]
    fn a_process_has_two_names() {
        assert!(named("java", "java", &["/usr/bin/java", "-jar"]));
        assert!(named("java", "main", &["/usr/bin/java", "-jar"]));
        assert!(named("shop", "shop", &["/bin/sh", "/opt/shop"]), "a script");
        assert!(named("nginx", "nginx", &["nginx: master process nginx"]));
        assert!(!named("java", "javac", &["/usr/bin/javac"]));
        assert!(!named("ava", "java", &["/usr/bin/java"]));
        assert!(!named("java", "vi", &["vi", "java"]), "only an argument");
    }

    #[test]
    fn names_that_the_kernel_cuts_off_are_recognised() {
        let long = "a-rather-long-name";
        assert!(named(
            long,
            "a-rather-long-n",
            &["/bin/sh", "/x/a-rather-long-name"]
        ));
        assert!(named(long, "other", &["/x/a-rather-long-name"]));
        assert!(!named(long, "a-rather-long-n", &["/x/a-rather-long-nose"]));
    }

    #[test]
    fn arguments_are_what_follows_the_name() {
        assert_eq!(joined(&words(&["/bin/java", "-jar", "a b"])), "-jar a b");
        assert_eq!(
            joined(&words(&["postgres: walwriter process"])),
            "walwriter process"
        );
        assert_eq!(joined(&words(&["sh"])), "");
        assert_eq!(joined(&[]), "");
    }

    #[test]
    fn a_wrong_expression_is_refused_in_words() {
        let error = Wanted::new("x", Some("a(")).err().unwrap();
        assert!(
            error.contains("\"a(\" is not a regular expression"),
            "{error}"
        );
    }
}
