//! qemu-nbd and nbdkit as servers that come and go.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::apt::Apt;
use crate::tree::Program;
use crate::{paths, qemu};

const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Place {
    Unix(PathBuf),
    /// On 127.0.0.1.
    Tcp(u16),
}

/// A server of one raw image as the export `disk`, for as long as it lives.
pub struct NbdServer {
    child: Child,
}

impl NbdServer {
    pub fn start(image: &Path, place: &Place, tls: Option<&Path>) -> anyhow::Result<Self> {
        let mut command: Command = qemu::nbd_server()?.command();
        command.args(["--format=raw", "--export-name=disk", "--persistent", "--shared=4"]);
        command.args(["--discard=unmap", "--cache=writeback"]);
        match place {
            Place::Unix(path) => {
                // Left by one that was killed; it would be taken for a server that listens.
                let _ = std::fs::remove_file(path);
                command.arg(format!("--socket={}", path.display()));
            }
            Place::Tcp(port) => {
                command.args(["--bind=127.0.0.1".to_owned(), format!("--port={port}")]);
            }
        }
        if let Some(dir) = tls {
            let dir = dir.display();
            command.arg(format!(
                "--object=tls-creds-x509,id=tls0,endpoint=server,verify-peer=yes,dir={dir}"
            ));
            command.arg("--tls-creds=tls0");
        }
        command.arg(image);
        Self::run(command, place)
    }

    /// nbdkit, which fails each request with EIO while the file `failing` is there.
    pub fn start_failing(image: &Path, place: &Path, failing: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(place);
        let tree = nbdkit()?;
        let lib = tree.join("usr/lib/x86_64-linux-gnu/nbdkit");
        let mut command = Program::in_tree(&tree, "usr/bin/nbdkit").command();
        let filter = lib.join("filters/nbdkit-error-filter.so");
        command.args(["--foreground", "--exit-with-parent"]);
        command.arg(format!("--filter={}", filter.display()));
        command.arg(format!("--unix={}", place.display()));
        command.arg(lib.join("plugins/nbdkit-file-plugin.so"));
        command.arg(format!("file={}", image.display()));
        command.args(["error=EIO", "error-rate=100%"]);
        command.arg(format!("error-file={}", failing.display()));
        Self::run(command, &Place::Unix(place.to_owned()))
    }

    fn run(mut command: Command, place: &Place) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().context("starting an NBD server")?;
        let mut server = Self { child };
        let deadline = Instant::now() + PATIENCE;
        while !place.listens() {
            ensure!(server.child.try_wait()?.is_none(), "the NBD server ended");
            ensure!(Instant::now() < deadline, "the NBD server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// At once, with everything that is under way.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// nbdkit with the `file` plugin and its filters.
fn nbdkit() -> anyhow::Result<PathBuf> {
    paths::made_once("nbdkit", |tree| Apt::open()?.unpack_closure(&["nbdkit"], None, tree))
}

impl Place {
    /// A port that is free at this moment.
    pub fn free_port() -> anyhow::Result<Self> {
        Ok(Self::Tcp(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()))
    }

    fn listens(&self) -> bool {
        match self {
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
            Self::Tcp(port) => TcpStream::connect(("127.0.0.1", *port)).is_ok(),
        }
    }
}
