//! `manor daemon`: configuration, log, sockets, then the management plane until a signal.
//!
//! Guests are processes of their own. Stopping the daemon, in whatever way, leaves them running.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::Instant;

use api::http::remote::Tls;
use api::http::server::{ListenError, Listener, serve};
use api::rpc::server as rpc;
use broker::Remote;
use management::config::Config;
use management::passwd::User;
use management::{Access, Manager};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::args::{self, Driver};
use crate::config;
use crate::daemon_user;
use crate::descriptors;
use crate::failure::{Failure, chain, reason};
use crate::log;
use crate::remote;
use crate::rootless;
use crate::run_broker;
use crate::sys::inherited_sockets;
use crate::test_driver::TestDriver;

/// What the daemon has had from before it had threads.
struct Parts {
    level: log::Level,
    tls: Shown,
    /// Of the service manager.
    inherited: Vec<(String, UnixListener)>,
    apart: Option<Apart>,
}

/// The process that has the privileges, and whom this one becomes.
struct Apart {
    user: Option<User>,
    broker: Remote,
    process: Child,
}

impl Apart {
    fn begin(config: &Config) -> Result<Self, Failure> {
        let user = daemon_user::of(config)?;
        let owner = user.map(|user| daemon_user::hand_over(config, user)).transpose()?;
        let (broker, process) = run_broker::start(config, owner.as_ref())?;
        Ok(Self { user, broker, process })
    }
}

pub(crate) fn daemon(args: &args::Daemon) -> Result<(), Failure> {
    let test = match args.driver {
        Driver::Kvm => kvm_alone(args).map(|()| None)?,
        Driver::Test => Some(TestDriver::new(args)?),
    };
    let config = configured(args, test.as_ref())?;
    // Sockets and files are nobody else's until their mode says so.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let level = log::start(&config.log.level, &config.log.format);
    if test.is_none() {
        descriptors::raise();
    }
    if args.user {
        rootless::warn();
    }
    let inherited = inherited_sockets()
        .map_err(|error| Failure::other(format!("cannot take systemd's sockets: {error}")))?;
    let tls = Shown::new(&config)?;
    // Of a hypervisor that is made up nothing needs any privilege.
    let apart = test.is_none().then(|| Apart::begin(&config)).transpose()?;
    // The broker's children may need what a file's mode gives; nothing that this process starts does.
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| Failure::other(format!("cannot give up new privileges: {errno}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("daemon")
        .build()
        .map_err(|error| Failure::other(format!("cannot start threads: {error}")))?;
    let parts = Parts { level, tls, inherited, apart };
    let result = runtime.block_on(run(config, args, test.as_ref(), parts));
    runtime.shutdown_background();
    result
}

/// What is for another driver, and would be passed over in silence.
fn kvm_alone(args: &args::Daemon) -> Result<(), Failure> {
    for (option, given) in
        [("--fixture", args.fixture.is_some()), ("--state-dir", args.state_dir.is_some())]
    {
        if given {
            return Err(Failure::usage(format!("{option} is for --driver test")));
        }
    }
    Ok(())
}

/// The file, and what the command line has to say instead.
fn configured(args: &args::Daemon, test: Option<&TestDriver>) -> Result<Config, Failure> {
    let mut config = match test {
        // That of the host's own daemon has nothing to do with it.
        Some(_) if args.config == Path::new(config::DEFAULT_PATH) => {
            let mut config = Config::default();
            "warn".clone_into(&mut config.log.level);
            config
        }
        _ if args.user => rootless::configuration(&args.config)?,
        _ => config::load(&args.config)?,
    };
    if let Some(test) = test {
        test.configure(&mut config, args);
    }
    let absolute = |option: &str, path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::other(format!("{option}: {}", reason(&error))))
    };
    if let Some(path) = &args.socket {
        config.api.socket = absolute("--socket", path)?;
    }
    if let Some(address) = &args.listen {
        config.listen.tcp = address.to_string();
    }
    if let Some(path) = &args.libvirt_socket {
        config.libvirt.socket = absolute("--libvirt-socket", path)?;
    }
    if let Some(address) = &args.libvirt_tls {
        config.libvirt.tls = address.to_string();
    }
    if let Some(path) = &args.pkipath {
        config.libvirt.pki = absolute("--pkipath", path)?;
    }
    if let Some(address) = &args.libvirt_tcp {
        config.libvirt.tcp = address.to_string();
    }
    Ok(config)
}

