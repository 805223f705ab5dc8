//! Interfaces of guests as ports of their networks.

use management::ops::{DumpNetworkPortXml, ListNetworkPorts};
use uuid::Uuid;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::{Network, NetworkPort};
use super::{Client, listed};

const AREA: Area = Area::Network;

pub(crate) async fn list(
    client: Client,
    (network, wanted, flags): (Network, i32, u32),
) -> Result<(Vec<NetworkPort>, u32), Failure> {
    known_flags(flags, 0, "virNetworkListAllPorts")?;
    let ports = client.ask(AREA, ListNetworkPorts { network: network.reference() }).await?;
    let port = |uuid| NetworkPort { network: network.clone(), uuid };
    Ok(listed(ports.into_iter().map(|found| port(found.uuid)).collect(), wanted))
}

pub(crate) async fn by_uuid(
    client: Client,
    (network, port): (Network, Uuid),
) -> Result<NetworkPort, Failure> {
    // It is not found here, or not at all.
    client.ask(AREA, DumpNetworkPortXml { network: network.reference(), port }).await?;
    Ok(NetworkPort { network, uuid: port })
}

pub(crate) async fn xml(
    client: Client,
    (port, flags): (NetworkPort, u32),
) -> Result<String, Failure> {
    known_flags(flags, 0, "virNetworkPortGetXMLDesc")?;
    let NetworkPort { network, uuid } = port;
    client.ask(AREA, DumpNetworkPortXml { network: network.reference(), port: uuid }).await
}
