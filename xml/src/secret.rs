//! `<secret>`: what is known of a secret, without it, by libvirt's secret format.

use uuid::Uuid;

use crate::cursor::Cursor;
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds, Parsed};
use crate::element::{Element, element};
use crate::value::{YesNo, names};
use crate::write::Writer;

names! {
    /// What a secret is for.
    pub enum SecretUsageType {
        Volume = "volume", Ceph = "ceph", Iscsi = "iscsi", Tls = "tls", Vtpm = "vtpm",
    }
}

element! {
    pub struct SecretDef {
        /// Never written to a disk.
        attr ephemeral: Option<YesNo>,
        /// Never told to anybody.
        attr private: Option<YesNo>,
        child uuid: Option<Uuid>,
        child description: Option<String>,
        child usage: Option<SecretUsage>,
    }
}

element! {
    pub struct SecretUsage {
        attr("type") kind: SecretUsageType,
        child volume: Option<String>,
        child name: Option<String>,
        child target: Option<String>,
    }
    check SecretUsage::check;
}

impl SecretUsage {
    /// Which one of its kind it is for; no two secrets have the same.
    pub fn id(&self) -> &str {
        let id = match self.kind {
            SecretUsageType::Volume => &self.volume,
            SecretUsageType::Iscsi => &self.target,
            SecretUsageType::Ceph | SecretUsageType::Tls | SecretUsageType::Vtpm => &self.name,
        };
        id.as_deref().unwrap_or_default()
    }

    fn check(&self, at: Cursor<'_>) {
        let wanted = match self.kind {
            SecretUsageType::Volume => "volume",
            SecretUsageType::Iscsi => "target",
            SecretUsageType::Ceph | SecretUsageType::Tls | SecretUsageType::Vtpm => "name",
        };
        if self.id().is_empty() {
            at.missing_child(wanted);
        }
        for (name, is_there) in [
            ("volume", self.volume.is_some()),
            ("name", self.name.is_some()),
            ("target", self.target.is_some()),
        ] {
            if is_there
                && name != wanted
                && let Some(at) = at.child(name)
            {
                let text =
                    format!("a secret of type='{}' has a <{wanted}>, and no <{name}>", self.kind);
                at.error(Kind::Invalid, text);
            }
        }
    }
}

impl SecretDef {
    /// Read a definition, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "secret", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "secret", Bounds::OWN)
    }

    /// The definition as libvirt prints it.
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        Element::write(self, "secret", &mut out);
        out.finish()
    }

    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral.is_some_and(YesNo::is_yes)
    }

    pub fn is_private(&self) -> bool {
        self.private.is_some_and(YesNo::is_yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_back_as_libvirt_prints_it() {
        let xml = "<secret ephemeral='no' private='yes'>\n  \
                   <uuid>11111111-2222-3333-4444-555555555555</uuid>\n  \
                   <description>of a disk</description>\n  \
                   <usage type='volume'>\n    <volume>/srv/a.img</volume>\n  </usage>\n</secret>\n";
        let def = SecretDef::parse(xml).unwrap().value;
        assert!(def.is_private() && !def.is_ephemeral());
        assert_eq!(def.usage.as_ref().unwrap().id(), "/srv/a.img");
        assert_eq!(def.to_xml(), xml);
    }

    #[test]
    fn a_usage_names_what_it_is_for_and_nothing_else() {
        let wrong = |usage: &str| {
            let text = format!("<secret>{usage}</secret>");
            SecretDef::parse(&text).unwrap_err().to_string()
        };
        assert!(wrong("<usage type='ceph'/>").contains("name"));
        assert!(wrong("<usage type='iscsi'><name>x</name></usage>").contains("target"));
        let both = "<usage type='tls'><name>x</name><volume>y</volume></usage>";
        assert!(wrong(both).contains("and no <volume>"));
        assert!(wrong("<usage type='luks'><name>x</name></usage>").contains("vtpm"));
    }
}
