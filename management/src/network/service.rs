//! The process of a network: started, found again, told of changes, ended.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, CONTROL_SOCKET, Limits, Process, ProcessId, Role, Stdio};
use network::config::{Confinement, FIRST_FD, Fd, NetworkConfig, NetworkFiles, Settings, VERSION};
use network::control::{Answer, MAX_LINE, Reply, Request};
use xml::NetworkDef;

use super::{plan, resolvers};
use crate::domain::exit::Exit;
use crate::error::{Code, Error};

const ANSWER: Duration = Duration::from_secs(5);
/// For its last words, and for its end.
const FAREWELL: Duration = Duration::from_millis(500);
/// In a network's run directory: the process, once there is one.
const PROCESS: &str = "process.json";

pub(super) struct Service {
    id: ProcessId,
    pub(super) exit: Arc<Exit>,
}

/// Where a network's files are.
pub(super) struct Places {
    /// As long as the network is active.
    pub(super) run_dir: PathBuf,
    /// Over reboots of the host.
    pub(super) leases: PathBuf,
    pub(super) log: PathBuf,
}

fn host(act: &str) -> impl FnOnce(std::io::Error) -> Error {
    let act = format!("cannot {act}");
    move |source| Error::new(Code::HostFailure, act).with_source(source)
}

impl Places {
    fn process(&self) -> PathBuf {
        self.run_dir.join(PROCESS)
    }

    fn control(&self) -> PathBuf {
        self.run_dir.join(CONTROL_SOCKET)
    }

    fn open_leases(&self) -> std::io::Result<OwnedFd> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if let Some(dir) = self.leases.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        file.open(&self.leases).map(OwnedFd::from)
    }
}

/// The numbers under which files appear in the process, after its configuration.
#[derive(Default)]
struct Table {
    files: Vec<OwnedFd>,
}

impl Table {
    fn add(&mut self, file: OwnedFd) -> Fd {
        self.files.push(file);
        Fd(FIRST_FD.saturating_add(i32::try_from(self.files.len()).unwrap_or(i32::MAX)))
    }
}

impl Service {
    /// Start it: its sockets are bound before it exists, so that a busy one is an error here.
    pub(super) fn start(
        broker: &dyn Broker,
        def: &NetworkDef,
        places: &Places,
        confinement: Confinement,
    ) -> Result<Self, Error> {
        let bridge = def.bridge_name().unwrap_or_default().to_owned();
        let mut table = Table::default();
        let sockets = broker.service_sockets(plan::sockets(def))?;
        let files = NetworkFiles {
            control: table.add(broker.listen(&places.control())?),
            leases: Some(table.add(places.open_leases().map_err(host("open the lease file"))?)),
            dhcp: sockets.dhcp.map(|file| table.add(file)),
            dhcp6: sockets.dhcp6.map(|file| table.add(file)),
            dns_udp: sockets.dns_udp.into_iter().map(|file| table.add(file)).collect(),
            dns_tcp: sockets.dns_tcp.into_iter().map(|file| table.add(file)).collect(),
            router: sockets.router.map(|file| table.add(file)),
        };
        let config = NetworkConfig {
            version: VERSION,
            name: def.name.to_string(),
            bridge,
            files,
            confinement,
            mtu: def.mtu.and_then(|mtu| u16::try_from(mtu).ok()),
            isolated: def.forward.is_none(),
            ipv4: plan::gateway(def),
            ipv6: plan::ipv6(def),
            settings: plan::settings(def, resolvers::of_host()),
        };
        let config = config_file(&config).map_err(host("write the network's configuration"))?;
        let files: Vec<_> =
            std::iter::once(&config).chain(&table.files).map(|file| file.as_fd()).collect();
        let stdio = Stdio::Log(places.log.clone());
        let spawned =
            broker.spawn(Role::Network, &def.name, stdio, None, Limits::default(), &files)?;
        let written = serde_json::to_vec(&spawned.id).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|text| std::fs::write(places.process(), text)) {
            // Without its number the process could not be found again.
            let _ = broker.kill(spawned.id, None);
            return Err(host("write down the network's process")(error));
        }
        Self::hold(spawned.id, spawned.process)
    }

    fn hold(id: ProcessId, process: Process) -> Result<Self, Error> {
        let exit = Exit::new(process).map_err(host("watch the network's process"))?;
        Ok(Self { id, exit: Arc::new(exit) })
    }

    /// That of an earlier daemon, if it lives.
    pub(super) fn find(places: &Places) -> Option<Self> {
        let recorded = || serde_json::from_slice(&std::fs::read(places.process()).ok()?).ok();
        // Its daemon may have died before it wrote that down.
        let asked = || match exchange(&places.control(), &Request::Status {}, ANSWER) {
            Ok(Reply::Ok(Answer::Status(status))) => ProcessId::of(status.pid),
            _ => None,
        };
        let id: ProcessId = recorded().or_else(asked)?;
        Self::hold(id, id.open()?).ok()
    }

    /// Serve by the network's definition as it is now.
    pub(super) fn configure(&self, def: &NetworkDef, places: &Places) -> Result<(), Error> {
        let settings = Box::new(plan::settings(def, resolvers::of_host()));
        ask(places, &Request::Configure(settings))
    }

    /// End it. Its address leases stay on record.
    pub(super) fn stop(self, broker: &dyn Broker, places: &Places) -> Result<(), Error> {
        // In good order, so that guests are told that their router goes.
        let asked = exchange(&places.control(), &Request::Stop {}, FAREWELL).is_ok();
        if !(asked && self.has_ended_within(FAREWELL)) {
            match broker.kill(self.id, None) {
                // It has ended by itself.
                Ok(()) | Err(broker::BrokerError::OtherProcess { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.has_ended_within(FAREWELL);
        }
        let _ = std::fs::remove_file(places.process());
        Ok(())
    }

    /// Wait for its end, and for what is left of it if it was our child.
    fn has_ended_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.exit.reap().is_some() || self.id.open().is_none() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

fn config_file(config: &NetworkConfig) -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("network-config", flags)?);
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    Ok(file.into())
}

fn ask(places: &Places, request: &Request) -> Result<(), Error> {
    let reply = exchange(&places.control(), request, ANSWER)
        .map_err(host("reach the network's process"))?;
    match reply {
        Reply::Ok(_) => Ok(()),
        Reply::Error(text) => Err(Error::new(Code::InvalidArgument, text)),
    }
}

fn exchange(socket: &Path, request: &Request, within: Duration) -> std::io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Whether this network's process would serve by these settings, asked before they are stored.
pub(super) fn check(def: &NetworkDef) -> Result<(), Error> {
    let config = NetworkConfig {
        version: VERSION,
        name: def.name.to_string(),
        bridge: String::new(),
        files: NetworkFiles {
            control: Fd(FIRST_FD),
            leases: None,
            dhcp: Some(Fd(FIRST_FD)),
            dhcp6: Some(Fd(FIRST_FD)),
            dns_udp: Vec::new(),
            dns_tcp: Vec::new(),
            router: None,
        },
        confinement: Confinement::default(),
        mtu: None,
        isolated: false,
        ipv4: plan::gateway(def),
        ipv6: plan::ipv6(def),
        settings: Settings { ..plan::settings(def, Vec::new()) },
    };
    config.check().map_err(|error| Error::new(Code::InvalidArgument, error.to_string()))
}
