//! Names of hosts as DNS has them: labels of letters, digits and hyphens (RFC 1123 §2.1), lower case,
//! without a dot at the end.

use std::collections::BTreeSet;

use crate::config::Settings;

/// Names that make other guests trust whoever bears them (RFC 6761 §6.3; CERT VU#598349).
const UNCLAIMABLE: [&str; 3] = ["localhost", "wpad", "isatap"];

/// Octets in a label, and in a name as text (RFC 1035 §2.3.4; a name of 255 octets on the wire has
/// 253 characters).
pub(crate) const MAX_LABEL: usize = 63;
pub(crate) const MAX_NAME: usize = 253;

/// The label that a client's idea of its own name comes down to, if anything is left of it.
pub(crate) fn sanitised(name: &[u8]) -> Option<String> {
    let first = name.split(|byte| matches!(byte, b'.' | 0)).next()?;
    let mut label: String = first
        .iter()
        .filter_map(|byte| match byte {
            b'_' | b' ' => Some('-'),
            b'-' => Some('-'),
            byte if byte.is_ascii_alphanumeric() => Some(char::from(byte.to_ascii_lowercase())),
            _ => None,
        })
        .skip_while(|letter| *letter == '-')
        .take(MAX_LABEL)
        .collect();
    label.truncate(label.trim_end_matches('-').len());
    (!label.is_empty()).then_some(label)
}

/// A configured name in the form that names are compared in.
pub(crate) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether `name` can be asked for. Underscores pass: the names of services begin with them.
pub(crate) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= MAX_NAME
        && name.split('.').all(|label| {
            (1..=MAX_LABEL).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}

/// Whether `name` is one label.
pub(crate) fn is_label(name: &str) -> bool {
    is_name(name) && !name.contains('.')
}

/// Whether no guest may call itself so.
pub(crate) fn is_unclaimable(label: &str) -> bool {
    UNCLAIMABLE.contains(&label)
}

/// Names that the configuration gives, those in the network's domain as their labels alone.
pub(crate) fn configured(settings: &Settings) -> BTreeSet<String> {
    let domain = settings.domain.as_ref().map(|domain| canonical(&domain.name));
    let hosts = settings.dns.hosts.iter().flat_map(|host| &host.names);
    let all = hosts.chain(&settings.dns.gateway_names).map(|name| canonical(name));
    all.map(|name| match domain.as_deref().and_then(|domain| below(&name, domain)) {
        Some(bare) => bare.to_owned(),
        None => name,
    })
    .collect()
}

/// What stands before `.domain` in `name`; both canonical.
pub(crate) fn below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    name.strip_suffix(domain)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_becomes_one_label() {
        assert_eq!(sanitised(b"Web_Server.example.org").as_deref(), Some("web-server"));
        assert_eq!(sanitised(b"--a\xffb--").as_deref(), Some("ab"));
        assert_eq!(sanitised(b"plain\0\0").as_deref(), Some("plain"));
        assert_eq!(sanitised(b"...").as_deref(), None);
        assert_eq!(sanitised(&[b'x'; 300]).unwrap().len(), 63);
        let mut edge = vec![b'x'; 62];
        edge.extend(b"--y");
        assert!(is_label(&sanitised(&edge).unwrap()));
    }

    #[test]
    fn configured_names_are_checked_not_mended() {
        assert!(is_name("_http._tcp.example.org."));
        assert!(!is_name("a..b"));
        assert!(!is_name(""));
        assert!(!is_name("-a.b"));
        assert!(!is_name(&"a.".repeat(200)));
        assert!(!is_label("a.b"));
    }

    #[test]
    fn below_a_domain_ends_at_a_dot() {
        assert_eq!(below("web.lab", "lab"), Some("web"));
        assert_eq!(below("weblab", "lab"), None);
        assert_eq!(below("lab", "lab"), None);
    }
}
