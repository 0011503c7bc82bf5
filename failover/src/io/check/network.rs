//! Looks at ports and at web servers.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::StatusCode;

use crate::io::within::within;

/// Addresses of a name that are tried.
const TRIED: usize = 8;

/// The addresses of a host, which may be an address itself.
pub(super) fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host).to_owned();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let what = format!("resolving {host:?}");
    let left = deadline.saturating_duration_since(Instant::now());
    let asked = within(left, &what, move || {
        (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
    })?;
    let mut found = asked.map_err(|error| format!("{what}: {error}"))?;
    found.truncate(TRIED);
    match found.is_empty() {
        true => Err(format!("{what}: it has no address")),
        false => Ok(found),
    }
}

/// A connection is accepted.
pub(super) fn tcp(host: &str, port: u16, deadline: Instant) -> Result<(), String> {
    let addresses = resolve(host, port, deadline)?;
    let mut wrong = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        // One that does not answer must not use up the time of the others.
        let share = u32::try_from(addresses.len() - index).unwrap_or(1);
        let left = deadline.saturating_duration_since(Instant::now()) / share;
        if left.is_zero() {
            wrong.push(format!("{address}: no time left"));
            break;
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                wrong.push(format!(
                    "{address}: no answer within {} ms",
                    left.as_millis()
                ));
            }
            Err(error) => wrong.push(format!("{address}: {error}")),
        }
    }
    Err(format!(
        "connecting to {host} port {port}: {}",
        wrong.join("; ")
    ))
}

/// A GET is answered by one of `statuses`; none named: 200 to 399. A redirection is an answer and
/// not followed.
pub(super) fn http(url: &str, statuses: &[u16], timeout: Duration) -> Result<(), String> {
    let begin = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    if !begin.starts_with("http://") {
        return Err(format!(
            "{url}: only http:// can be looked at; for others use a command, such as curl"
        ));
    }
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // What is looked at is this node's own, whatever a proxy would answer in its place.
        .proxy(None)
        .max_response_header_size(64 << 10)
        .user_agent("tandem")
        .build();
    let answer = Agent::new_with_config(config).get(url).call();
    let status = match answer {
        Ok(answer) => answer.status(),
        Err(ureq::Error::Timeout(at)) => {
            let limit = timeout.as_millis();
            return Err(format!("{url}: no answer within {limit} ms ({at})"));
        }
        Err(error) => return Err(format!("{url}: {error}")),
    };
    let wanted = match statuses {
        [] => (200..400).contains(&status.as_u16()),
        statuses => statuses.contains(&status.as_u16()),
    };
    match wanted {
        true => Ok(()),
        false => Err(unexpected(url, status, statuses)),
    }
}

fn unexpected(url: &str, status: StatusCode, statuses: &[u16]) -> String {
    let expected = match statuses {
        [] => "200 to 399".to_owned(),
        statuses => {
            let texts: Vec<_> = statuses.iter().map(u16::to_string).collect();
            texts.join(", ")
        }
    };
    format!("{url}: answered {status}, expected {expected}")
}
