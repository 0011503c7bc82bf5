//! Runs programs in the guest for those outside: one connection is one program. Its standard input
//! and output are the connection itself, so what it prints is outside as soon as the kernel has
//! sent it, and survives the cut.

use crate::power::remote::{PORT, Request};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// Longest request.
const LENGTH: usize = 64 * 1024;

/// Variables of programs.
pub type Environment = [(&'static str, String)];

/// Serves for ever; programs get this environment.
pub fn serve(environment: &Environment) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("agent")?;
    for stream in listener.incoming() {
        let (stream, environment) = (stream?, environment.to_vec());
        std::thread::spawn(move || {
            if let Err(error) = answer(stream, &environment) {
                eprintln!("agent: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, environment: &Environment) -> Result<()> {
    stream.set_nodelay(true)?;
    let line = line(&mut stream)?;
    if line.is_empty() {
        // Somebody wanted to know whether we are there.
        return Ok(());
    }
    let request = Request::parse(&line)?;
    let end = match run(&request, &stream, environment) {
        Ok(code) => format!("\nexit {code}\n"),
        Err(error) => format!("{error:#}\nexit 127\n"),
    };
    stream.write_all(end.as_bytes())?;
    Ok(())
}

fn run(request: &Request, stream: &TcpStream, environment: &Environment) -> Result<i32> {
    let (name, arguments) = request.program.split_first().context("no program")?;
    let copy = || -> Result<Stdio> { Ok(OwnedFd::from(stream.try_clone()?).into()) };
    let mut program = Command::new(name);
    program
        .args(arguments)
        .env_clear()
        .envs(environment.iter().cloned());
    program.stdin(copy()?).stdout(copy()?);
    if request.errors {
        program.stderr(copy()?);
    }
    let status = program.status().with_context(|| name.clone())?;
    Ok(status.code().unwrap_or(-1))
}

/// Byte by byte: what follows the line is the program's.
fn line(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LENGTH && stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(line)
}
