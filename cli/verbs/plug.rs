//! attach-*, detach-*, update-device.

use std::fmt::Write as _;
use std::path::Path;

use api::types::{Affects, Detached};

use super::Session;
use super::definition::read_document;
use super::memory::affects;
use crate::args::{
    AttachDisk, AttachInterface, DetachDeviceAlias, DetachDisk, DetachInterface, DeviceFile, Where,
};
use crate::failure::{Exit, Failure};

pub(super) async fn attach_device(session: &Session, args: DeviceFile) -> Result<(), Failure> {
    let affects = session.place(&args.domain, args.place).await?;
    let (xml, file) = (read_document(&args.file)?, args.file.display().to_string());
    let call = session.client.attach_device(&args.domain, xml, affects);
    call.await.map_err(|error| {
        Failure::of_document(error, format!("Failed to attach device from {file}"), &file)
    })?;
    session.terminal.say("Device attached successfully\n");
    Ok(())
}

pub(super) async fn update_device(session: &Session, args: DeviceFile) -> Result<(), Failure> {
    let affects = session.place(&args.domain, args.place).await?;
    let (xml, file) = (read_document(&args.file)?, args.file.display().to_string());
    let call = session.client.update_device(&args.domain, xml, affects);
    call.await.map_err(|error| {
        Failure::of_document(error, format!("Failed to update device from {file}"), &file)
    })?;
    session.terminal.say("Device updated successfully\n");
    Ok(())
}

pub(super) async fn detach_device(session: &Session, args: DeviceFile) -> Result<(), Failure> {
    let affects = session.place(&args.domain, args.place).await?;
    let (xml, file) = (read_document(&args.file)?, args.file.display().to_string());
    let call = session.client.detach_device_like(&args.domain, xml, affects);
    let detached = call.await.map_err(|error| {
        Failure::of_document(error, format!("Failed to detach device from {file}"), &file)
    })?;
    session.say_detached("Device", detached);
    Ok(())
}

pub(super) async fn detach_device_alias(
    session: &Session,
    args: DetachDeviceAlias,
) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let call = session.client.detach_device(&args.domain, &args.alias, affects);
    let detached = call.await.map_err(|error| {
        let attempt = format!("Failed to detach device with alias {}", args.alias);
        Failure::from(error).while_doing(attempt)
    })?;
    session.say_detached("Device", detached);
    Ok(())
}

pub(super) async fn attach_disk(session: &Session, args: AttachDisk) -> Result<(), Failure> {
    let xml = disk_xml(&args)?;
    if args.print_xml {
        session.terminal.print(&xml);
        return Ok(());
    }
    let affects = session.place(&args.domain, args.place).await?;
    let call = session.client.attach_device(&args.domain, xml, affects);
    call.await.map_err(|error| Failure::from(error).while_doing("Failed to attach disk"))?;
    session.terminal.say("Disk attached successfully\n");
    Ok(())
}

fn disk_xml(args: &AttachDisk) -> Result<String, Failure> {
    let kind = match (&args.source_pool, args.sourcetype.as_deref()) {
        (Some(_), None) => "volume",
        (None, Some(kind @ ("file" | "block"))) => kind,
        (None, None) if args.source.starts_with("/dev/") => "block",
        (None, None) => "file",
        (_, Some(kind)) => {
            let line = format!("Unknown source type: '{kind}'; there are file and block");
            return Err(Failure::usage(line));
        }
    };
    let mut xml = format!(
        "<disk type='{kind}' device='{}'>\n",
        attribute(args.kind.as_deref().unwrap_or("disk"))
    );
    xml.push_str("  <driver name='qemu'");
    let iothread = args.iothread.map(|number| number.to_string());
    for (name, value) in [
        ("type", args.subdriver.as_ref()),
        ("cache", args.cache.as_ref()),
        ("io", args.io.as_ref()),
        ("discard", args.discard.as_ref()),
        ("iothread", iothread.as_ref()),
    ] {
        if let Some(value) = value {
            let _ = write!(xml, " {name}='{}'", attribute(value));
        }
    }
    xml.push_str("/>\n");
    let source = match (&args.source_pool, kind) {
        (Some(pool), _) => {
            format!("pool='{}' volume='{}'", attribute(pool), attribute(&args.source))
        }
        // The daemon stands in another directory.
        (None, "block") => format!("dev='{}'", attribute(&absolute(&args.source)?)),
        (None, _) => format!("file='{}'", attribute(&absolute(&args.source)?)),
    };
    let _ = writeln!(xml, "  <source {source}/>");
    let (target, bus) = (attribute(&args.target), attribute(&args.targetbus));
    let _ = writeln!(xml, "  <target dev='{target}' bus='{bus}'/>");
    match args.mode.as_deref() {
        None => {}
        Some(mode @ ("readonly" | "shareable")) => {
            let _ = writeln!(xml, "  <{mode}/>");
        }
        Some(mode) => {
            let line = format!("No support for {mode} in command 'attach-disk'");
            return Err(Failure::usage(line));
        }
    }
    if let Some(serial) = &args.serial {
        let _ = writeln!(xml, "  <serial>{}</serial>", attribute(serial));
    }
    xml.push_str("</disk>\n");
    Ok(xml)
}

