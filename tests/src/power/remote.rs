//! Programs in a guest, started from outside; the other end is the guest's agent.

use super::patience::Patience;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::time::Duration;

/// Where the agent listens.
pub const PORT: u16 = 7;
/// A program that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);
/// A machine that is busy elsewhere may lose the first packets of a connection.
const CONNECT: Duration = Duration::from_secs(60);
/// After this long another attempt is better than the next packet of this one.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How often one looks whether a program is silent.
const LOOK: Duration = Duration::from_secs(1);
/// One that is being started does not answer at first.
const TRY: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(25);

/// What to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub program: Vec<String>,
    /// Whether standard error comes back, too. If not it goes to the console.
    pub errors: bool,
}

impl Request {
    pub fn parse(line: &[u8]) -> Result<Self> {
        serde_json::from_slice(line)
            .with_context(|| format!("request {:?}", String::from_utf8_lossy(line)))
    }
}

/// A guest as one talks to it.
#[derive(Clone, Copy, Debug)]
pub struct Remote {
    pub address: Ipv4Addr,
}

impl Remote {
    /// Waits until the agent answers; `alive` says why it never will.
    pub fn wait(&self, limit: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let mut patience = Patience::new(limit);
        loop {
            alive()?;
            let address = SocketAddrV4::new(self.address, PORT).into();
            match TcpStream::connect_timeout(&address, TRY) {
                Ok(_) => return self.run(&["true"]).map(drop),
                Err(error) if patience.is_over() => {
                    return Err(error).context("the guest does not come up");
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn connect(&self) -> Result<TcpStream> {
        let address = SocketAddrV4::new(self.address, PORT).into();
        let mut patience = Patience::new(CONNECT);
        loop {
            match TcpStream::connect_timeout(&address, ATTEMPT) {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() != io::ErrorKind::TimedOut || patience.is_over() => {
                    return Err(error).with_context(|| format!("agent of {}", self.address));
                }
                Err(_) => {}
            }
        }
    }

    /// Starts a program; what it prints is read line by line.
    pub fn start(&self, program: &[&str], errors: bool) -> Result<Running> {
        let mut stream = self.connect()?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SILENCE))?;
        let program = program.iter().map(ToString::to_string).collect();
        let request = serde_json::to_string(&Request { program, errors })?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Running { stream, reader })
    }

    /// Runs a program to its end; its output if it succeeded, else an error with it.
    pub fn run(&self, program: &[&str]) -> Result<String> {
        self.run_with(program, b"")
    }

    /// The same with something to read for the program.
    pub fn run_with(&self, program: &[&str], input: &[u8]) -> Result<String> {
        let (code, output) = self.try_run(program, input, true)?;
        ensure!(code == 0, "{program:?}: exit {code}\n{}", output.trim_end());
        Ok(output)
    }

    /// Runs a program to its end, however that is.
    pub fn try_run(&self, program: &[&str], input: &[u8], errors: bool) -> Result<(i32, String)> {
        let mut running = self.start(program, errors)?;
        running.stream.set_read_timeout(Some(LOOK))?;
        running.stream.write_all(input)?;
        running.end_input();
        let output = read_all(&mut running.reader);
        let output = output.with_context(|| format!("{program:?} on {}", self.address))?;
        let output = String::from_utf8(output).with_context(|| format!("{program:?}"))?;
        let Some((output, code)) = split_end(&output) else {
            bail!("{program:?}: the guest was lost");
        };
        Ok((code, output.to_owned()))
    }
}

/// Reads to the end, unless nothing comes for too long.
fn read_all(from: &mut impl Read) -> Result<Vec<u8>> {
    let (mut output, mut part) = (Vec::new(), [0; 16384]);
    let mut patience = Patience::new(SILENCE);
    loop {
        match from.read(&mut part) {
            Ok(0) => return Ok(output),
            Ok(count) => {
                output.extend_from_slice(&part[..count]);
                patience.renew();
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    ensure!(!patience.is_over(), "silent for more than {SILENCE:?}");
                }
                _ => return Err(error.into()),
            },
        }
    }
}

/// Output and exit code of a program that ended.
fn split_end(output: &str) -> Option<(&str, i32)> {
    let (before, code) = output.strip_suffix('\n')?.rsplit_once("\nexit ")?;
    Some((before, code.parse().ok()?))
}

/// A running program.
pub struct Running {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Running {
    /// The next whole line, or nothing when the program has ended or the guest is gone.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).ok()?;
        (line.pop() == Some(b'\n')).then(|| String::from_utf8_lossy(&line).into_owned())
    }

    /// Writes to the program's standard input.
    pub fn say(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.write_all(text.as_bytes())?)
    }

    /// The program's standard input ends.
    pub fn end_input(&self) {
        // A program that has ended already reads nothing.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// For another thread, to end the input or the connection.
    pub fn handle(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_split_from_the_output() {
        assert_eq!(split_end("a\nb\nexit 3\n"), Some(("a\nb", 3)));
        assert_eq!(split_end("\nexit 0\n"), Some(("", 0)));
        assert_eq!(split_end("a\nexit 0"), None);
        assert_eq!(split_end("cut off"), None);
    }
}
