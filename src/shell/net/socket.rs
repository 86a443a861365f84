//! Options of a socket, and addresses.

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// How long written bytes may go unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// How long a connection may be silent before the kernel asks whether the other side lives.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// How long between two such questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Sets what every connection has: no delay for small writes, and an end for one whose other
/// side has vanished. Failures are harmless and only noted.
pub(super) fn tune(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let outcome = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let outcome = outcome.and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)));
    if let Err(error) = outcome {
        log::debug!("a socket option could not be set: {error}");
    }
}

/// The addresses behind `HOST:PORT`. A numeric one is taken as it is; a name is resolved by the
/// system, which **blocks**: where the loop must not stand still, use numeric addresses.
pub(super) fn resolve(addr: &str) -> io::Result<VecDeque<SocketAddr>> {
    if let Ok(numeric) = addr.parse() {
        return Ok(VecDeque::from([numeric]));
    }
    let found: VecDeque<SocketAddr> = addr.to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}