pub(super) async fn attach_interface(
    session: &Session,
    args: AttachInterface,
) -> Result<(), Failure> {
    let xml = interface_xml(&args)?;
    if args.print_xml {
        session.terminal.print(&xml);
        return Ok(());
    }
    let affects = session.place(&args.domain, args.place).await?;
    let call = session.client.attach_device(&args.domain, xml, affects);
    call.await.map_err(|error| Failure::from(error).while_doing("Failed to attach interface"))?;
    session.terminal.say("Interface attached successfully\n");
    Ok(())
}

fn interface_xml(args: &AttachInterface) -> Result<String, Failure> {
    let mut xml = format!("<interface type='{}'>\n", attribute(&args.kind));
    if let Some(mac) = &args.mac {
        let _ = writeln!(xml, "  <mac address='{}'/>", attribute(mac));
    }
    match (args.kind.as_str(), &args.source) {
        (kind @ ("network" | "bridge"), Some(source)) => {
            let _ = writeln!(xml, "  <source {kind}='{}'/>", attribute(source));
        }
        ("network" | "bridge" | "direct", None) => {
            return Err(Failure::usage(format!(
                "an interface of type {} needs a source",
                args.kind
            )));
        }
        ("ethernet" | "user", None) => {}
        ("user" | "direct", Some(interface)) => {
            let _ = writeln!(xml, "  <source dev='{}'/>", attribute(interface));
        }
        ("ethernet", Some(_)) => {
            let line = "an interface of type ethernet has no source; --target names its tap";
            return Err(Failure::usage(line));
        }
        (kind, _) => {
            let line = format!(
                "No support for {kind} in command 'attach-interface'; there are network, bridge, \
                 direct, ethernet and user"
            );
            return Err(Failure::usage(line));
        }
    }
    if let Some(target) = &args.target {
        let _ = writeln!(xml, "  <target dev='{}'/>", attribute(target));
    }
    let model = attribute(args.model.as_deref().unwrap_or("virtio"));
    let _ = writeln!(xml, "  <model type='{model}'/>\n</interface>");
    Ok(xml)
}

pub(super) async fn detach_disk(session: &Session, args: DetachDisk) -> Result<(), Failure> {
    let affects = session.place(&args.domain, args.place).await?;
    let attempt = |failure: Failure| failure.while_doing("Failed to detach disk");
    let call = session.client.disks(&args.domain, affects.config && !affects.live);
    let disks = session.of(&args.domain, call).await?;
    if !disks.iter().any(|disk| disk.target == args.target) {
        let line = format!("No disk found whose source path or target is {}", args.target);
        return Err(Failure::new(Exit::NotFound, line));
    }
    let call = session.client.detach_device(&args.domain, &args.target, affects);
    let detached = call.await.map_err(|error| attempt(error.into()))?;
    session.say_detached("Disk", detached);
    Ok(())
}

pub(super) async fn detach_interface(
    session: &Session,
    args: DetachInterface,
) -> Result<(), Failure> {
    let affects = session.place(&args.domain, args.place).await?;
    let call = session.client.interfaces(&args.domain, affects.config && !affects.live);
    let all = session.of(&args.domain, call).await?;
    let is_meant = |mac: &str| args.mac.as_deref().is_none_or(|it| it.eq_ignore_ascii_case(mac));
    let mut found =
        all.iter().filter(|interface| interface.kind == args.kind && is_meant(&interface.mac));
    let mac = match (found.next(), found.next()) {
        (Some(one), None) => &one.mac,
        (None, _) => {
            let with = args.mac.as_ref().map(|mac| format!(" with MAC {mac}")).unwrap_or_default();
            let line = format!("No interface with type {}{with} was found", args.kind);
            return Err(Failure::new(Exit::NotFound, line));
        }
        (Some(_), Some(_)) => {
            let line = format!(
                "Domain has several interfaces of type {}. Please specify which one to detach using \
                 --mac",
                args.kind
            );
            return Err(Failure::usage(line));
        }
    };
    let call = session.client.detach_device(&args.domain, mac, affects);
    let detached = call
        .await
        .map_err(|error| Failure::from(error).while_doing("Failed to detach interface"))?;
    session.say_detached("Interface", detached);
    Ok(())
}

impl Session {
    /// What `--persistent` means depends on whether the domain runs.
    async fn place(&self, domain: &str, place: Where) -> Result<Affects, Failure> {
        let Affects { live, config } = affects(place.affects)?;
        if !place.persistent {
            return Ok(Affects { live, config });
        }
        let found = self.of(domain, self.client.domain(domain)).await?;
        Ok(Affects { live: live || found.summary.id.is_some(), config: true })
    }

    fn say_detached(&self, what: &str, Detached { gone }: Detached) {
        if gone {
            self.terminal.say(&format!("{what} detached successfully\n"));
        } else {
            let line = format!(
                "{what} detach request sent successfully: the guest has not let go of it yet\n"
            );
            self.terminal.say(&line);
        }
    }
}

/// Text for an attribute's value, or an element's.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;")
}

fn absolute(source: &str) -> Result<String, Failure> {
    let wrong = |error| Failure::other(format!("'{source}' is no path: {error}"));
    Ok(std::path::absolute(Path::new(source)).map_err(wrong)?.display().to_string())
}
