//! screenshot, send-key, domdisplay, vncdisplay.

use std::io::Write as _;

use api::types::SendKeys;
use roxmltree::{Document, Node};

use super::Session;
use crate::args::{self, Domain, Domdisplay, Screenshot};
use crate::failure::Failure;
use crate::terminal::printable;

/// Display 0 of VNC.
const FIRST_PORT: u16 = 5900;

/// To the file named, to stdout (`-`), or to one named as virsh would.
pub(super) async fn screenshot(session: &Session, args: Screenshot) -> Result<(), Failure> {
    if args.screen.is_some_and(|screen| screen != 0) {
        return Err(Failure::other("a guest has one screen, and its number is 0"));
    }
    let picture = session.of(&args.domain, session.client.screenshot(&args.domain)).await?;
    let named = args.file.unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%d-%H:%M:%S");
        format!("{}-{now}.png", args.domain.replace('/', "_"))
    });
    let failed = |error| Failure::other(format!("cannot write {}: {error}", printable(&named)));
    if named == "-" {
        let mut out = std::io::stdout().lock();
        return out.write_all(&picture).and_then(|()| out.flush()).map_err(failed);
    }
    std::fs::write(&named, &picture).map_err(failed)?;
    let line = format!("Screenshot saved to {}, with type of image/png\n", printable(&named));
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn send_key(session: &Session, args: args::SendKey) -> Result<(), Failure> {
    let mut keys = SendKeys::of(args.keycode);
    keys.codeset = args.codeset.unwrap_or(keys.codeset);
    keys.hold_ms = args.holdtime.unwrap_or(keys.hold_ms);
    session.of(&args.domain, session.client.send_keys(&args.domain, &keys)).await
}

pub(super) async fn vncdisplay(session: &Session, args: Domain) -> Result<(), Failure> {
    let xml = running(session, &args.domain, false).await?;
    let document = parse(&xml)?;
    let port = graphics(&document, "vnc").find_map(|vnc| port(&vnc).map(|port| (vnc, port)));
    let Some((vnc, port)) = port else {
        return Err(Failure::other("Failed to get VNC port. Is this domain using VNC?"));
    };
    let host = listens(&vnc).filter(|host| !is_any(host)).map(in_brackets).unwrap_or_default();
    session.terminal.print(&format!("{host}:{}\n", port.saturating_sub(FIRST_PORT)));
    Ok(())
}

/// Where viewers find the guest's screen, as a URI.
pub(super) async fn domdisplay(session: &Session, args: Domdisplay) -> Result<(), Failure> {
    let xml = running(session, &args.domain, args.include_password).await?;
    let document = parse(&xml)?;
    let wanted = args.kind.as_deref();
    let kinds = ["vnc", "spice"].into_iter().filter(|kind| wanted.is_none_or(|only| only == *kind));
    let mut found: Vec<String> = kinds
        .flat_map(|kind| graphics(&document, kind).filter_map(move |node| uri(kind, &node)))
        .collect();
    if !args.all {
        found.truncate(1);
    }
    if found.is_empty() {
        let what = wanted.map_or_else(String::new, |kind| format!(" with type '{kind}'"));
        return Err(Failure::other(format!("No graphical display{what} found")));
    }
    if session.terminal.json {
        session.terminal.print_json(&found);
    } else {
        session.terminal.print(&format!("{}\n", found.join("\n")));
    }
    Ok(())
}

async fn running(session: &Session, domain: &str, secure: bool) -> Result<String, Failure> {
    let state = session.of(domain, session.client.state(domain)).await?;
    if state.state == api::types::StateName::ShutOff {
        return Err(Failure::other("Domain is not running"));
    }
    session.of(domain, session.client.xml(domain, false, secure)).await
}

fn parse(xml: &str) -> Result<Document<'_>, Failure> {
    Document::parse(xml)
        .map_err(|error| Failure::other(format!("the domain's XML is broken: {error}")))
}

fn graphics<'a, 'i: 'a>(
    document: &'a Document<'i>,
    kind: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    document
        .descendants()
        .filter(move |node| node.has_tag_name("graphics") && node.attribute("type") == Some(kind))
}

fn port(graphics: &Node<'_, '_>) -> Option<u16> {
    graphics.attribute("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0)
}

fn listens<'a>(graphics: &Node<'a, '_>) -> Option<&'a str> {
    let listen = graphics.children().find(|child| child.has_tag_name("listen"));
    let address = listen.and_then(|listen| listen.attribute("address"));
    address.or_else(|| graphics.attribute("listen"))
}

fn is_any(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "::")
}

fn in_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn uri(kind: &str, graphics: &Node<'_, '_>) -> Option<String> {
    if let Some(socket) = graphics.attribute("socket") {
        return Some(format!("{kind}+unix://{socket}"));
    }
    let port = port(graphics)?;
    let number = if kind == "vnc" { port.saturating_sub(FIRST_PORT) } else { port };
    let host = listens(graphics).filter(|host| !is_any(host)).unwrap_or("localhost");
    let password = graphics.attribute("passwd").filter(|_| kind == "vnc");
    let password = password.map(|password| format!(":{password}@")).unwrap_or_default();
    Some(format!("{kind}://{password}{}:{number}", in_brackets(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_are_named_as_virsh_names_them() {
        for (graphics, expected) in [
            ("type='vnc' port='5901' listen='127.0.0.1'", Some("vnc://127.0.0.1:1")),
            ("type='vnc' port='5900' listen='0.0.0.0'", Some("vnc://localhost:0")),
            ("type='vnc' port='5900' passwd='x' listen='::1'", Some("vnc://:x@[::1]:0")),
            ("type='vnc' socket='/run/a'", Some("vnc+unix:///run/a")),
            ("type='vnc' port='-1'", None),
        ] {
            let xml = format!("<domain><devices><graphics {graphics}/></devices></domain>");
            let document = parse(&xml).unwrap();
            let node = super::graphics(&document, "vnc").next().unwrap();
            assert_eq!(uri("vnc", &node).as_deref(), expected);
        }
    }
}
