//! `manor daemon --driver test`: the daemon as it is, on a host that is made up, with a directory of
//! its own that goes when it does.

mod node;

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use management::config::{Config, Firmware};
use management::{Host, Manager};
use test_driver::TestBroker;

use crate::args;
use crate::failure::{Failure, reason};
use node::Node;

/// Far more than anybody runs at once.
const MOST: u32 = 1000;

/// What a daemon of the test driver has for itself.
pub(crate) struct TestDriver {
    directory: Directory,
    state: PathBuf,
    node: Node,
}

/// Removed with everything in it when the daemon ends.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is in a place that is cleared at the next boot.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Directory {
    fn new() -> Result<Self, Failure> {
        let (place, pid) = (std::env::temp_dir(), std::process::id());
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        for number in 0..MOST {
            let path = place.join(format!("manor-test-{pid}-{number}"));
            match builder.create(&path) {
                // Devices' names are those of their real places.
                Ok(()) => return Ok(Self(path.canonicalize().unwrap_or(path))),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make", &path, &error)),
            }
        }
        Err(Failure::other(format!("{} is full of directories of test drivers", place.display())))
    }
}

fn failed(act: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::other(format!("cannot {act} {}: {}", path.display(), reason(error)))
}

impl TestDriver {
    pub(crate) fn new(args: &args::Daemon) -> Result<Self, Failure> {
        let node = match &args.fixture {
            Some(file) => Node::read(file)?,
            None => Node::default(),
        };
        let directory = Directory::new()?;
        let host = directory.0.join("host");
        std::fs::create_dir(&host)
            .and_then(|()| test_driver::host::make(&host))
            .map_err(|error| failed("make up a host in", &host, &error))?;
        let state = match &args.state_dir {
            Some(path) => {
                std::path::absolute(path).map_err(|error| failed("find", path, &error))?
            }
            None => directory.0.join("state"),
        };
        Ok(Self { directory, state, node })
    }

    /// What nobody can have chosen otherwise: where things lie, and that nothing is the host's.
    pub(crate) fn configure(&self, config: &mut Config, args: &args::Daemon) {
        let own = |name: &str| self.directory.0.join(name);
        config.state_dir.clone_from(&self.state);
        config.run_dir = own("run");
        config.log_dir = own("log");
        config.api.socket = own("api.sock");
        config.api.read_only_socket = own("api-ro.sock");
        config.api.socket_group.clear();
        config.api.socket_mode = "0600".to_owned();
        config.api.read_only_socket_mode = "0600".to_owned();
        if args.libvirt_socket.is_none() {
            config.libvirt.socket = own("libvirt-sock");
        }
        config.libvirt.read_only_socket = own("libvirt-sock-ro");
        // Guests that are no programs need no protection from each other.
        config.domains.isolation = management::config::Isolation::Off;
        config.networks.seccomp = false;
        config.firmware = Firmware {
            bios: vec![own("host/bios.bin")],
            option_roms: Vec::new(),
            descriptors: Vec::new(),
        };
    }

    pub(crate) async fn open(&self, config: Config) -> Result<Manager, management::Error> {
        let broker = Arc::new(TestBroker::new(self.directory.0.clone()));
        let host = Host::made_up(self.directory.0.join("host"));
        Manager::open_on(host, config, broker).await
    }

    /// What there is when the first client comes, unless there was something before.
    pub(crate) async fn populate(&self, manager: &Manager) -> Result<(), Failure> {
        let marker = self.state.join("populated");
        if marker.exists() {
            return Ok(());
        }
        self.node.populate(manager, &self.state.join("images")).await?;
        std::fs::write(&marker, "").map_err(|error| failed("write", &marker, &error))
    }

    /// Whoever started it learns where it is.
    pub(crate) fn tell(&self, config: &Config) {
        let libvirt = config.libvirt.socket.display();
        let text =
            format!("test+unix:///default?socket={libvirt}\n{}\n", config.api.socket.display());
        // Who does not listen knows it already.
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = std::io::stdout().flush();
    }
}
