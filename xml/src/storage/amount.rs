//! Amounts of storage. libvirt keeps and prints them in bytes.

use crate::cursor::{Cursor, Slot};
use crate::diagnostic::Kind;
use crate::domain::memory::{Unit, read_amount};
use crate::element::{Attribute, Element};
use crate::write::Writer;

/// `<capacity unit='GiB'>10</capacity>`; without a unit it is in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Element for Bytes {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&[Slot::Attribute("unit"), Slot::Text], &[]);
        let number = read_amount(at);
        let unit = <Option<Unit> as Attribute>::read(at, "unit");
        let (number, unit) = (number?, unit?);
        let bytes = number.checked_mul(unit.map_or(1, |unit| unit.bytes));
        if bytes.is_none() {
            let mut report = at.here();
            report.expected = Some("less than 16 EiB".to_owned());
            report.report(Kind::Limit, format!("{number} of these do not fit 64 bits of bytes"));
        }
        bytes.map(Self)
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        tag.attribute("unit", "bytes");
        tag.text(&self.0.to_string());
    }
}
