//! `<dns>`: names that a network's guests can ask for, and who is asked for others.

use std::net::IpAddr;

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::element;
use crate::report::quote;
use crate::value::YesNo;

element! {
    #[derive(Default)]
    pub struct Dns {
        attr enable: Option<YesNo>,
        /// Names without a dot are asked of others too.
        attr("forwardPlainNames") forward_plain_names: Option<YesNo>,
        child("forwarder") forwarders: Vec<Forwarder>,
        child("txt") texts: Vec<DnsTxt>,
        child("srv") services: Vec<DnsSrv>,
        child("host") hosts: Vec<DnsHost>,
    }
}

element! {
    /// With a domain alone, its names are asked of nobody.
    pub struct Forwarder {
        attr domain: Option<String>,
        attr("addr") address: Option<IpAddr>,
    }
    check Forwarder::check;
}

element! {
    pub struct DnsTxt {
        attr name: String,
        attr value: Option<String>,
    }
    check DnsTxt::check;
}

element! {
    pub struct DnsSrv {
        attr service: String,
        attr protocol: String,
        attr domain: Option<String>,
        attr target: Option<String>,
        attr port: Option<u16>,
        attr priority: Option<u16>,
        attr weight: Option<u16>,
    }
    check DnsSrv::check;
}

element! {
    pub struct DnsHost {
        attr("ip") address: IpAddr,
        child("hostname") names: Vec<String>,
    }
    check DnsHost::check;
}

/// The rule of RFC 1123, with the underscore that services are written with.
pub(super) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.strip_suffix('.').unwrap_or(name).split('.').all(label)
}

pub(super) fn check_name(name: &str, attribute: &str, at: Cursor<'_>) {
    if !is_name(name) {
        let message = format!("{} is no name in DNS", quote(name));
        at.attribute_error(attribute, Kind::Invalid, message);
    }
}

impl Forwarder {
    fn check(&self, at: Cursor<'_>) {
        if self.domain.is_none() && self.address.is_none() {
            at.error(Kind::Missing, "<forwarder> needs addr='…', domain='…' or both".to_owned());
        }
        if let Some(domain) = &self.domain {
            check_name(domain, "domain", at);
        }
    }
}

impl DnsTxt {
    fn check(&self, at: Cursor<'_>) {
        check_name(&self.name, "name", at);
        if self.value.as_ref().is_some_and(|value| value.len() > 4096) {
            at.attribute_error("value", Kind::Limit, "a text has 4096 bytes at most".to_owned());
        }
    }
}

impl DnsSrv {
    fn check(&self, at: Cursor<'_>) {
        if !matches!(self.protocol.as_str(), "tcp" | "udp") {
            let message = format!("{} is neither tcp nor udp", quote(&self.protocol));
            at.attribute_error("protocol", Kind::Invalid, message);
        }
        check_name(&self.service, "service", at);
        for (name, value) in [("domain", &self.domain), ("target", &self.target)] {
            if let Some(value) = value.as_ref().filter(|value| *value != ".") {
                check_name(value, name, at);
            }
        }
        if self.target.is_some() && self.port.is_none() {
            at.missing_attribute("port");
        }
    }
}

impl DnsHost {
    fn check(&self, at: Cursor<'_>) {
        if self.names.is_empty() {
            at.missing_child("hostname");
        }
        for (name, child) in self.names.iter().zip(at.children("hostname")) {
            if !is_name(name) {
                child.error(Kind::Invalid, format!("{} is no name in DNS", quote(name)));
            }
        }
    }
}
