//! Ports for servers that are restarted.

use std::net::TcpListener;

use crate::error::Error;

/// Below the ephemeral ports (from 32768 on Linux): while a server is down, a client that connects
/// to it could be assigned the server's own port, and the restart would fail.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

const TRIES: u32 = 100;

/// Returns an unused port of loopback outside of the ephemeral range.
///
/// # Errors
/// None was found.
pub fn free() -> Result<u16, Error> {
    let mut refused = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = random();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = error,
        }
    }
    Err(Error::io("a free port")(refused))
}

/// Returns a random port, so that two concurrent processes rarely choose the same.
fn random() -> u16 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    RANGE.start + u16::from_be_bytes([bytes[0], bytes[1]]) % (RANGE.end - RANGE.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = free().unwrap();
        assert!(RANGE.contains(&port));
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
