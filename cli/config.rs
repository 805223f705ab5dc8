//! The daemon's configuration file: read, check, show.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use management::Access;
use management::config::{Config, Libvirt, Listen};

use crate::args;
use crate::failure::{Failure, reason};
use crate::terminal::Terminal;

pub(crate) const DEFAULT_PATH: &str = "/etc/manor/manor.toml";
/// With fewer a user's own commands would be in each other's way.
const FEWEST_CLIENTS: u16 = 8;
/// Every setting with its explanation, commented out.
pub(crate) const TEMPLATE: &str = include_str!("../resources/manor.toml");

/// The file's settings. At the default place there need be none.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) =>
        {
            return Ok(Config::default());
        }
        Err(error) => {
            let line = format!("cannot read {}: {}", path.display(), reason(&error));
            return Err(Failure::other(line));
        }
    };
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, file: &str) -> Result<Config, Failure> {
    let config: Config = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
        Failure::other(format!("{file}:{line}:{column}: {}", error.message()))
    })?;
    let mut wrong = mistakes(&config).into_iter();
    let Some(first) = wrong.next() else { return Ok(config) };
    let failure = Failure::other(format!("{file}: {first}"));
    Err(wrong.fold(failure, |failure, more| failure.also(format!("{file}: {more}"))))
}

/// What parses and cannot be.
fn mistakes(config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, path) in [
        ("state_dir", &config.state_dir),
        ("run_dir", &config.run_dir),
        ("log_dir", &config.log_dir),
        ("api.socket", &config.api.socket),
        ("libvirt.socket", &config.libvirt.socket),
        ("libvirt.read_only_socket", &config.libvirt.read_only_socket),
        ("libvirt.pki", &config.libvirt.pki),
    ] {
        let may_be_empty = name.ends_with("socket") && path.as_os_str().is_empty();
        let may_be_empty = may_be_empty && name.starts_with("libvirt.");
        if !path.is_absolute() && !may_be_empty {
            wrong.push(format!("{name} is {path:?}, and not an absolute path"));
        }
    }
    for (name, mode) in [
        ("api.socket_mode", &config.api.socket_mode),
        ("api.read_only_socket_mode", &config.api.read_only_socket_mode),
    ] {
        if octal(mode).is_none() {
            wrong.push(format!("{name} is {mode:?}, and not an octal mode such as \"0660\""));
        }
    }
    for (name, most) in [
        ("api.max_clients", config.api.max_clients),
        ("libvirt.max_clients", config.libvirt.max_clients),
    ] {
        if most < FEWEST_CLIENTS {
            wrong.push(format!(
                "{name} is {most}, and not at least {FEWEST_CLIENTS}: of one user half may come in, and watching \
                 events takes a place"
            ));
        }
    }
    let listen = &config.api.listen;
    if !listen.is_empty() {
        match listen.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => {}
            Ok(_) => wrong.push(format!(
                "api.listen is {listen:?}, and not a loopback address; other hosts come in over TLS \
                 ([listen] tcp)"
            )),
            Err(_) => wrong.push(format!(
                "api.listen is {listen:?}, and not an address with a port such as \"127.0.0.1:8600\""
            )),
        }
    }
    for path in config.files.allow.iter().filter(|path| !path.is_absolute()) {
        wrong.push(format!("files.allow has {path:?}, which is not an absolute path"));
    }
    wrong.extend(listen_mistakes(&config.listen));
    wrong.extend(libvirt_mistakes(&config.libvirt));
    let access_name = &config.api.listen_access;
    if access(access_name).is_none() {
        wrong.push(format!(
            "api.listen_access is {access_name:?}, and not read, control, write or admin"
        ));
    }
    if !matches!(config.log.format.as_str(), "text" | "json") {
        wrong.push(format!("log.format is {:?}, and neither text nor json", config.log.format));
    }
    if let Err(error) = config.log.level.parse::<tracing_subscriber::EnvFilter>() {
        wrong.push(format!("log.level is {:?}: {error}", config.log.level));
    }
    wrong
}

/// Of what is said about TLS.
fn listen_mistakes(listen: &Listen) -> Vec<String> {
    let mut wrong = Vec::new();
    let tcp = &listen.tcp;
    if !tcp.is_empty() && tcp.parse::<SocketAddr>().is_err() {
        wrong.push(format!(
            "listen.tcp is {tcp:?}, and not an address with a port such as \"0.0.0.0:16515\""
        ));
    }
    if listen.client_ca.as_os_str().is_empty() && !listen.client.is_empty() {
        wrong.push("listen.client is of no use without listen.client_ca".to_owned());
    }
    let mut known = BTreeSet::new();
    for client in &listen.client {
        let name = &client.common_name;
        if name.is_empty() || !known.insert(name) {
            wrong.push(format!("listen.client has {name:?} twice, or without a name"));
        }
        if client.domains.as_ref().is_some_and(|domains| domains.iter().all(String::is_empty)) {
            wrong.push(format!(
                "listen.client {name:?} is confined to no domain; leave domains out to confine it to none"
            ));
        }
    }
    wrong
}