async fn run(
    config: Config,
    args: &args::Daemon,
    test: Option<&TestDriver>,
    Parts { level, tls, inherited, apart }: Parts,
) -> Result<(), Failure> {
    let begun = Instant::now();
    // Before anybody can know that it is there: from then on they may tell it to stop.
    let mut signals = Signals::watch()?;
    // Before anything slow: callers wait in the sockets' queues rather than be turned away.
    let Sockets { http: listeners, libvirt } = listen(&config, &tls, inherited).await?;
    let (broker, process) = match apart {
        None => (None, None),
        Some(Apart { user, broker, process }) => {
            // Sockets have their places and groups by now, which only root gives.
            user.map(daemon_user::become_user).transpose()?;
            (Some(broker), Some(process))
        }
    };
    let manager = tokio::select! {
        opened = open(config, test, broker) => opened?,
        // What it was at is taken up by the next one, as after any other end.
        () = signals.end() => return Ok(()),
    };
    let (stop, stopped) = watch::channel(false);
    let names = listeners.iter().map(Listener::name);
    let names: Vec<_> = names.chain(libvirt.iter().map(rpc::Listener::name)).collect();
    let rpc = tokio::spawn(rpc::serve(libvirt, manager.clone(), stopped.clone()));
    let server = tokio::spawn(serve(listeners, api::http::router(manager.clone()), stopped));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        sockets = %names.join(", "),
        took_ms = begun.elapsed().as_millis(),
        "ready"
    );
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let starter = manager.clone();
    tokio::spawn(async move { starter.autostart().await });
    tokio::select! {
        () = signals.until_told_to_stop(|| reload(args, test, &level, &tls)) => {}
        how = end(process) => return Err(broker_gone(how)),
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping; guests run on");
    let _ = stop.send(true);
    // The server ends by itself within its own deadline.
    let _ = tokio::join!(server, rpc);
    Ok(())
}

/// How it ends; without one there is no end.
async fn end(process: Option<Child>) -> String {
    let Some(mut process) = process else { return std::future::pending().await };
    let waited = tokio::task::spawn_blocking(move || process.wait()).await;
    match waited.map_err(std::io::Error::other).flatten() {
        Ok(status) => status.to_string(),
        Err(error) => reason(&error),
    }
}

/// A service manager starts both anew, which is what can be done about it.
fn broker_gone(how: String) -> Failure {
    Failure::other(format!(
        "the broker has ended ({how}), and the daemon ends with it; guests run on"
    ))
}

async fn open(
    config: Config,
    test: Option<&TestDriver>,
    broker: Option<Remote>,
) -> Result<Manager, Failure> {
    let opened = match (test, broker) {
        (Some(test), _) => {
            test.tell(&config);
            test.open(config).await
        }
        (None, Some(broker)) => Manager::open_with(config, Arc::new(broker)).await,
        (None, None) => Manager::open(config).await,
    };
    let manager = opened
        .map_err(|error| Failure::other(error.chain()).while_doing("the daemon cannot start"))?;
    if let Some(test) = test {
        test.populate(&manager).await?;
    }
    Ok(manager)
}

/// SIGTERM and SIGINT end the daemon; SIGHUP reads the log level anew, and what TLS is done with.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on they are kept for whoever asks.
    fn watch() -> Result<Self, Failure> {
        let watch = |kind: SignalKind| {
            signal(kind)
                .map_err(|error| Failure::other(format!("cannot watch for signals: {error}")))
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hang_up: watch(SignalKind::hangup())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn until_told_to_stop(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reload(),
            }
        }
    }
}

