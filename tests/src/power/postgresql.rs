//! PostgreSQL as a load, with page checksums: a server in a guest, `psql` clients that each wait
//! for one commit before they send the next, and the checks after a cut.

use super::command::run;
use super::machine::Machine;
use super::remote::Running;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Said where it is missing.
pub const WITHOUT_POSTGRESQL: &str = "without PostgreSQL, which is not installed";
/// Clients side by side.
pub const CLIENTS: u64 = 3;
const USER: &str = "postgres";
/// Of the sockets, in memory.
const SOCKETS: &str = "/run/pg";
const START_LIMIT: Duration = Duration::from_secs(120);
const TABLE: &str = "CREATE TABLE IF NOT EXISTS ledger (writer bigint, number bigint, text text, \
                     PRIMARY KEY (writer, number))";

/// The installed server.
#[derive(Clone, Debug)]
pub struct Postgresql {
    programs: PathBuf,
    ids: (u32, u32),
}

impl Postgresql {
    /// Where Debian's package puts it, if it is installed.
    pub fn find() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut places = versions.flatten().map(|version| version.path().join("bin"));
        let needed = ["postgres", "initdb", "psql", "pg_checksums"];
        let programs = places.find(|p| needed.iter().all(|name| p.join(name).is_file()))?;
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let user = users.lines().find(|line| line.starts_with("postgres:"))?;
        let mut ids = user.split(':').skip(2).map(str::parse);
        let (Some(Ok(uid)), Some(Ok(gid))) = (ids.next(), ids.next()) else {
            return None;
        };
        let ids = (uid, gid);
        Some(Self { programs, ids })
    }

    /// Makes an empty cluster on this machine.
    pub fn make(&self, dir: &Path) -> Result<()> {
        fs::create_dir(dir)?;
        chown(dir, Some(self.ids.0), Some(self.ids.1))?;
        let dir = dir.to_str().context("the scratch directory is text")?;
        let words = [
            "-D",
            dir,
            "--data-checksums",
            "--no-locale",
            "-E",
            "UTF8",
            "-A",
            "trust",
        ];
        let words = self.words(
            "initdb",
            &[&words[..], &["--no-sync", "--wal-segsize=1"]].concat(),
        );
        let mut initdb = Command::new(&words[0]);
        run(initdb.args(&words[1..]).current_dir("/"))
    }

    /// A program of the package, run as the server's user.
    fn words(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let mut words = vec!["setpriv".to_owned()];
        words.extend([format!("--reuid={USER}"), format!("--regid={USER}")]);
        words.push("--clear-groups".into());
        words.push(self.programs.join(program).display().to_string());
        words.extend(arguments.iter().map(ToString::to_string));
        words
    }

    fn start(&self, machine: &Machine, program: &str, arguments: &[&str]) -> Result<Running> {
        let words = self.words(program, arguments);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        machine.remote().start(&words, program != "psql")
    }

    fn run(&self, machine: &Machine, program: &str, arguments: &[&str]) -> Result<String> {
        let words = self.words(program, arguments);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        machine.remote().run(&words)
    }

    fn query(&self, machine: &Machine, query: &str) -> Result<String> {
        let arguments = [&PSQL[..], &["-c", query]].concat();
        let answer = self.run(machine, "psql", &arguments)?;
        Ok(answer.trim().to_owned())
    }

    /// Starts the server on a data directory in the guest; it recovers first if it must. Before
    /// that it syncs all its files.
    pub fn serve(&self, machine: &Machine, data: &str, sync: Sync) -> Result<Server> {
        let (uid, gid) = self.ids;
        // The process that the file names is surely dead; its number may mean another one now.
        let prepare = format!(
            "rm -f {data}/postmaster.pid && mkdir -p {SOCKETS} && chown {uid}:{gid} {SOCKETS}"
        );
        machine.remote().run(&["sh", "-c", &prepare])?;
        let arguments = ["-D", data, "-k", SOCKETS, "-c", "listen_addresses="];
        let arguments = [
            &arguments[..],
            &["-c", "shared_buffers=16MB", "-c", "max_wal_size=48MB"],
        ]
        .concat();
        let method = format!("recovery_init_sync_method={}", sync.word());
        let arguments = [&arguments[..], &["-c", &method]].concat();
        let mut server = self.start(machine, "postgres", &arguments)?;
        let log = machine.dir.join("postgresql.log");
        let mut log = fs::File::options().create(true).append(true).open(log)?;
        let said = std::thread::spawn(move || {
            use std::io::Write;
            while let Some(line) = server.line() {
                // A log that cannot be written is no reason to stop a server.
                writeln!(log, "{line}").ok();
            }
        });
        let starts = || Ok(said.is_finished() || self.query(machine, "SELECT 1").is_ok());
        machine.wait_until("PostgreSQL starts", START_LIMIT, starts)?;
        ensure!(
            !said.is_finished(),
            "PostgreSQL did not start on {data}; see postgresql.log"
        );
        Ok(Server {
            data: data.to_owned(),
        })
    }

    /// A client, for inserts of its own.
    pub fn client(&self, machine: &Machine) -> Result<Running> {
        self.start(machine, "psql", &PSQL)
    }

    pub fn make_table(&self, machine: &Machine) -> Result<()> {
        self.query(machine, TABLE).map(drop)
    }

    /// Looks for rows 1 to the last of each writer, once through the index and once through the
    /// table; how many there are.
    pub fn find_rows(&self, machine: &Machine, last: &[(u64, u64)]) -> Result<u64> {
        let wanted: Vec<_> = last
            .iter()
            .map(|(w, last)| format!("({w},{last})"))
            .collect();
        let wanted = wanted.join(",");
        let expected: u64 = last.iter().map(|(_, last)| last).sum();
        for way in ["seqscan", "indexscan"] {
            let query = format!(
                "SET enable_{way} = off; SELECT count(*) FROM ledger l JOIN (VALUES {wanted}) \
                 w(writer, last) ON l.writer = w.writer AND l.number BETWEEN 1 AND w.last"
            );
            let found = self.query(machine, &query)?;
            let found: u64 = found
                .parse()
                .with_context(|| format!("psql said {found:?}"))?;
            ensure!(
                found == expected,
                "PostgreSQL: {found} of {expected} committed rows without {way}"
            );
        }
        Ok(expected)
    }

    /// Stops the server in order.
    pub fn stop(&self, machine: &Machine, server: &Server) -> Result<()> {
        let pid = format!("kill -INT $(head -n 1 {}/postmaster.pid)", server.data);
        machine.remote().run(&["sh", "-c", &pid])?;
        let file = format!("{}/postmaster.pid", server.data);
        let gone = || Ok(machine.remote().run(&["test", "-e", &file]).is_err());
        machine.wait_until("PostgreSQL stops", START_LIMIT, gone)
    }

    /// Every page's checksum, of a server that was stopped in order.
    pub fn check_sums(&self, machine: &Machine, data: &str) -> Result<()> {
        self.run(machine, "pg_checksums", &["--check", "-D", data])
            .map(drop)
    }
}

/// Options of every `psql`: no start-up file, quiet, bare values, stop at an error.
const PSQL: [&str; 8] = [
    "-X",
    "-qAt",
    "-v",
    "ON_ERROR_STOP=1",
    "-h",
    SOCKETS,
    "-d",
    "postgres",
];

/// How a server syncs all its files before it recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Files,
    FileSystem,
}

impl Sync {
    fn word(self) -> &'static str {
        match self {
            Self::Files => "fsync",
            Self::FileSystem => "syncfs",
        }
    }
}

/// A running server.
pub struct Server {
    data: String,
}

/// The statement that adds a row, and answers its number.
pub fn insert(writer: u64, number: u64) -> String {
    format!(
        "INSERT INTO ledger VALUES ({writer}, {number}, repeat('{number} ', 20)) \
         RETURNING number;\n"
    )
}
