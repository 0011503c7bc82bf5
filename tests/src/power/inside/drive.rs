//! The guest's end of its drives: network block devices.

use crate::power::drive::FLAGS;
use crate::power::network;
use crate::power::setup::{DATA_BYTES, STATE_BYTES};
use crate::sys;
use anyhow::{Context, Result};
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const BLOCK: u64 = 512;
const CONNECT_LIMIT: Duration = Duration::from_secs(100);
/// Numbers of the requests to the device, which libc does not name.
const SET_SOCKET: u64 = 0xab00;
const SET_BLOCK: u64 = 0xab01;
const RUN: u64 = 0xab03;
const SET_BLOCKS: u64 = 0xab07;
const SET_FLAGS: u64 = 0xab0a;

/// Plugs both drives in; the devices of the data and of the state.
pub fn plug(number: u8) -> Result<[&'static str; 2]> {
    let devices = ["/dev/nbd0", "/dev/nbd1"];
    for (index, bytes) in [DATA_BYTES, STATE_BYTES].into_iter().enumerate() {
        let address = (network::outside(number), network::drive(number, index));
        let stream = connect(address).with_context(|| format!("drive at {address:?}"))?;
        stream.set_nodelay(true)?;
        let device = File::options().read(true).write(true).open(devices[index]);
        let device = OwnedFd::from(device.context(devices[index])?);
        let socket = stream.as_raw_fd() as u64;
        for (request, value) in [
            (SET_BLOCK, BLOCK),
            (SET_BLOCKS, bytes / BLOCK),
            (SET_FLAGS, FLAGS),
            (SET_SOCKET, socket),
        ] {
            sys::control(&device, request, value).with_context(|| format!("{request:x}"))?;
        }
        std::thread::spawn(move || {
            // Serves until the guest ends.
            let ended = sys::control(&device, RUN, 0);
            eprintln!("{}: {ended:?}", devices[index]);
            drop(stream);
        });
    }
    Ok(devices)
}

/// The network needs a moment after it was brought up.
fn connect(address: (std::net::Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
    let started = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Err(_) if started.elapsed() < CONNECT_LIMIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}
