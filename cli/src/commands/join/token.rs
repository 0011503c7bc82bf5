//! The one-time token that lets a node join: 128 random bits, and the fingerprint of the cluster's
//! authority, by which the joining node knows whom it speaks to.
//!
//! Of the random bits only a hash is kept, below the state directory. A token is good for an hour
//! of this boot, for one node, and for a few wrong tries; the wall clock is not asked.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustls::crypto::ring;
use serde::{Deserialize, Serialize};

/// Seconds that a token is good for.
pub(crate) const LIFE: u64 = 3600;
/// Wrong tries after which it is void.
pub(crate) const MOST_FAILURES: u32 = 5;

/// A token as it is shown and typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) secret: [u8; 16],
    /// Of the authority's certificate.
    pub(crate) fingerprint: [u8; 16],
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn new(fingerprint: [u8; 16]) -> Result<Self> {
        let mut secret = [0; 16];
        let random = ring::default_provider().secure_random;
        random
            .fill(&mut secret)
            .map_err(|_| anyhow!("the system gives no random numbers"))?;
        Ok(Self {
            secret,
            fingerprint,
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", hex(&self.secret), hex(&self.fingerprint))
    }
}

impl std::str::FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.trim().split_once('-');
        let token = parts.and_then(|(secret, fingerprint)| {
            Some(Self {
                secret: unhex(secret)?,
                fingerprint: unhex(fingerprint)?,
            })
        });
        token.ok_or_else(|| {
            "that is no whole token: it has 32 characters, a dash, and 32 more; copy it from the \
             node that shows it"
                .into()
        })
    }
}

pub(crate) fn hex(bytes: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 16]> {
    let right = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok();
    number.filter(|_| right).map(u128::to_be_bytes)
}

/// What is kept of a token.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// BLAKE3 of the secret.
    hash: String,
    /// The boot it was made in.
    boot: String,
    /// Seconds of that boot's uptime.
    until: u64,
    failures: u32,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None was made, or it was used.
    Used,
    Expired,
    Wrong,
    /// Wrong for the last time: there is no token any more.
    Closed,
}

/// The kept token.
pub(crate) struct Vault {
    file: PathBuf,
    clock: fn() -> Result<(String, u64)>,
}

impl Vault {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join("join.json"),
            clock: boot_and_uptime,
        }
    }

    /// Keeps a new token in place of the one before.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn put(&self, token: &Token) -> Result<()> {
        let (boot, now) = (self.clock)()?;
        self.write(&Kept {
            hash: blake3::hash(&token.secret).to_hex().to_string(),
            boot,
            until: now + LIFE,
            failures: 0,
        })
    }

    /// Seconds for which the kept token is still good.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn rest(&self) -> Result<Option<u64>> {
        let Some(kept) = self.read()? else {
            return Ok(None);
        };
        let (boot, now) = (self.clock)()?;
        let rest = kept.until.saturating_sub(now);
        Ok((kept.boot == boot && rest > 0).then_some(rest))
    }

    /// Whether `secret` is that of the kept token. A wrong one is counted, durably.
    ///
    /// # Errors
    /// The outer one: it cannot be read or written, and then nobody may join.
    pub(crate) fn check(&self, secret: &[u8; 16]) -> Result<Result<(), Fault>> {
        let Some(mut kept) = self.read()? else {
            return Ok(Err(Fault::Used));
        };
        if self.rest()?.is_none() {
            self.remove()?;
            return Ok(Err(Fault::Expired));
        }
        let right = blake3::Hash::from_hex(&kept.hash)
            .with_context(|| format!("{}: damaged; remove it", self.file.display()))?;
        // The comparison of hashes takes the same time for all.
        if blake3::hash(secret) == right {
            return Ok(Ok(()));
        }
        kept.failures += 1;
        if kept.failures >= MOST_FAILURES {
            self.remove()?;
            return Ok(Err(Fault::Closed));
        }
        self.write(&kept)?;
        Ok(Err(Fault::Wrong))
    }

    /// From now on there is no token, also after a crash.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        let context = || format!("removing {}", self.file.display());
        match fs::remove_file(&self.file) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed.with_context(context)?,
        }
        self.sync().with_context(context)
    }

    fn read(&self) -> Result<Option<Kept>> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("reading {}", self.file.display())),
        };
        let kept = serde_json::from_str(&text);
        kept.map(Some)
            .with_context(|| format!("{}: damaged; remove it", self.file.display()))
    }

    fn write(&self, kept: &Kept) -> Result<()> {
        let work = || {
            if let Some(parent) = self.file.parent() {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(parent)?;
            }
            let draft = self.file.with_extension("new");
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&draft)?;
            file.write_all(&serde_json::to_vec(kept)?)?;
            file.sync_all()?;
            fs::rename(&draft, &self.file)?;
            self.sync()
        };
        work().with_context(|| format!("writing {}", self.file.display()))
    }

    fn sync(&self) -> std::io::Result<()> {
        let parent = self.file.parent().unwrap_or(Path::new("/"));
        fs::File::open(parent)?.sync_all()
    }
}

