//! Manor's daemon in a directory of its own on this machine, to be asked beside [libvirt's](crate::libvirt_server).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::manor_binary;

/// For a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct ManorServer {
    process: Child,
    socket: PathBuf,
}

impl ManorServer {
    /// With nothing defined. `dir` can be asked for what it wrote.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let root = dir.display();
        let socket = dir.join("run/libvirt-sock");
        let config = format!(
            "state_dir = \"{root}/state\"\nrun_dir = \"{root}/run\"\nlog_dir = \"{root}/log\"\n\
             [api]\nsocket = \"{root}/run/api.sock\"\nread_only_socket = \"\"\nsocket_group = \"\"\n\
             [libvirt]\nsocket = \"{root}/run/libvirt-sock\"\n\
             read_only_socket = \"{root}/run/libvirt-sock-ro\"\n"
        );
        fs::write(dir.join("manor.toml"), config)?;
        let log = fs::File::create(dir.join("daemon.log"))?;
        let process = Command::new(manor_binary()?)
            .args(["daemon", "--config"])
            .arg(dir.join("manor.toml"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Self { process, socket };
        let deadline = Instant::now() + PATIENCE;
        while !server.socket.exists() {
            if Instant::now() > deadline || server.process.try_wait()?.is_some() {
                bail!("no daemon: {}", fs::read_to_string(dir.join("daemon.log"))?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// For libvirt's clients.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for ManorServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
