//! Manor's TCP socket is for the loopback interface only, and QEMU forwards to the other one.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use testbed_agent::HTTP_PORT;

use crate::serve::Server;

/// The emulated host's address in QEMU's user network. Bound alone, not all addresses: loopback's
/// port is the daemon's.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

pub(crate) fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((OUTSIDE, HTTP_PORT))
}

pub(crate) fn run(listener: &TcpListener, server: &Arc<Server>) {
    for stream in listener.incoming().flatten() {
        let server = Arc::clone(server);
        thread::spawn(move || server.present(|| relay(stream)));
    }
}

/// Closes at once where no daemon listens.
fn relay(outside: TcpStream) -> io::Result<()> {
    let inside = TcpStream::connect(("127.0.0.1", HTTP_PORT))?;
    let (from_outside, to_inside) = (outside.try_clone()?, inside.try_clone()?);
    let there = thread::spawn(move || copy(from_outside, to_inside));
    copy(inside, outside);
    let _ = there.join();
    Ok(())
}

/// An error ends this direction as the end of the stream does.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = from.set_nodelay(true);
    let _ = to.set_nodelay(true);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
