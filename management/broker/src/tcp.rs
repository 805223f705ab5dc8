//! Listening TCP sockets, for viewers of a guest's screen.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt;

use crate::BrokerError;

/// Before a peer that says nothing is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(60);

/// The first port that is free is the one; taking it is how one finds out.
pub(crate) fn listen(
    address: IpAddr,
    ports: RangeInclusive<u16>,
) -> Result<(OwnedFd, u16), BrokerError> {
    let (first, last) = (*ports.start(), *ports.end());
    let failed = |port: u16| BrokerError::host(format!("listen at {address} port {port}"));
    for port in ports {
        match TcpListener::bind((address, port)) {
            Ok(listener) => {
                // Viewers that come in inherit both.
                sockopt::set_tcp_nodelay(&listener, true)
                    .and_then(|()| sockopt::set_socket_keepalive(&listener, true))
                    .and_then(|()| sockopt::set_tcp_keepidle(&listener, IDLE))
                    .map_err(|errno| failed(port)(errno.into()))?;
                return Ok((listener.into(), port));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed(port)(error)),
        }
    }
    Err(BrokerError::PortBusy { address, first, last })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_taken_port_is_passed_over_and_a_fixed_one_is_refused() {
        // Somewhere out of others' way.
        let taken = TcpListener::bind((HERE, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen(HERE, port..=port).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
        let (listener, found) = listen(HERE, port..=u16::MAX).unwrap();
        assert!(found > port);
        TcpStream::connect((HERE, found)).unwrap();
        drop(listener);
        let nowhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert!(matches!(listen(nowhere, 5900..=5901), Err(BrokerError::Host { .. })));
    }
}
