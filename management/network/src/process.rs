//! The process behind `manor run-network`, from the configuration on its first descriptor to the
//! request that ends it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::config::{ConfigError, FIRST_FD, NetworkConfig, VERSION};
use crate::confine::{FilterError, drop_privileges, enter_filter};
use crate::files::{FileError, Files};
use crate::state::{Shared, State};
use crate::terms::{Terms, TermsError};
use crate::{LeaseFile, chain, control, dhcp, dhcp6, dns, router, sys};

/// Largest configuration, bytes.
const MAX_CONFIG: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("cannot read the configuration from descriptor {FIRST_FD}")]
    ReadConfig(#[source] io::Error),
    #[error("the configuration is longer than {MAX_CONFIG} bytes")]
    ConfigTooLong,
    #[error("the configuration is not valid")]
    Malformed(#[source] serde_json::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot prepare the process")]
    Prepare(#[source] io::Error),
    #[error("cannot give up the privileges that the process was started with")]
    Privileges(#[source] io::Error),
    #[error("cannot confine the process")]
    Confine(#[source] FilterError),
    #[error("cannot read the lease file")]
    Leases(#[source] io::Error),
    #[error("the {service} service failed")]
    Service { service: &'static str, source: io::Error },
}

/// Serve one network to its end. Called first thing in a process of its own.
pub fn run_network(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("manor: {}\n", chain(&error));
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), ProcessError> {
    let terms = Terms::parse(arguments)?;
    // Before it reads what the daemon says, where it may be known by then.
    if let Some(user) = terms.user {
        drop_privileges(Some(user)).map_err(ProcessError::Privileges)?;
    }
    let mut config = read_config()?;
    config.confinement = terms.over(config.confinement);
    config.check()?;
    let files = Files::adopt(&config.files)?;
    log();
    name_process(&config.name);
    if terms.user.is_none() {
        drop_privileges(config.confinement.user).map_err(ProcessError::Privileges)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ProcessError::Prepare)?.block_on(serve(config, files))
}

fn read_config() -> Result<NetworkConfig, ProcessError> {
    #[derive(serde::Deserialize)]
    struct OnlyVersion {
        version: u32,
    }
    let file = File::from(sys::adopt(FIRST_FD).map_err(ProcessError::ReadConfig)?);
    let mut text = Vec::new();
    file.take(MAX_CONFIG + 1).read_to_end(&mut text).map_err(ProcessError::ReadConfig)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(ProcessError::ConfigTooLong);
    }
    // The version first: what else a newer configuration holds must not matter for the message.
    let only = serde_json::from_slice(&text).map_err(ProcessError::Malformed)?;
    match only {
        OnlyVersion { version: VERSION } => {
            serde_json::from_slice(&text).map_err(ProcessError::Malformed)
        }
        OnlyVersion { version: found } => Err(ConfigError::Version { found }.into()),
    }
}

/// JSON lines on stderr; `RUST_LOG=debug` in the environment asks for more.
fn log() {
    let debug = std::env::var_os("RUST_LOG").is_some_and(|value| value == "debug");
    let level = if debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    // Fails when there is a subscriber already, as in tests that run in process.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(level)
        .with_writer(io::stderr)
        .try_init();
}

/// What `ps` and `top` show: as much of the name as the kernel keeps.
fn name_process(network: &str) {
    let mut name: Vec<u8> = format!("net:{network}").bytes().filter(|byte| *byte != 0).collect();
    name.truncate(15);
    if let Ok(name) = CString::new(name) {
        // A label for people: the network is served as well without.
        let _ = rustix::thread::set_name(&name);
    }
}

async fn serve(config: NetworkConfig, files: Files) -> Result<(), ProcessError> {
    let prepare = ProcessError::Prepare;
    let mut terminate = signal(SignalKind::terminate()).map_err(prepare)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(prepare)?;
    // The end of the session that started us does not concern the network.
    let _hangup = signal(SignalKind::hangup()).map_err(prepare)?;
    files.control.set_nonblocking(true).map_err(prepare)?;
    let listener = tokio::net::UnixListener::from_std(files.control).map_err(prepare)?;

    let found = files.leases.map(LeaseFile::load).transpose();
    let (file, leases) = found.map_err(ProcessError::Leases)?.unzip();
    let leases = leases.unwrap_or_default();
    let dhcp = dhcp::Link::of(&config)
        .filter(|_| files.dhcp.is_some())
        .map(|link| dhcp::Server::new(link, &config.settings, file.clone(), leases.clone()));
    let dhcp6 = dhcp6::Link::of(&config)
        .filter(|_| files.dhcp6.is_some())
        .map(|link| dhcp6::Server::new(link, &config.settings, file, leases));
    tracing::info!(network = config.name, bridge = config.bridge, "the network is served");
    let seccomp = config.confinement.seccomp;
    let shared = Shared::new(State { dhcp6, ..State::new(config, dhcp) });
    let stop = Arc::new(Notify::new());
    let router = files.router.map(router::Socket::new).transpose().map_err(prepare)?;
    if seccomp {
        enter_filter().map_err(ProcessError::Confine)?;
    }
    let service = |service, result: io::Result<()>| {
        result.map_err(|source| ProcessError::Service { service, source })
    };
    tokio::select! {
        result = dhcp::service::serve(files.dhcp, shared.clone()) => service("DHCP", result)?,
        result = dhcp6::service::serve(files.dhcp6, shared.clone()) => service("DHCPv6", result)?,
        result = dns::serve(files.dns_udp, files.dns_tcp, shared.clone()) => service("DNS", result)?,
        () = router::serve(router.as_ref(), &shared) => {}
        () = control::serve(listener, shared.clone(), stop.clone()) => {}
        () = stop.notified() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(router) = &router {
        router.farewell(&shared);
    }
    tracing::info!("the network is no longer served");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_no_terms_are_refused() {
        let error = run([OsString::from("lab")]).unwrap_err();
        assert!(matches!(error, ProcessError::Terms(_)));
    }
}
