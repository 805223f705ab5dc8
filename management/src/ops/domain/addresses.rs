//! Addresses that a guest's interfaces have been given.

use crate::auth::{Access, Subject};
use crate::domain::{AddressRow, DomainRef};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::network::{NetworkRef, seconds_now};

/// Addresses by DHCP in the networks that a running domain is in (virDomainInterfaceAddresses with
/// VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedAddresses {
    pub domain: DomainRef,
}

impl Operation for LeasedAddresses {
    type Output = Vec<AddressRow>;
    const NAME: &'static str = "domain.leased-addresses";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<AddressRow>, Error> {
        let view = cx.find(&self.domain)?.view();
        let Some(live) = &view.live else {
            let text = format!("domain {:?} is not running: it has no addresses", view.name);
            return Err(Error::new(Code::InvalidState, text));
        };
        let mut rows = Vec::new();
        for interface in &live.def.devices.interfaces {
            let network = interface.source.as_ref().and_then(|source| source.network.as_deref());
            let (Some(network), Some(mac)) = (network, interface.mac_address()) else { continue };
            // One that was undefined since has no leases that anyone could know.
            let Ok(network) = cx.node.networks.find(&NetworkRef::from(network)) else { continue };
            let now = seconds_now();
            let mut leases = network.run(move |state| state.leases(now)).await?;
            leases.retain(|lease| lease.mac == mac.to_string());
            let tap = interface.target.as_ref().and_then(|target| target.dev.clone());
            let row = |lease: crate::network::LeaseView| AddressRow {
                interface: tap.clone().unwrap_or_default(),
                mac: lease.mac,
                address: lease.address,
                prefix: lease.prefix,
            };
            rows.extend(leases.into_iter().map(row));
        }
        Ok(rows)
    }
}
