//! Devices that come and go, or change while they stay.

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::plug::{LETTING_GO, Named};
use crate::domain::{Affects, DomainRef};
use crate::error::Error;
use crate::manager::{Context, Operation};
use crate::translate::{self, device};

/// Which device is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRef {
    /// By alias, by a disk's target, by an interface's MAC address or tap.
    Name(String),
    /// As libvirt XML describes it: a disk by its target, an interface by its MAC address.
    Xml(String),
}

impl DeviceRef {
    fn named(self) -> Result<Named, Error> {
        Ok(match self {
            Self::Name(name) => Named::Name(name),
            Self::Xml(text) => Named::Like(Box::new(device::parse(&text)?.value)),
        })
    }
}

/// Put a disk or an interface into a domain (virDomainAttachDeviceFlags).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachDevice {
    pub domain: DomainRef,
    /// libvirt XML of one device.
    pub xml: String,
    pub affects: Affects,
}

impl Operation for AttachDevice {
    type Output = ();
    const NAME: &'static str = "domain.attach-device";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let device = Box::new(device::parse(&self.xml)?);
        cx.act(&self.domain, Act::Attach(device, self.affects)).await
    }
}

/// Take a device out of a domain (virDomainDetachDeviceFlags). A running guest has to let go of it: it
/// is waited for, but not long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachDevice {
    pub domain: DomainRef,
    pub device: DeviceRef,
    pub affects: Affects,
}

impl Operation for DetachDevice {
    /// Whether it is gone; else the guest was asked, and an event tells.
    type Output = bool;
    const NAME: &'static str = "domain.detach-device";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<bool, Error> {
        let Self { domain, device, affects } = self;
        let named = device.named()?;
        let handle = cx.find(&domain)?;
        let live_alias = || {
            let live = handle.view().live?;
            let def = translate::with_aliases(&live.def);
            let found = named.key(&def)?.find(&def)?;
            found.alias().map(str::to_owned)
        };
        let affects_live = affects.live || !affects.config;
        let alias = live_alias().filter(|_| affects_live);
        let within = cx.deadline() + LETTING_GO;
        handle.act(Act::Detach(named.clone(), affects), within).await?;
        Ok(alias.is_none() || live_alias() != alias)
    }
}

/// Change a device that stays (virDomainUpdateDeviceFlags): the medium of a CD-ROM drive, the link of an
/// interface, anything in the stored definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateDevice {
    pub domain: DomainRef,
    /// libvirt XML of the device as it shall be.
    pub xml: String,
    pub affects: Affects,
}

impl Operation for UpdateDevice {
    type Output = ();
    const NAME: &'static str = "domain.update-device";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let device = Box::new(device::parse(&self.xml)?);
        cx.act(&self.domain, Act::Update(device, self.affects)).await
    }
}
