//! Virtual networks.

use management::network::{NetworkRef, NetworkView};
use management::ops::{
    ChangeNetwork, CreateNetwork, DefineNetwork, DescribeNetwork, DumpNetworkXml, ListNetworks,
    NetworkAction, NetworkLeases, UpdateNetwork,
};
use uuid::Uuid;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Network;
use super::guest::family;
use super::{Client, LIST_FLAGS, affects, count, is_wanted, listed, names};

const AREA: Area = Area::Network;

async fn all(client: &Client) -> Result<Vec<NetworkView>, Failure> {
    client.ask(AREA, ListNetworks).await
}

pub(crate) async fn list_all(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<Network>, u32), Failure> {
    known_flags(flags, LIST_FLAGS, "virConnectListAllNetworks")?;
    let mut all = all(&client).await?;
    all.retain(|network| is_wanted(flags, network.active, network.persistent, network.autostart));
    Ok(listed(all.iter().map(Network::from).collect(), wanted))
}

pub(crate) async fn active_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(all(&client).await?.iter().filter(|network| network.active).count()))
}

pub(crate) async fn inactive_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(all(&client).await?.iter().filter(|network| !network.active).count()))
}

pub(crate) async fn active_names(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = all(&client).await?.into_iter().filter(|network| network.active);
    Ok(names(all.map(|network| network.name), room))
}

pub(crate) async fn inactive_names(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = all(&client).await?.into_iter().filter(|network| !network.active);
    Ok(names(all.map(|network| network.name), room))
}

async fn view(client: &Client, network: NetworkRef) -> Result<NetworkView, Failure> {
    client.ask(AREA, DescribeNetwork { network }).await
}

pub(crate) async fn by_name(client: Client, name: String) -> Result<Network, Failure> {
    Ok(Network::from(&view(&client, name.as_str().into()).await?))
}

pub(crate) async fn by_uuid(client: Client, uuid: Uuid) -> Result<Network, Failure> {
    Ok(Network::from(&view(&client, uuid.into()).await?))
}

pub(crate) async fn define(client: Client, xml: String) -> Result<Network, Failure> {
    Ok(Network::from(&client.ask(AREA, DefineNetwork { xml }).await?))
}

pub(crate) async fn define_flags(
    client: Client,
    (xml, flags): (String, u32),
) -> Result<Network, Failure> {
    const VALIDATE: u32 = 1;
    known_flags(flags, VALIDATE, "virNetworkDefineXMLFlags")?;
    define(client, xml).await
}

pub(crate) async fn create_xml(client: Client, xml: String) -> Result<Network, Failure> {
    Ok(Network::from(&client.ask(AREA, CreateNetwork { xml }).await?))
}

pub(crate) async fn create_xml_flags(
    client: Client,
    (xml, flags): (String, u32),
) -> Result<Network, Failure> {
    const VALIDATE: u32 = 1;
    known_flags(flags, VALIDATE, "virNetworkCreateXMLFlags")?;
    create_xml(client, xml).await
}

async fn change(client: &Client, network: &Network, action: NetworkAction) -> Result<(), Failure> {
    client.ask(AREA, ChangeNetwork { network: network.reference(), action }).await
}

pub(crate) async fn create(client: Client, network: Network) -> Result<(), Failure> {
    change(&client, &network, NetworkAction::Start).await
}

pub(crate) async fn destroy(client: Client, network: Network) -> Result<(), Failure> {
    change(&client, &network, NetworkAction::Stop).await
}

pub(crate) async fn undefine(client: Client, network: Network) -> Result<(), Failure> {
    change(&client, &network, NetworkAction::Undefine).await
}

pub(crate) async fn set_autostart(
    client: Client,
    (network, autostart): (Network, i32),
) -> Result<(), Failure> {
    change(&client, &network, NetworkAction::SetAutostart(autostart != 0)).await
}

pub(crate) async fn xml(
    client: Client,
    (network, flags): (Network, u32),
) -> Result<String, Failure> {
    const INACTIVE: u32 = 1;
    known_flags(flags, INACTIVE, "virNetworkGetXMLDesc")?;
    let inactive = flags & INACTIVE != 0;
    client.ask(AREA, DumpNetworkXml { network: network.reference(), inactive }).await
}

pub(crate) async fn autostart(client: Client, network: Network) -> Result<bool, Failure> {
    Ok(view(&client, network.reference()).await?.autostart)
}

pub(crate) async fn bridge_name(client: Client, network: Network) -> Result<String, Failure> {
    let view = view(&client, network.reference()).await?;
    view.bridge.ok_or_else(|| {
        Failure::invalid_state(AREA, &format!("network {:?} has no bridge", view.name))
    })
}

pub(crate) async fn is_active(client: Client, network: Network) -> Result<bool, Failure> {
    Ok(view(&client, network.reference()).await?.active)
}

pub(crate) async fn is_persistent(client: Client, network: Network) -> Result<bool, Failure> {
    Ok(view(&client, network.reference()).await?.persistent)
}

/// Clients that know feature 16 send command and section in this order.
pub(crate) async fn update(
    client: Client,
    (network, command, section, index, xml, flags): (Network, u32, u32, i32, String, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virNetworkUpdate")?;
    let command = match command {
        1 => "modify",
        2 => "delete",
        3 => "add-last",
        4 => "add-first",
        other => {
            return Err(Failure::invalid_argument(AREA, &format!("there is no command {other}")));
        }
    };
    let section = match section {
        4 => "ip-dhcp-host",
        5 => "ip-dhcp-range",
        9 => "portgroup",
        10 => "dns-host",
        11 => "dns-txt",
        12 => "dns-srv",
        other => {
            let names =
                ["bridge", "domain", "ip", "", "", "forward", "forward-interface", "forward-pf"];
            let at = other.checked_sub(1).and_then(|at| names.get(at as usize)).unwrap_or(&"");
            let text = format!(
                "section {other} ({at}) of a network is not changed by itself; define the network anew"
            );
            return Err(Failure::unsupported(AREA, &text));
        }
    };
    let update = UpdateNetwork {
        network: network.reference(),
        command: command.to_owned(),
        section: section.to_owned(),
        index: usize::try_from(index).ok(),
        xml,
        affects,
    };
    client.ask(AREA, update).await
}

type Text = Option<String>;
/// Interface, when it ends, address family, MAC address, IAID, address, prefix, host name, client id.
type Lease = (String, i64, i32, Text, Text, String, u32, Text, Text);

pub(crate) async fn leases(
    client: Client,
    (network, mac, wanted, flags): (Network, Text, i32, u32),
) -> Result<(Vec<Lease>, u32), Failure> {
    known_flags(flags, 0, "virNetworkGetDHCPLeases")?;
    let bridge = view(&client, network.reference()).await?.bridge.unwrap_or_default();
    let leases = client.ask(AREA, NetworkLeases { network: network.reference(), mac }).await?;
    let row = |lease: management::network::LeaseView| -> Lease {
        let expires = lease.expires.map_or(0, |at| i64::try_from(at).unwrap_or(i64::MAX));
        (
            bridge.clone(),
            expires,
            family(lease.address),
            Some(lease.mac),
            None,
            lease.address.to_string(),
            u32::from(lease.prefix),
            lease.hostname,
            lease.client_id,
        )
    };
    Ok(listed(leases.into_iter().map(row).collect(), wanted))
}
