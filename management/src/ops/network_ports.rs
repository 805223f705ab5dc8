//! Operations on the ports of networks: the interfaces of running guests that are in one.
//!
//! Nothing is stored of a port: it is an interface of a live definition, and is known by a UUID that is
//! made of the domain's and its MAC address, so that it is the same for every daemon.

use uuid::Uuid;
use xml::device::interface::{Interface, InterfaceType};
use xml::network::{NetworkPort, PortOwner};
use xml::{NetworkDef, YesNo};

use crate::auth::{Access, Subject};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::network::{NetworkPortView, NetworkRef};
use crate::registry::Attached;

/// The interfaces that are in a network now (virNetworkListAllPorts).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListNetworkPorts {
    pub network: NetworkRef,
}

impl Operation for ListNetworkPorts {
    type Output = Vec<NetworkPortView>;
    const NAME: &'static str = "network.ports";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("network", self.network.0.as_str().into())
    }

    async fn run(self, cx: &Context) -> Result<Vec<NetworkPortView>, Error> {
        let network = cx.node.networks.find(&self.network)?;
        let name = network.now().view.name.clone();
        let mut ports: Vec<_> = cx.node.attached(&name).iter().filter_map(view).collect();
        ports.sort_by(|one, other| (&one.domain, &one.mac).cmp(&(&other.domain, &other.mac)));
        Ok(ports)
    }
}

/// One of them as XML (virNetworkPortGetXMLDesc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpNetworkPortXml {
    pub network: NetworkRef,
    pub port: Uuid,
}

impl Operation for DumpNetworkPortXml {
    type Output = String;
    const NAME: &'static str = "network.port-xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("network", self.network.0.as_str().into())
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let network = cx.node.networks.find(&self.network)?;
        let now = network.now();
        let name = &now.view.name;
        let attached = cx.node.attached(name);
        let is_it = |attached: &&Attached| port_id(attached) == Some(self.port);
        let found = attached.iter().find(is_it).and_then(|found| described(found, &now.def));
        found.map(|port| port.to_xml()).ok_or_else(|| {
            let text =
                format!("network {name:?} has no port {}; net-port-list shows all", self.port);
            Error::new(Code::NotFound, text)
        })
    }
}

fn port_id(Attached { uuid, interface, .. }: &Attached) -> Option<Uuid> {
    Some(Uuid::new_v5(uuid, interface.mac_address()?.to_string().as_bytes()))
}

fn view(attached: &Attached) -> Option<NetworkPortView> {
    let Attached { domain, uuid, interface } = attached;
    let source = interface.source.as_ref();
    Some(NetworkPortView {
        uuid: port_id(attached)?,
        domain: domain.clone(),
        domain_uuid: *uuid,
        mac: interface.mac_address()?.to_string(),
        device: interface.target.as_ref().and_then(|target| target.dev.clone()),
        group: source.and_then(|source| source.portgroup.clone()),
    })
}

fn described(attached: &Attached, network: &NetworkDef) -> Option<NetworkPort> {
    let Attached { domain, uuid, interface } = attached;
    let named = interface.source.as_ref().and_then(|source| source.portgroup.as_deref());
    let group = network.port_group(named).ok().flatten();
    let of_group = group.map(|group| (group.bandwidth.clone(), group.vlan.clone()));
    let (bandwidth, vlan) = of_group.unwrap_or_default();
    Some(NetworkPort {
        uuid: port_id(attached)?,
        owner: PortOwner { name: domain.clone(), uuid: *uuid },
        group: group.map(|group| group.name.clone()),
        mac: interface.mac_address(),
        trust_guest_rx_filters: Some(interface.trust_guest_rx_filters.unwrap_or(YesNo::No)),
        plug: network.plug(),
        bandwidth: interface.bandwidth.clone().or(bandwidth),
        vlan: interface.vlan.clone().or(vlan).or_else(|| network.vlan.clone()),
    })
}

/// Whether an interface is in the network by its definition.
pub(crate) fn is_in(interface: &Interface, network: &str) -> bool {
    let source = interface.source.as_ref().and_then(|source| source.network.as_deref());
    interface.kind == InterfaceType::Network && source == Some(network)
}
