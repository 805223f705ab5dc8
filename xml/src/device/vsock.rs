//! `<vsock>`: sockets between guest and host.

use crate::cursor::Cursor;
use crate::device::address::DeviceAddress;
use crate::device::{VirtioDriver, VirtioModel};
use crate::diagnostic::Kind;
use crate::element::element;
use crate::value::YesNo;

element! {
    pub struct Vsock {
        attr model: Option<VirtioModel>,
        child cid: Option<Cid>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
        child driver: Option<VirtioDriver>,
    }
}

element! {
    #[derive(Copy, Default)]
    pub struct Cid {
        attr auto: Option<YesNo>,
        attr address: Option<u32>,
    }
    check Cid::check;
}

impl Cid {
    /// 0 to 2 are the hypervisor, loopback and the host.
    fn check(&self, at: Cursor<'_>) {
        if self.address.is_some_and(|cid| cid < 3 || cid == u32::MAX) {
            at.attribute_error(
                "address",
                Kind::Limit,
                "a guest's CID is from 3 to 4294967294".to_owned(),
            );
        }
    }
}
