//! What the manager decided and did, for `tandem log`: a file of bounded size, and the journal.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Lines kept in memory, and in the file at least.
const LINES: usize = 5000;
/// The file is begun anew beyond this; the former one is kept beside it.
const FILE_BYTES: u64 = 2 << 20;

/// The log. Writing never fails: a full disk must not stop a failover.
pub struct EventLog {
    path: PathBuf,
    file: Option<File>,
    lines: VecDeque<String>,
}

impl EventLog {
    pub fn open(path: &Path) -> Self {
        let mut lines = VecDeque::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                lines.push_back(line);
                if lines.len() > LINES {
                    lines.pop_front();
                }
            }
        }
        Self {
            path: path.into(),
            file: append(path),
            lines,
        }
    }

    /// Adds a line, and tells the journal.
    pub fn write(&mut self, module: Option<&str>, text: &str) {
        let name = module.unwrap_or("-");
        tracing::info!("{name}: {text}");
        let now = OffsetDateTime::now_utc();
        let time = now.format(&Rfc3339).unwrap_or_default();
        let line = format!("{time} {name}: {}", text.replace('\n', " | "));
        self.rotate();
        if let Some(file) = &mut self.file {
            // The journal has it as well.
            let _ = writeln!(file, "{line}");
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    fn rotate(&mut self) {
        let length = self.file.as_ref().and_then(|f| f.metadata().ok());
        if length.is_some_and(|m| m.len() > FILE_BYTES) {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            self.file = append(&self.path);
        }
    }

    /// The last lines, of one module or all, the latest last.
    pub fn last(&self, module: Option<&str>, count: usize) -> Vec<String> {
        let mine = |line: &&String| match module {
            None => true,
            Some(name) => line.split(' ').nth(1) == Some(&format!("{name}:")),
        };
        let mut found: Vec<_> = self.lines.iter().rev().filter(mine).take(count).collect();
        found.reverse();
        found.into_iter().cloned().collect()
    }
}

fn append(path: &Path) -> Option<File> {
    if let Some(dir) = path.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|e| tracing::warn!("{}: {e}", path.display()))
        .ok()
}
