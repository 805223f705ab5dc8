//! Operations on virtual networks.

use xml::network::{UpdateCommand, UpdateError, UpdateSection};
use xml::{MacAddress, NetworkDef};

use crate::auth::{Access, Defines, Subject};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::network::{LeaseView, NetworkRef, NetworkView, seconds_now};
use crate::translate::invalid;

/// Store the definition of a network (virNetworkDefineXML).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineNetwork {
    /// libvirt network XML.
    pub xml: String,
}

impl Operation for DefineNetwork {
    type Output = NetworkView;
    const NAME: &'static str = "network.define";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        defined(&self.xml)
    }

    async fn run(self, cx: &Context) -> Result<NetworkView, Error> {
        let mut def = read(&self.xml)?;
        let network = cx.node.networks.claim(&mut def)?;
        network.run(|state| state.define(def)).await?;
        Ok(network.now().view.clone())
    }
}

/// Start a network without storing its definition (virNetworkCreateXML).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetwork {
    pub xml: String,
}

impl Operation for CreateNetwork {
    type Output = NetworkView;
    const NAME: &'static str = "network.create";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        defined(&self.xml)
    }

    async fn run(self, cx: &Context) -> Result<NetworkView, Error> {
        let mut def = read(&self.xml)?;
        let network = cx.node.networks.claim(&mut def)?;
        let view = network.now().view.clone();
        if view.persistent || view.active {
            let text = format!("there is a network {:?} already", view.name);
            return Err(Error::new(Code::Exists, text));
        }
        network.run(|state| state.start(Vec::new())).await?;
        Ok(network.now().view.clone())
    }
}

fn about(network: &NetworkRef) -> Subject<'_> {
    Subject::Other("network", network.0.as_str().into())
}

fn defined(xml: &str) -> Subject<'_> {
    Subject::Definition(Defines::Network, xml)
}

fn read(text: &str) -> Result<NetworkDef, Error> {
    let mut def = NetworkDef::parse(text).map_err(invalid)?.value;
    def.fill_defaults(&mut crate::translate::NewIds);
    Ok(def)
}

/// All networks, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListNetworks;

impl Operation for ListNetworks {
    type Output = Vec<NetworkView>;
    const NAME: &'static str = "network.list";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<NetworkView>, Error> {
        Ok(cx.node.networks.views())
    }
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeNetwork {
    pub network: NetworkRef,
}

impl Operation for DescribeNetwork {
    type Output = NetworkView;
    const NAME: &'static str = "network.describe";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.network)
    }

    async fn run(self, cx: &Context) -> Result<NetworkView, Error> {
        let networks = &cx.node.networks;
        Ok(networks.view(&*networks.find(&self.network)?))
    }
}

/// The definition as XML (virNetworkGetXMLDesc): of the active network, or what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpNetworkXml {
    pub network: NetworkRef,
    pub inactive: bool,
}

impl Operation for DumpNetworkXml {
    type Output = String;
    const NAME: &'static str = "network.dump-xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.network)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let now = cx.node.networks.find(&self.network)?.now();
        if self.inactive {
            let name = &now.view.name;
            let none = || {
                let text = format!("network {name:?} is transient: it has no definition");
                Error::new(Code::InvalidState, text)
            };
            return now.stored.clone().ok_or_else(none);
        }
        let mut def = now.def.clone();
        if now.view.active {
            let connections = cx.node.interfaces_of(&now.view.name).len();
            def.connections = u32::try_from(connections).ok().filter(|count| *count > 0);
        }
        Ok(def.to_xml())
    }
}

/// The addresses that guests have by DHCP (virNetworkGetDHCPLeases).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLeases {
    pub network: NetworkRef,
    /// Of this interface alone.
    pub mac: Option<String>,
}

impl Operation for NetworkLeases {
    type Output = Vec<LeaseView>;
    const NAME: &'static str = "network.leases";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.network)
    }

    async fn run(self, cx: &Context) -> Result<Vec<LeaseView>, Error> {
        let network = cx.node.networks.find(&self.network)?;
        let mac = self.mac.map(|mac| mac.parse::<MacAddress>()).transpose();
        let mac = mac.map_err(|error| Error::new(Code::InvalidArgument, error.to_string()))?;
        let mac = mac.map(|mac| mac.to_string());
        let now = seconds_now();
        let mut leases = network.run(move |state| state.leases(now)).await?;
        leases.retain(|lease| mac.as_ref().is_none_or(|mac| lease.mac == *mac));
        Ok(leases)
    }
}

/// What is done to a network as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAction {
    Start,
    /// virNetworkDestroy: its guests keep their interfaces, and reach nobody until it starts again.
    Stop,
    Undefine,
    SetAutostart(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeNetwork {
    pub network: NetworkRef,
    pub action: NetworkAction,
}

impl Operation for ChangeNetwork {
    type Output = ();
    const NAME: &'static str = "network.change";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.network)
    }

    fn detail(&self) -> &'static str {
        match self.action {
            NetworkAction::Start => "start",
            NetworkAction::Stop => "stop",
            NetworkAction::Undefine => "undefine",
            NetworkAction::SetAutostart(true) => "autostart",
            NetworkAction::SetAutostart(false) => "no autostart",
        }
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let network = cx.node.networks.find(&self.network)?;
        let action = self.action;
        let node = &cx.node;
        let name = network.now().view.name.clone();
        let taps = node.interfaces_of(&name);
        network
            .run(move |state| match action {
                NetworkAction::Start => state.start(taps),
                NetworkAction::Stop => state.stop(),
                NetworkAction::Undefine => state.undefine(),
                NetworkAction::SetAutostart(autostart) => state.set_autostart(autostart),
            })
            .await
    }
}

/// Change one entry of a network (virNetworkUpdate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateNetwork {
    pub network: NetworkRef,
    /// `add`, `add-first`, `add-last`, `modify` or `delete`.
    pub command: String,
    /// `ip-dhcp-host`, `ip-dhcp-range`, `dns-host`, `dns-txt`, `dns-srv`, `portgroup`,
    /// `port-forward` or `bandwidth`.
    pub section: String,
    /// Which `<ip>`, from 0; none: the one in which addresses are given out.
    pub index: Option<usize>,
    /// The entry, as libvirt XML.
    pub xml: String,
    pub affects: Affects,
}

impl Operation for UpdateNetwork {
    type Output = ();
    const NAME: &'static str = "network.update";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.network)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let network = cx.node.networks.find(&self.network)?;
        let unknown = |what: &str, name: &str, names: &[&str]| {
            let text = format!("there is no {what} {name:?}; there are {}", names.join(", "));
            Error::new(Code::InvalidArgument, text)
        };
        let command = UpdateCommand::from_name(&self.command)
            .ok_or_else(|| unknown("command", &self.command, UpdateCommand::NAMES))?;
        let section = UpdateSection::from_name(&self.section)
            .ok_or_else(|| unknown("section", &self.section, UpdateSection::NAMES))?;
        let (index, xml) = (self.index, self.xml);
        let change = move |def: &NetworkDef| {
            def.update(command, section, index, &xml).map_err(|error| match error {
                UpdateError::Invalid(error) => invalid(error),
                UpdateError::Refused(text) => Error::new(Code::InvalidArgument, text),
            })
        };
        let affects = self.affects;
        network.run(move |state| state.update(change, affects)).await
    }
}
