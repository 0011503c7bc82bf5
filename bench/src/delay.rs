//! A slower network: between two nodes of a lab, each frame is held for a while in both directions.
//!
//! Kernels without the netem queueing discipline cannot do this themselves. So the nodes' ports are
//! taken out of the lab's bridge, and a process of ours passes frames between them through packet
//! sockets: it notes when the kernel received a frame and sends it on when its time has come.
//! Frames pass whole, with what is left to the hardware (checksums, cutting large ones) still left
//! to it, so that only the time changes. When the bench ends, however it ends, the process misses
//! its parent's pipe, makes the ports part of the bridge again, and ends too.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::links::{self, Link};
use crate::runner;
use crate::sys::net::{FRAME_MAX, PacketSocket, set_bridge_port};
use crate::sys::{self, Child, Kind};

/// The kernel wakes us some microseconds late; for so long we look at the clock instead.
const SPIN: Duration = Duration::from_micros(20);
const SLACK: Duration = Duration::from_nanos(1);
const IDLE: Duration = Duration::from_secs(60);
/// Frames taken from one side before the other has its turn.
const BURST: usize = 32;
/// What may be under way in one direction; beyond it frames are lost, as in a full switch.
const HELD_BYTES_MAX: usize = 64 << 20;
const HOLD_BYTES: usize = size_of::<u64>();

/// A delayed connection of two nodes. Dropping it puts the bridge back.
pub(crate) struct Delay {
    lines: Vec<Line>,
}

/// Our end of one forwarding process: it ends when `control` closes.
struct Line {
    control: Option<PipeWriter>,
    _child: Child,
}

impl Drop for Line {
    fn drop(&mut self) {
        // Before the child is waited for.
        self.control.take();
    }
}

impl Delay {
    /// Holds frames for `hold` in each direction on every bridge that connects the nodes of the two
    /// processes.
    pub(crate) fn insert(one: u32, other: u32, hold: Duration) -> Result<Self> {
        let links = links::between(one, other)?;
        if links.is_empty() {
            bail!("found no bridge that connects the nodes");
        }
        let lines = links.iter().map(start).collect::<Result<_>>()?;
        let mut delay = Self { lines };
        delay.set_hold(hold)?;
        Ok(delay)
    }

    pub(crate) fn set_hold(&mut self, hold: Duration) -> Result<()> {
        let nanos = u64::try_from(hold.as_nanos())?.to_ne_bytes();
        for line in &mut self.lines {
            let control = line.control.as_mut().context("the line is closed")?;
            control
                .write_all(&nanos)
                .context("the forwarding process has ended")?;
        }
        Ok(())
    }
}

fn start(link: &Link) -> Result<Line> {
    let (mut orders, control) = io::pipe()?;
    let (mut news, said) = io::pipe()?;
    let mut ours = Some(control);
    let child = sys::fork(Kind::Service, || {
        ours.take();
        let prepared = runner::enter_network(&link.namespace).and_then(|()| Ports::take(link));
        let prepared = match prepared {
            Ok(ports) => Ok(ports),
            Err(error) => Err(format!("{error:#}")),
        };
        let text = prepared.as_ref().err().cloned().unwrap_or_default();
        let sent = (&said).write_all(text.as_bytes());
        // Its end is the word that all is well.
        drop(said);
        let (Ok(ports), Ok(())) = (prepared, sent) else {
            return 1;
        };
        let result = forward(&ports.sockets, &mut orders);
        if let Err(error) = &result {
            eprintln!("tandem-bench: delay line: {error:#}");
        }
        i32::from(result.is_err())
    })?;
    let mut text = String::new();
    news.read_to_string(&mut text)?;
    let line = Line {
        control: ours,
        _child: child,
    };
    if text.is_empty() {
        Ok(line)
    } else {
        bail!("insert a delay: {text}")
    }
}

/// The two ports while they are ours. Dropping gives them back to the bridge.
struct Ports<'a> {
    link: &'a Link,
    sockets: [PacketSocket; 2],
}

impl<'a> Ports<'a> {
    fn take(link: &'a Link) -> Result<Self> {
        let [one, other] = link.ports;
        let open = |port| PacketSocket::open(port).context("open a packet socket");
        let ports = Self {
            link,
            sockets: [open(one)?, open(other)?],
        };
        for port in link.ports {
            set_bridge_port(&link.bridge, port, false).context("take a port out of the bridge")?;
        }
        Ok(ports)
    }
}

impl Drop for Ports<'_> {
    fn drop(&mut self) {
        for port in self.link.ports {
            // Fails for a port that was never taken out, or that has gone with its lab.
            let _ = set_bridge_port(&self.link.bridge, port, true);
        }
    }
}

/// Frames under way in one direction, the oldest first.
#[derive(Default)]
struct Held {
    frames: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Held {
    fn next(&self) -> Option<Instant> {
        self.frames.front().map(|&(due, _)| due)
    }

    /// Takes what has arrived. The second result is the number of frames lost.
    fn fill(&mut self, from: &PacketSocket, buffer: &mut [u8], hold: Duration) -> Result<u64> {
        for _ in 0..BURST {
            let Some((length, age)) = from.receive(buffer).context("receive")? else {
                break;
            };
            if self.bytes + length > HELD_BYTES_MAX {
                return Ok(1);
            }
            let due = Instant::now() + hold.saturating_sub(age);
            self.bytes += length;
            self.frames.push_back((due, buffer[..length].to_vec()));
        }
        Ok(0)
    }

    /// Sends what is due; the number of frames lost.
    fn drain(&mut self, to: &PacketSocket) -> u64 {
        let mut lost = 0;
        while self.next().is_some_and(|due| due <= Instant::now()) {
            if let Some((_, frame)) = self.frames.pop_front() {
                self.bytes -= frame.len();
                lost += u64::from(to.send(&frame).is_err());
            }
        }
        lost
    }
}

/// Passes frames until `orders` ends. An order is the new hold in nanoseconds.
fn forward(sockets: &[PacketSocket; 2], orders: &mut PipeReader) -> Result<()> {
    sys::set_timer_slack(SLACK);
    let [one, other] = sockets;
    let (mut forth, mut back) = (Held::default(), Held::default());
    let mut buffer = vec![0; FRAME_MAX];
    let mut hold = Duration::ZERO;
    let mut lost = 0;
    loop {
        let next = forth.next().into_iter().chain(back.next()).min();
        let wait = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        let [from_one, from_other, ordered] =
            sys::wait_readable([one, other, &*orders], wait.saturating_sub(SPIN))?;
        if from_one {
            lost += forth.fill(one, &mut buffer, hold)?;
        }
        if from_other {
            lost += back.fill(other, &mut buffer, hold)?;
        }
        lost += forth.drain(other) + back.drain(one);
        if ordered {
            let mut order = [0; HOLD_BYTES];
            if orders.read(&mut order)? < HOLD_BYTES {
                break;
            }
            hold = Duration::from_nanos(u64::from_ne_bytes(order));
        }
    }
    if lost > 0 {
        eprintln!("tandem-bench: the delay line lost {lost} frames");
    }
    Ok(())
}
