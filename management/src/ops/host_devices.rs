//! The host's devices and interfaces: looked at, never changed.

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::host_interfaces;
use crate::manager::{Context, Operation};
use crate::node_devices;

pub use crate::host_interfaces::HostInterface;
pub use crate::node_devices::{NodeDevice, NodeDeviceKind};

/// The host's devices (virConnectListAllNodeDevices).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListNodeDevices;

impl Operation for ListNodeDevices {
    type Output = Vec<NodeDevice>;
    const NAME: &'static str = "node.devices";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<NodeDevice>, Error> {
        let sys = cx.node.host.sys();
        blocking(move || Ok(node_devices::read(&sys))).await
    }
}

/// One of the host's devices (virNodeDeviceLookupByName).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeNodeDevice {
    pub name: String,
}

impl Operation for DescribeNodeDevice {
    type Output = NodeDevice;
    const NAME: &'static str = "node.device";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("node device", self.name.as_str().into())
    }

    async fn run(self, cx: &Context) -> Result<NodeDevice, Error> {
        let (name, sys) = (self.name, cx.node.host.sys());
        let missing = Error::new(Code::NotFound, format!("the host has no device {name:?}"));
        blocking(move || node_devices::find(&sys, &name).ok_or(missing)).await
    }
}

/// Have events of the host's devices from now on (virConnectNodeDeviceEventRegisterAny).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchNodeDevices;

impl Operation for WatchNodeDevices {
    type Output = ();
    const NAME: &'static str = "node.watch-devices";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let node = cx.node.clone();
        blocking(move || node.devices.begin()).await
    }
}

/// The host's network interfaces (virConnectListAllInterfaces).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListHostInterfaces;

impl Operation for ListHostInterfaces {
    type Output = Vec<HostInterface>;
    const NAME: &'static str = "node.interfaces";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<HostInterface>, Error> {
        let host = cx.node.host.clone();
        blocking(move || Ok(host_interfaces::read(&host))).await
    }
}
