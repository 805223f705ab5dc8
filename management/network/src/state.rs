//! [`State`]: what the services of a network share, and the one lock around it.
//!
//! Everything runs on one thread and nothing waits while it holds the lock, so it is never contended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{ConfigError, NetworkConfig, Settings};
use crate::control::Status;
use crate::{dhcp, dhcp6, dns, router};

#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    pub config: NetworkConfig,
    /// There is one where there is a socket for it.
    pub dhcp: Option<dhcp::Server>,
    /// The same.
    pub dhcp6: Option<dhcp6::Server>,
    pub zone: dns::Zone,
    pub upstreams: dns::Upstreams,
    pub dns: dns::Counters,
    pub router: router::Counters,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn new(config: NetworkConfig, dhcp: Option<dhcp::Server>) -> Self {
        let zone = dns::Zone::new(&config);
        let router = router::Counters::default();
        Self {
            router,
            config,
            dhcp,
            dhcp6: None,
            zone,
            upstreams: dns::Upstreams::default(),
            dns: dns::Counters::default(),
        }
    }

    /// Serve by `settings` from now on, or change nothing.
    pub(crate) fn configure(&mut self, settings: Settings) -> Result<(), ConfigError> {
        self.config.check_settings(&settings)?;
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.configure(&settings);
        }
        if let Some(dhcp) = &mut self.dhcp6 {
            dhcp.configure(&settings);
        }
        self.config.settings = settings;
        self.zone = dns::Zone::new(&self.config);
        Ok(())
    }

    pub(crate) fn leases(&self) -> dns::Leases<'_> {
        dns::Leases { ipv4: self.dhcp.as_ref(), ipv6: self.dhcp6.as_ref() }
    }

    pub(crate) fn status(&self) -> Status {
        let (dhcp, dhcp6) = (self.dhcp.as_ref(), self.dhcp6.as_ref());
        Status {
            network: self.config.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leases: dhcp.map_or(0, |dhcp| dhcp.live_leases(now()))
                + dhcp6.map_or(0, |dhcp| dhcp.live_leases(now())),
            dhcp: dhcp.map(dhcp::Server::counters).unwrap_or_default(),
            dhcp6: dhcp6.map(dhcp6::Server::counters).unwrap_or_default(),
            dns: self.dns,
            router: self.router,
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
