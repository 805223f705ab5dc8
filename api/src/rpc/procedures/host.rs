//! The host's devices and interfaces.

use management::ops::{
    DescribeNodeDevice, HostInterface, ListHostInterfaces, ListNodeDevices, NodeDevice,
    NodeDeviceKind,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object;
use super::{Client, count, either, listed, names};

async fn devices(client: &Client) -> Result<Vec<NodeDevice>, Failure> {
    client.ask(Area::NodeDevice, ListNodeDevices).await
}

async fn device(client: &Client, name: String) -> Result<NodeDevice, Failure> {
    client.ask(Area::NodeDevice, DescribeNodeDevice { name }).await
}

async fn of_kind(client: &Client, kind: Option<&str>) -> Result<Vec<NodeDevice>, Failure> {
    let mut all = devices(client).await?;
    all.retain(|device| kind.is_none_or(|kind| kind == device.kind.name()));
    Ok(all)
}

pub(crate) async fn device_count(
    client: Client,
    (kind, flags): (Option<String>, u32),
) -> Result<i32, Failure> {
    known_flags(flags, 0, "virNodeNumOfDevices")?;
    Ok(count(of_kind(&client, kind.as_deref()).await?.len()))
}

pub(crate) async fn device_names(
    client: Client,
    (kind, room, flags): (Option<String>, i32, u32),
) -> Result<Vec<String>, Failure> {
    known_flags(flags, 0, "virNodeListDevices")?;
    let all = of_kind(&client, kind.as_deref()).await?;
    Ok(names(all.into_iter().map(|device| device.name), room))
}

/// virConnectListAllNodeDeviceFlags, of the kinds that there are.
fn bit(kind: NodeDeviceKind) -> u32 {
    match kind {
        NodeDeviceKind::System => 1,
        NodeDeviceKind::Pci => 1 << 1,
        NodeDeviceKind::Usb => 1 << 2,
        NodeDeviceKind::Net => 1 << 4,
        NodeDeviceKind::ScsiHost => 1 << 5,
        NodeDeviceKind::ScsiTarget => 1 << 6,
        NodeDeviceKind::Scsi => 1 << 7,
        NodeDeviceKind::Storage => 1 << 8,
        NodeDeviceKind::Drm => 1 << 12,
    }
}

pub(crate) async fn all_devices(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<object::NodeDevice>, u32), Failure> {
    const KINDS: u32 = (1 << 22) - 1;
    const INACTIVE: u32 = 1 << 30;
    const ACTIVE: u32 = 1 << 31;
    known_flags(flags, KINDS | INACTIVE | ACTIVE, "virConnectListAllNodeDevices")?;
    let is_wanted = |device: &NodeDevice| {
        let of_kind = flags & KINDS == 0 || flags & bit(device.kind) != 0;
        of_kind && either(flags, ACTIVE, INACTIVE, true)
    };
    let all = devices(&client).await?.into_iter().filter(is_wanted);
    Ok(listed(all.map(|device| object::NodeDevice { name: device.name }).collect(), wanted))
}

pub(crate) async fn device_by_name(
    client: Client,
    name: String,
) -> Result<object::NodeDevice, Failure> {
    Ok(object::NodeDevice { name: device(&client, name).await?.name })
}

pub(crate) async fn device_xml(
    client: Client,
    (name, flags): (String, u32),
) -> Result<String, Failure> {
    known_flags(flags, 0, "virNodeDeviceGetXMLDesc")?;
    Ok(device(&client, name).await?.xml)
}

pub(crate) async fn device_parent(client: Client, name: String) -> Result<Option<String>, Failure> {
    Ok(device(&client, name).await?.parent)
}

pub(crate) async fn device_kind_count(client: Client, name: String) -> Result<i32, Failure> {
    device(&client, name).await?;
    Ok(1)
}

pub(crate) async fn device_kinds(
    client: Client,
    (name, room): (String, i32),
) -> Result<Vec<String>, Failure> {
    let kind = device(&client, name).await?.kind.name().to_owned();
    Ok(names([kind].into_iter(), room))
}

/// What is there is in use by the host, and nobody defined it.
pub(crate) async fn device_is_active(client: Client, name: String) -> Result<bool, Failure> {
    device(&client, name).await?;
    Ok(true)
}

pub(crate) async fn device_is_persistent(client: Client, name: String) -> Result<bool, Failure> {
    device(&client, name).await?;
    Ok(false)
}

/// They are there as long as they are there.
pub(crate) async fn device_autostart(client: Client, name: String) -> Result<bool, Failure> {
    device(&client, name).await?;
    Ok(false)
}

async fn interfaces(client: &Client) -> Result<Vec<HostInterface>, Failure> {
    client.ask(Area::Interface, ListHostInterfaces).await
}

async fn interface(
    client: &Client,
    what: &str,
    is: impl Fn(&HostInterface) -> bool,
) -> Result<HostInterface, Failure> {
    let found = interfaces(client).await?.into_iter().find(is);
    found.ok_or_else(|| {
        Failure::not_found(Area::Interface, &format!("the host has no interface {what:?}"))
    })
}

impl From<HostInterface> for object::Interface {
    fn from(interface: HostInterface) -> Self {
        Self { name: interface.name, mac: interface.mac }
    }
}

async fn with_state(client: &Client, active: bool) -> Result<Vec<HostInterface>, Failure> {
    let mut all = interfaces(client).await?;
    all.retain(|interface| interface.active == active);
    Ok(all)
}

pub(crate) async fn active_interface_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(with_state(&client, true).await?.len()))
}

pub(crate) async fn inactive_interface_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(with_state(&client, false).await?.len()))
}

pub(crate) async fn active_interface_names(
    client: Client,
    room: i32,
) -> Result<Vec<String>, Failure> {
    let all = with_state(&client, true).await?;
    Ok(names(all.into_iter().map(|interface| interface.name), room))
}

pub(crate) async fn inactive_interface_names(
    client: Client,
    room: i32,
) -> Result<Vec<String>, Failure> {
    let all = with_state(&client, false).await?;
    Ok(names(all.into_iter().map(|interface| interface.name), room))
}

pub(crate) async fn all_interfaces(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<object::Interface>, u32), Failure> {
    const INACTIVE: u32 = 1;
    const ACTIVE: u32 = 2;
    known_flags(flags, INACTIVE | ACTIVE, "virConnectListAllInterfaces")?;
    let all = interfaces(&client).await?.into_iter();
    let all = all.filter(|interface| either(flags, ACTIVE, INACTIVE, interface.active));
    Ok(listed(all.map(Into::into).collect(), wanted))
}

pub(crate) async fn interface_by_name(
    client: Client,
    name: String,
) -> Result<object::Interface, Failure> {
    Ok(interface(&client, &name, |interface| interface.name == name).await?.into())
}

pub(crate) async fn interface_by_mac(
    client: Client,
    mac: String,
) -> Result<object::Interface, Failure> {
    Ok(interface(&client, &mac, |interface| interface.mac.eq_ignore_ascii_case(&mac)).await?.into())
}

pub(crate) async fn interface_xml(
    client: Client,
    (named, flags): (object::Interface, u32),
) -> Result<String, Failure> {
    const INACTIVE: u32 = 1;
    known_flags(flags, INACTIVE, "virInterfaceGetXMLDesc")?;
    Ok(interface(&client, &named.name, |interface| interface.name == named.name).await?.xml)
}

pub(crate) async fn interface_is_active(
    client: Client,
    named: object::Interface,
) -> Result<bool, Failure> {
    Ok(interface(&client, &named.name, |interface| interface.name == named.name).await?.active)
}
