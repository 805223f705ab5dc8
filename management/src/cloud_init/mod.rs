//! What a guest's cloud-init reads at its first boot, as a NoCloud seed: a CD-ROM labelled `cidata`.
//!
//! ```text
//! documents ─check→ CloudInit ─seed→ Seed (image) ─Seeds::put→ file ─definition names it→ guest
//! ```
//! A seed lies beside the domain's state under its UUID, and goes when no definition of the domain
//! names it any more.

mod iso9660;
mod seeds;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use uuid::Uuid;

pub(crate) use seeds::{Seeds, file_name};

use crate::error::{Code, Error};
use iso9660::File;

const LABEL: &str = "cidata";
/// Of one document. What is larger is fetched by the guest (`#include`).
const MOST_DOCUMENT: usize = 1 << 20;
/// Of a host name (RFC 1123).
const LONGEST_HOSTNAME: usize = 63;

/// How user-data that cloud-init understands begins.
const HEADERS: [&str; 8] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "Content-Type: multipart/",
    "MIME-Version:",
];

/// The documents, as a user gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudInit {
    pub user_data: String,
    /// Instance id and host name are told if this does not.
    pub meta_data: Option<String>,
    pub network_config: Option<String>,
}

/// The image for one domain.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seed(Arc<[u8]>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds passwords.
        write!(f, "Seed({} bytes)", self.0.len())
    }
}

impl CloudInit {
    /// The documents are of the kinds they are given as: a mistake found here costs no boot.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let documents = [
            ("user-data", Some(&self.user_data)),
            ("meta-data", self.meta_data.as_ref()),
            ("network-config", self.network_config.as_ref()),
        ];
        for (name, text) in documents {
            let len = text.map_or(0, String::len);
            if len > MOST_DOCUMENT {
                return Err(refused(
                    name,
                    &format!("has {len} bytes, and at most {MOST_DOCUMENT} are taken"),
                ));
            }
        }
        if !HEADERS.iter().any(|header| begins(&self.user_data, header)) {
            let first: String =
                self.user_data.lines().next().unwrap_or_default().chars().take(40).collect();
            let text = format!(
                "begins with {first:?}, and cloud-init knows what is in it by its first line: \
                 #cloud-config for YAML, #! for a script, #include for a list of URLs"
            );
            return Err(refused("user-data", &text));
        }
        if let Some(network) = &self.network_config
            && !network.trim_start().starts_with('{')
            && !has_key(network, "version")
            && !has_key(network, "network")
        {
            let text = "has neither 'version:' nor 'network:' at the begin of a line";
            return Err(refused("network-config", text));
        }
        Ok(())
    }

    pub(crate) fn seed(&self, uuid: Uuid, name: &str) -> Seed {
        let meta_data = self.meta_data(uuid, name);
        let file = |name, short, data| File { name, short, data };
        let mut files = vec![
            file("user-data", "USER_DAT", self.user_data.as_bytes()),
            file("meta-data", "META_DAT", meta_data.as_bytes()),
        ];
        if let Some(network) = &self.network_config {
            files.push(file("network-config", "NETWORK_", network.as_bytes()));
        }
        Seed(iso9660::image(LABEL, &files).into())
    }

    /// cloud-init does its work once for each instance id, so that there must be one.
    fn meta_data(&self, uuid: Uuid, name: &str) -> String {
        let given = self.meta_data.as_deref().unwrap_or_default();
        if given.trim_start().starts_with('{') {
            // JSON: nothing can be put before it.
            return given.to_owned();
        }
        let mut text = String::new();
        if !has_key(given, "instance-id") {
            text.push_str(&format!("instance-id: {uuid}\n"));
        }
        if !has_key(given, "local-hostname")
            && !has_key(given, "hostname")
            && let Some(host) = hostname(name)
        {
            text.push_str(&format!("local-hostname: {host}\n"));
        }
        text.push_str(given);
        text
    }
}

fn refused(document: &str, reason: &str) -> Error {
    Error::new(Code::InvalidArgument, format!("the {document} for cloud-init {reason}"))
}

fn begins(text: &str, header: &str) -> bool {
    text.get(..header.len()).is_some_and(|start| start.eq_ignore_ascii_case(header))
}

/// At the outermost level of a YAML document.
fn has_key(yaml: &str, key: &str) -> bool {
    yaml.lines().any(|line| {
        let line = line.trim_start_matches(['"', '\'']);
        let rest = line.strip_prefix(key).map(|rest| rest.trim_start_matches(['"', '\'', ' ']));
        rest.is_some_and(|rest| rest.starts_with(':'))
    })
}

/// The name of a domain as far as it can name a host.
fn hostname(name: &str) -> Option<String> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let text: String = name.chars().map(allowed).take(LONGEST_HOSTNAME).collect();
    let text = text.trim_matches(['-', '.']);
    // YAML would read digits alone as a number, and cloud-init wants text.
    (!text.is_empty()).then(|| format!("\"{text}\""))
}
