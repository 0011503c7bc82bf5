//! A TCP stream whose every wait ends at one deadline: an exchange is bounded as a whole, however
//! slowly the other end drips its bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// See the module's opening.
#[derive(Debug)]
pub struct Timed {
    stream: TcpStream,
    end: Instant,
}

impl Timed {
    /// The stream, with `limit` for everything from now on.
    pub fn new(stream: TcpStream, limit: Duration) -> Self {
        // Small messages one way, then the other: nothing is worth waiting for company.
        let _ = stream.set_nodelay(true);
        let end = Instant::now() + limit;
        Self { stream, end }
    }

    fn rest(&self) -> io::Result<Duration> {
        let rest = self.end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(rest)
    }
}

/// A socket whose time is over says "would block", which reads as if one could go on.
fn timed<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => e,
    })
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.rest()?))?;
        timed(self.stream.read(buffer))
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.rest()?))?;
        timed(self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn dripping_does_not_lengthen_the_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dripping = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[0]).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let began = Instant::now();
        let stream = TcpStream::connect(address).unwrap();
        let mut timed = Timed::new(stream, Duration::from_millis(200));
        let error = timed.read_exact(&mut [0; 100_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(timed);
        dripping.join().unwrap();
    }
}