/// What is shown to those who come by TLS, by what is spoken there.
struct Shown {
    http: Option<Tls>,
    libvirt: Option<rpc::Tls>,
}

impl Shown {
    fn new(config: &Config) -> Result<Self, Failure> {
        let http = !config.listen.tcp.is_empty();
        let libvirt = !config.libvirt.tls.is_empty();
        Ok(Self {
            http: http.then(|| remote::server(&config.listen)).transpose()?,
            libvirt: libvirt.then(|| remote::libvirt(&config.libvirt)).transpose()?,
        })
    }

    /// By files that may have changed; nothing where nobody comes by TLS.
    fn renew(&self, config: &Config) -> Option<Result<(), Failure>> {
        let http = self.http.as_ref().map(|tls| remote::renew(tls, &config.listen));
        let libvirt = self.libvirt.as_ref().map(|tls| remote::renew_libvirt(tls, &config.libvirt));
        match (http, libvirt) {
            (Some(http), Some(libvirt)) => Some(http.and(libvirt)),
            (one, other) => one.or(other),
        }
    }
}

fn reload(args: &args::Daemon, test: Option<&TestDriver>, level: &log::Level, tls: &Shown) {
    let now = NotifyState::monotonic_usec_now().ok();
    notify(&now.into_iter().chain([NotifyState::Reloading]).collect::<Vec<_>>());
    match configured(args, test) {
        Ok(config) => {
            match level.reload(log::filter(&config.log.level)) {
                Ok(()) => tracing::info!(level = config.log.level, "reloaded the log level"),
                Err(error) => tracing::error!(%error, "cannot change the log level"),
            }
            match tls.renew(&config) {
                None => {}
                Some(Ok(())) => tracing::info!("reloaded certificates and their roles"),
                Some(Err(failure)) => tracing::error!(
                    error = %failure.lines().join(": "),
                    "certificates and their roles stay as they were"
                ),
            }
        }
        Err(failure) => tracing::error!(
            error = %failure.lines().join("; "),
            "the configuration is wrong; nothing was changed"
        ),
    }
    notify(&[NotifyState::Ready]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// What the daemon listens on, by what is spoken there.
struct Sockets {
    http: Vec<Listener>,
    libvirt: Vec<rpc::Listener>,
}

/// The configured sockets; those that systemd opened are taken instead of opened.
async fn listen(
    config: &Config,
    tls: &Shown,
    inherited: Vec<(String, UnixListener)>,
) -> Result<Sockets, Failure> {
    let api = &config.api;
    let paths = &config.libvirt;
    let auth_rw = remote::libvirt_auth(&paths.auth_unix_rw);
    let auth_ro = remote::libvirt_auth(&paths.auth_unix_ro);
    let (mut listeners, mut libvirt) = (Vec::new(), Vec::new());
    let (mut have, mut have_libvirt) = ((false, false), (false, false));
    for (index, (name, socket)) in inherited.into_iter().enumerate() {
        if let "libvirt" | "libvirt-ro" = name.as_str() {
            let access = if name == "libvirt-ro" { Access::Read } else { Access::Admin };
            let have = &mut have_libvirt;
            *(if access == Access::Read { &mut have.1 } else { &mut have.0 }) = true;
            let auth = if access == Access::Read { auth_ro } else { auth_rw };
            let listener = rpc::Listener::inherited(index, socket, access, auth);
            libvirt.push(listener.map_err(|error| chain(&error))?);
            continue;
        }
        let access = if name == "api-ro" { Access::Read } else { Access::Admin };
        *(if access == Access::Read { &mut have.1 } else { &mut have.0 }) = true;
        listeners.push(Listener::inherited(index, socket, access).map_err(|error| chain(&error))?);
    }
    let group = (!api.socket_group.is_empty()).then_some(api.socket_group.as_str());
    if !have.0 {
        let listener = || Listener::unix(&api.socket, Access::Admin);
        listeners.push(unix(&api.socket, group, &api.socket_mode, listener)?);
    }
    if !have.1 && !api.read_only_socket.as_os_str().is_empty() {
        let (path, mode) = (&api.read_only_socket, &api.read_only_socket_mode);
        listeners.push(unix(path, None, mode, || Listener::unix(path, Access::Read))?);
    }
    if !have_libvirt.0 && !paths.socket.as_os_str().is_empty() {
        let listener = || rpc::Listener::unix(&paths.socket, Access::Admin, auth_rw);
        libvirt.push(unix(&paths.socket, group, &api.socket_mode, listener)?);
    }
    if !have_libvirt.1 && !paths.read_only_socket.as_os_str().is_empty() {
        let (path, mode) = (&paths.read_only_socket, &api.read_only_socket_mode);
        let listener = || rpc::Listener::unix(path, Access::Read, auth_ro);
        libvirt.push(unix(path, None, mode, listener)?);
    }
    if !api.listen.is_empty() {
        let access = config::access(&api.listen_access).unwrap_or(Access::Read);
        listeners.push(Listener::tcp(&api.listen, access).await.map_err(|error| chain(&error))?);
    }
    // Both were looked at when the configuration was read.
    if let Ok(address) = paths.tcp.parse() {
        let access = config::access(&paths.tcp_access).unwrap_or(Access::Read);
        libvirt.push(rpc::Listener::tcp(address, access).await.map_err(|error| chain(&error))?);
    }
    if let (Ok(address), Some(tls)) = (paths.tls.parse(), &tls.libvirt) {
        let listener = rpc::Listener::tls(address, tls.clone()).await;
        libvirt.push(listener.map_err(|error| chain(&error))?);
    }
    if let Some(tls) = &tls.http {
        let listener = Listener::tls(&config.listen.tcp, tls.clone()).await;
        listeners.push(listener.map_err(|error| chain(&error))?);
    }
    let admit = |listener: Listener| listener.admitting(api.max_clients.into());
    let admit_libvirt = |listener: rpc::Listener| listener.admitting(paths.max_clients.into());
    Ok(Sockets {
        http: listeners.into_iter().map(admit).collect(),
        libvirt: libvirt.into_iter().map(admit_libvirt).collect(),
    })
}

/// A socket with its place, group and mode.
fn unix<L>(
    path: &Path,
    group: Option<&str>,
    mode: &str,
    listener: impl FnOnce() -> Result<L, ListenError>,
) -> Result<L, Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::other(format!("cannot {what} {}: {}", path.display(), reason(&error)))
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        std::fs::create_dir_all(directory).map_err(|error| failed("make room for", error))?;
        // Others pass through to the sockets in it, each of which has its own mode.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory, open).map_err(|error| failed("open", error))?;
    }
    let listener = listener().map_err(|error| chain(&error))?;
    if let Some(name) = group {
        match group_id(name, Path::new("/etc/group")) {
            Some(gid) => std::os::unix::fs::chown(path, None, Some(gid))
                .map_err(|error| failed("change the group of", error))?,
            None => tracing::warn!(
                "there is no group '{name}', so only root may use {}; 'manor setup' makes it",
                path.display()
            ),
        }
    }
    let mode = config::octal(mode).unwrap_or(0o600);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| failed("change the mode of", error))?;
    Ok(listener)
}

/// Read from the file itself: a static binary has no name services.
pub(crate) fn group_id(name: &str, file: &Path) -> Option<u32> {
    let groups = std::fs::read_to_string(file).ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("group");
        std::fs::write(&file, "root:x:0:\nmanors:x:7:\nmanor:x:990:alice,bob\nbroken\n").unwrap();
        assert_eq!(group_id("manor", &file), Some(990));
        assert_eq!(group_id("man", &file), None);
        assert_eq!(group_id("broken", &file), None);
    }
}