/// This boot, and the seconds since it began.
fn boot_and_uptime() -> Result<(String, u64)> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let boot = read("/proc/sys/kernel/random/boot_id")?.trim().to_string();
    let uptime = read("/proc/uptime")?;
    let seconds = uptime.split('.').next().and_then(|s| s.parse().ok());
    Ok((boot, seconds.context("/proc/uptime: not a number")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::Directory;

    fn vault(root: &Directory) -> (Vault, Token) {
        let vault = Vault::new(&root.path().join("state"));
        let token = Token::new([7; 16]).unwrap();
        vault.put(&token).unwrap();
        (vault, token)
    }

    #[test]
    fn a_token_is_read_back_as_it_is_shown() {
        let token = Token::new([0; 16]).unwrap();
        assert!(token == token.to_string().parse().unwrap());
        assert!(token != Token::new([0; 16]).unwrap());
        let text = token.to_string();
        for bad in [
            "",
            "-",
            &text[1..],
            &text[..64],
            &format!("{text}0"),
            &text.replace('-', "+"),
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        assert!(unhex(&format!("+{}", "0".repeat(31))).is_none());
    }

    #[test]
    fn it_is_good_once() {
        let root = Directory::new();
        let (vault, token) = vault(&root);
        assert!(vault.rest().unwrap().unwrap() > LIFE - 60);
        assert_eq!(vault.check(&token.secret).unwrap(), Ok(()));
        vault.remove().unwrap();
        assert_eq!(vault.check(&token.secret).unwrap(), Err(Fault::Used));
        assert_eq!(vault.rest().unwrap(), None);
    }

    #[test]
    fn the_secret_is_not_kept() {
        let root = Directory::new();
        let (vault, token) = vault(&root);
        let kept = fs::read_to_string(&vault.file).unwrap();
        assert!(!kept.contains(&hex(&token.secret)));
        use std::os::unix::fs::PermissionsExt;
        let mode = vault.file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn wrong_tries_make_it_void_also_across_a_restart() {
        let root = Directory::new();
        let (vault, token) = vault(&root);
        for _ in 1..MOST_FAILURES {
            assert_eq!(vault.check(&[1; 16]).unwrap(), Err(Fault::Wrong));
        }
        let vault = Vault::new(&root.path().join("state"));
        assert_eq!(vault.check(&[1; 16]).unwrap(), Err(Fault::Closed));
        assert_eq!(vault.check(&token.secret).unwrap(), Err(Fault::Used));
    }

    #[test]
    fn it_ends_after_an_hour_and_with_the_boot() {
        let root = Directory::new();
        for later in [
            || boot_and_uptime().map(|(boot, now)| (boot, now + LIFE)),
            || boot_and_uptime().map(|(_, now)| ("another".into(), now)),
        ] as [fn() -> Result<(String, u64)>; 2]
        {
            let (mut vault, token) = vault(&root);
            vault.clock = later;
            assert_eq!(vault.rest().unwrap(), None);
            assert_eq!(vault.check(&token.secret).unwrap(), Err(Fault::Expired));
        }
    }
}
