//! The command server: one thread per connection, one request per connection.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use testbed_agent::wire::{self, Act, Kind, Request};
use testbed_agent::{AGENT_PORT, IDLE_OPTION, TOKEN_OPTION};

use crate::files::Files;
use crate::{console, exec, files, forward, init};

pub(crate) struct Server {
    token: String,
    files: Files,
    presence: Mutex<Presence>,
}

struct Presence {
    connections: usize,
    since: Instant,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let command_line = fs::read_to_string("/proc/cmdline")?;
    let option = |name: &str| {
        command_line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let server = Arc::new(Server {
        token: option(TOKEN_OPTION).context("the kernel command line has no token")?,
        files: Files::default(),
        presence: Mutex::new(Presence { connections: 0, since: Instant::now() }),
    });
    let idle = option(IDLE_OPTION).map_or(Ok(0), |text| text.parse())?;
    if idle > 0 {
        let server = Arc::clone(&server);
        thread::spawn(move || server.power_off_when_idle(Duration::from_secs(idle)));
    }
    let forwarded = forward::listen().context("cannot listen on Manor's port")?;
    let forwarder = Arc::clone(&server);
    thread::spawn(move || forward::run(&forwarded, &forwarder));
    let listener = TcpListener::bind(("0.0.0.0", AGENT_PORT))?;
    console("testbed agent: ready");
    for stream in listener.incoming() {
        let stream = stream?;
        let server = Arc::clone(&server);
        thread::spawn(move || server.present(|| server.serve(stream)));
    }
    Ok(())
}

impl Server {
    /// Somebody is here while `work` lasts.
    pub(crate) fn present(&self, work: impl FnOnce() -> io::Result<()>) {
        self.presence(|presence| presence.connections += 1);
        // An error here is a client that left; there is nobody to tell.
        let _ = work();
        self.presence(|presence| presence.connections -= 1);
    }

    fn presence(&self, change: impl FnOnce(&mut Presence)) {
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut presence);
        presence.since = Instant::now();
    }

    fn power_off_when_idle(&self, limit: Duration) {
        loop {
            thread::sleep(Duration::from_secs(1));
            let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
            if presence.connections == 0 && presence.since.elapsed() >= limit {
                console("testbed agent: nobody came back, powering off");
                init::power_off();
            }
        }
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(frame) = wire::receive(&mut stream)? else { return Ok(()) };
        let request: Request = frame.decode()?;
        if request.token != self.token {
            return wire::send(&mut stream, Kind::Failed, b"this is another testbed's agent");
        }
        let result = match request.act {
            Act::Ping => wire::send(&mut stream, Kind::Done, b""),
            Act::Exec(request) => exec::run(&request, &stream),
            Act::Put(put) => self.files.receive(&put, &mut stream),
            Act::Get { path } => files::give(&path, &mut stream),
            Act::PowerOff => {
                wire::send(&mut stream, Kind::Done, b"")?;
                init::power_off();
            }
        };
        if let Err(error) = result {
            wire::send(&mut stream, Kind::Failed, error.to_string().as_bytes())?;
        }
        Ok(())
    }
}
