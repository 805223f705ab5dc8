//! Where a daemon is: connection URIs, libvirt's among them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What listens where nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/manor/api.sock";
pub const READ_ONLY_SOCKET: &str = "/run/manor/api-ro.sock";
/// Beside libvirt's, which is 16514.
const TLS_PORT: u16 = 16515;

/// An address of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`
    Tcp(String),
    /// `host:port`
    Tls(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} is no way to reach Manor: {why}")]
pub struct BadUri {
    uri: String,
    why: &'static str,
}

impl FromStr for Endpoint {
    type Err = BadUri;

    fn from_str(uri: &str) -> Result<Self, BadUri> {
        let bad = |why| BadUri { uri: uri.to_owned(), why };
        if uri.starts_with('/') {
            return Ok(Self::Unix(uri.into()));
        }
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(bad("give a socket's path, https://HOST:PORT or qemu:///system"));
        };
        match scheme {
            "unix" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(bad("the path of a socket begins with a slash"));
                }
                Ok(Self::Unix(path.into()))
            }
            "http" => address(rest, 80).map(Self::Tcp).ok_or(bad("write http://HOST:PORT")),
            "https" => address(rest, TLS_PORT).map(Self::Tls).ok_or(bad("write https://HOST:PORT")),
            "manor" | "qemu" | "manor+unix" | "qemu+unix" => libvirt(rest).map_err(bad),
            _ if scheme.contains('+') => Err(bad("of libvirt's transports only unix is provided")),
            _ => Err(bad("only qemu and manor domains live here")),
        }
    }
}

/// `//HOST:PORT`, or with this port where there is none.
fn address(rest: &str, port: u16) -> Option<String> {
    let address = rest.strip_prefix("//").unwrap_or(rest).trim_end_matches('/');
    if address.is_empty() || address.contains(['/', '?', '@']) {
        return None;
    }
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
    Some(if has_port { address.to_owned() } else { format!("{address}:{port}") })
}

/// What follows the scheme of a libvirt URI: `///system?socket=PATH`.
fn libvirt(rest: &str) -> Result<Endpoint, &'static str> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    for parameter in query.split('&') {
        if let Some(path) = parameter.strip_prefix("socket=") {
            return Ok(Endpoint::Unix(path.into()));
        }
    }
    match place {
        "///system" => Ok(Endpoint::Unix(DEFAULT_SOCKET.into())),
        "///session" => {
            let directory = std::env::var_os("XDG_RUNTIME_DIR")
                .ok_or("XDG_RUNTIME_DIR is not set, so there is no session")?;
            Ok(Endpoint::Unix(PathBuf::from(directory).join("manor/api.sock")))
        }
        _ if !place.starts_with("///") => {
            Err("a host in the URI needs a transport, and only unix is provided")
        }
        _ => Err("the path is /system or /session"),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_urls_and_libvirt_uris_name_an_endpoint() {
        let unix = |path: &str| Ok(Endpoint::Unix(path.into()));
        let tcp = |address: &str| Ok(Endpoint::Tcp(address.into()));
        assert_eq!("/tmp/a.sock".parse(), unix("/tmp/a.sock"));
        assert_eq!("unix:/tmp/a.sock".parse(), unix("/tmp/a.sock"));
        assert_eq!("unix:///tmp/a.sock".parse(), unix("/tmp/a.sock"));
        assert_eq!("http://127.0.0.1:8600/".parse(), tcp("127.0.0.1:8600"));
        assert_eq!("http://[::1]:8600".parse(), tcp("[::1]:8600"));
        assert_eq!("http://localhost".parse(), tcp("localhost:80"));
        let tls = |address: &str| Ok(Endpoint::Tls(address.into()));
        assert_eq!("https://node1:8600/".parse(), tls("node1:8600"));
        assert_eq!("https://node1".parse(), tls("node1:16515"));
        assert_eq!("qemu:///system".parse(), unix(DEFAULT_SOCKET));
        assert_eq!("manor:///system".parse(), unix(DEFAULT_SOCKET));
        assert_eq!("qemu+unix:///system?socket=/tmp/a".parse(), unix("/tmp/a"));
    }

    #[test]
    fn other_uris_are_refused_with_the_reason() {
        for uri in [
            "",
            "a",
            "test:///default",
            "qemu+ssh://host/system",
            "qemu://host/system",
            "http://",
            "https://a/b",
            "http://a@b:1",
            "unix:a",
            "qemu:///other",
        ] {
            let refused = uri.parse::<Endpoint>().unwrap_err().to_string();
            assert!(refused.contains(&format!("{uri:?}")), "{refused}");
        }
    }
}