/// Of libvirt's clients that come by TCP.
fn libvirt_mistakes(libvirt: &Libvirt) -> Vec<String> {
    let mut wrong = Vec::new();
    let Libvirt { tls, tcp, tcp_access, client, .. } = libvirt;
    if !tls.is_empty() && tls.parse::<SocketAddr>().is_err() {
        wrong.push(format!(
            "libvirt.tls is {tls:?}, and not an address with a port such as \"0.0.0.0:16514\""
        ));
    }
    match tcp.parse::<SocketAddr>() {
        _ if tcp.is_empty() => {}
        Ok(address) if address.ip().is_loopback() => {}
        Ok(_) => wrong.push(format!(
            "libvirt.tcp is {tcp:?}, and not a loopback address; other hosts come in over TLS \
             (libvirt.tls)"
        )),
        Err(_) => wrong.push(format!(
            "libvirt.tcp is {tcp:?}, and not an address with a port such as \"127.0.0.1:16509\""
        )),
    }
    if access(tcp_access).is_none() {
        wrong.push(format!(
            "libvirt.tcp_access is {tcp_access:?}, and not read, control, write or admin"
        ));
    }
    for (name, auth) in [
        ("auth_unix_rw", &libvirt.auth_unix_rw),
        ("auth_unix_ro", &libvirt.auth_unix_ro),
        ("auth_tls", &libvirt.auth_tls),
    ] {
        if !matches!(auth.as_str(), "none" | "sasl") {
            wrong.push(format!("libvirt.{name} is {auth:?}, and neither none nor sasl"));
        }
    }
    if libvirt.tls_no_verify_certificate && libvirt.auth_tls != "sasl" {
        wrong.push(
            "libvirt.tls_no_verify_certificate lets anybody in unless libvirt.auth_tls is \"sasl\""
                .to_owned(),
        );
    }
    for client in client {
        let subject = &client.subject;
        if subject.is_empty() {
            wrong.push("libvirt.client has one without a subject".to_owned());
        }
        if client.domains.as_ref().is_some_and(|domains| domains.iter().all(String::is_empty)) {
            wrong.push(format!(
                "libvirt.client {subject:?} is confined to no domain; leave domains out to confine it to none"
            ));
        }
    }
    wrong
}

pub(crate) fn octal(mode: &str) -> Option<u32> {
    u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777)
}

pub(crate) fn access(name: &str) -> Option<Access> {
    [Access::Read, Access::Control, Access::Write, Access::Admin]
        .into_iter()
        .find(|access| access.name() == name)
}

pub(crate) fn command(command: &args::Config, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        args::Config::Default => terminal.print(TEMPLATE),
        args::Config::Check { file } => {
            load(file)?;
            terminal.say(&format!("{} is in order\n", file.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template is a promise about the defaults.
    #[test]
    fn the_template_says_the_defaults_and_leaves_none_out() {
        assert_eq!(parse(TEMPLATE, "x").unwrap(), Config::default());
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parse(&uncommented, "x").unwrap(), Config::default());
        let tables: toml::Table = uncommented.parse().unwrap();
        let set = |name: &str| tables[name].as_table().unwrap().len();
        assert_eq!((tables.len(), set("api"), set("log"), set("domains")), (15, 8, 2, 8));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let wrong = |text: &str| parse(text, "f").unwrap_err().lines().join("\n");
        assert!(wrong("[api]\nsokcet = \"/x\"\n").starts_with("f:2:1: unknown field `sokcet`"));
        assert!(wrong("state_dir = 5\n").starts_with("f:1:13: "));
        assert!(wrong("[api\n").starts_with("f:1:5: "));
        let two = wrong("state_dir = \"x\"\n[api]\nlisten = \"0.0.0.0:1\"\n");
        assert!(two.contains("state_dir") && two.contains("loopback"), "{two}");
        assert!(wrong("[api]\nsocket_mode = \"rw\"\n").contains("octal"));
        assert!(wrong("[api]\nmax_clients = 7\n").contains("max_clients is 7, and not at least 8"));
        assert!(wrong("[libvirt]\nmax_clients = 0\n").contains("libvirt.max_clients"));
        assert!(wrong("[api]\nlisten_access = \"all\"\n").contains("control"));
        assert!(wrong("[listen]\ntcp = \"host\"\n").contains("0.0.0.0:16515"));
        let client = "[[listen.client]]\ncommon_name = \"x\"\nrole = \"reader\"\n";
        assert!(wrong(client).contains("client_ca"));
        let twice = format!("[listen]\nclient_ca = \"/x\"\n{client}{client}domains = []\n");
        assert!(wrong(&twice).contains("twice") && wrong(&twice).contains("no domain"));
        assert!(wrong(&client.replace("reader", "root")).contains("operator"));
        assert!(wrong("[libvirt]\ntls = \"host\"\n").contains("0.0.0.0:16514"));
        assert!(wrong("[libvirt]\ntcp = \"0.0.0.0:1\"\n").contains("libvirt.tls"));
        assert!(wrong("[libvirt]\ntcp_access = \"all\"\n").contains("control"));
        assert!(wrong("[libvirt]\nauth_tls = \"polkit\"\n").contains("neither none nor sasl"));
        assert!(wrong("[libvirt]\ntls_no_verify_certificate = true\n").contains("anybody"));
        let client = "[[libvirt.client]]\nsubject = \"\"\nrole = \"reader\"\n";
        assert!(wrong(client).contains("without a subject"));
        assert!(wrong("[files]\nallow = [\"vm\"]\n").contains("\"vm\", which is not"));
        assert!(wrong("[log]\nformat = \"xml\"\n").contains("neither"));
    }
}
