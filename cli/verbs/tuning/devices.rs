//! blkdeviotune, domiftune.

use api::types::{DiskTuning, InterfaceTuning, RateTuning, Tuning};

use super::{asks, bytes, get, line, set};
use crate::args::{Blkdeviotune, Domiftune};
use crate::failure::{Exit, Failure};
use crate::verbs::Session;
use crate::verbs::memory::affects;

pub(crate) async fn blkdeviotune(session: &Session, args: Blkdeviotune) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let domain = args.domain;
    let change = DiskTuning {
        disk: args.device.clone(),
        total_bytes_sec: bytes(args.total_bytes_sec.as_deref(), "total-bytes-sec")?,
        read_bytes_sec: bytes(args.read_bytes_sec.as_deref(), "read-bytes-sec")?,
        write_bytes_sec: bytes(args.write_bytes_sec.as_deref(), "write-bytes-sec")?,
        total_iops_sec: args.total_iops_sec,
        read_iops_sec: args.read_iops_sec,
        write_iops_sec: args.write_iops_sec,
        total_bytes_sec_max: bytes(args.total_bytes_sec_max.as_deref(), "total-bytes-sec-max")?,
        read_bytes_sec_max: bytes(args.read_bytes_sec_max.as_deref(), "read-bytes-sec-max")?,
        write_bytes_sec_max: bytes(args.write_bytes_sec_max.as_deref(), "write-bytes-sec-max")?,
        total_iops_sec_max: args.total_iops_sec_max,
        read_iops_sec_max: args.read_iops_sec_max,
        write_iops_sec_max: args.write_iops_sec_max,
        size_iops_sec: bytes(args.size_iops_sec.as_deref(), "size-iops-sec")?,
        group_name: args.group_name,
        total_bytes_sec_max_length: args.total_bytes_sec_max_length,
        read_bytes_sec_max_length: args.read_bytes_sec_max_length,
        write_bytes_sec_max_length: args.write_bytes_sec_max_length,
        total_iops_sec_max_length: args.total_iops_sec_max_length,
        read_iops_sec_max_length: args.read_iops_sec_max_length,
        write_iops_sec_max_length: args.write_iops_sec_max_length,
    };
    if change != (DiskTuning { disk: args.device.clone(), ..DiskTuning::default() }) {
        let change = Tuning { disks: vec![change], ..Tuning::default() };
        return set(session, &domain, change, affects).await;
    }
    let disks = get(session, &domain, affects).await?.disks;
    // By its source it is found in the list of disks.
    let target = match disks.iter().any(|disk| disk.disk == args.device) {
        true => args.device.clone(),
        false => {
            let all =
                session.of(&domain, session.client.disks(&domain, asks(affects).config)).await?;
            let found = all.into_iter().find(|disk| disk.source.as_ref() == Some(&args.device));
            found.map(|disk| disk.target).unwrap_or_default()
        }
    };
    let tuning = disks.into_iter().find(|disk| disk.disk == target).ok_or_else(|| {
        let text = format!("disk '{}' was not found in the domain config", args.device);
        Failure::new(Exit::NotFound, text)
    })?;
    if session.terminal.json {
        session.terminal.print_json(&tuning);
    } else {
        session.terminal.print(&disk_lines(&tuning));
    }
    Ok(())
}

fn disk_lines(tuning: &DiskTuning) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("total_bytes_sec", tuning.total_bytes_sec),
        ("read_bytes_sec", tuning.read_bytes_sec),
        ("write_bytes_sec", tuning.write_bytes_sec),
        ("total_iops_sec", tuning.total_iops_sec),
        ("read_iops_sec", tuning.read_iops_sec),
        ("write_iops_sec", tuning.write_iops_sec),
        ("total_bytes_sec_max", tuning.total_bytes_sec_max),
        ("read_bytes_sec_max", tuning.read_bytes_sec_max),
        ("write_bytes_sec_max", tuning.write_bytes_sec_max),
        ("total_iops_sec_max", tuning.total_iops_sec_max),
        ("read_iops_sec_max", tuning.read_iops_sec_max),
        ("write_iops_sec_max", tuning.write_iops_sec_max),
        ("size_iops_sec", tuning.size_iops_sec),
    ] {
        text += &line(name, value.unwrap_or(0));
    }
    text += &line("group_name", tuning.group_name.as_deref().unwrap_or_default());
    for (name, value) in [
        ("total_bytes_sec_max_length", tuning.total_bytes_sec_max_length),
        ("read_bytes_sec_max_length", tuning.read_bytes_sec_max_length),
        ("write_bytes_sec_max_length", tuning.write_bytes_sec_max_length),
        ("total_iops_sec_max_length", tuning.total_iops_sec_max_length),
        ("read_iops_sec_max_length", tuning.read_iops_sec_max_length),
        ("write_iops_sec_max_length", tuning.write_iops_sec_max_length),
    ] {
        text += &line(name, value.unwrap_or(0));
    }
    text
}

pub(crate) async fn domiftune(session: &Session, args: Domiftune) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let Domiftune { domain, interface, inbound, outbound, .. } = args;
    let rate = |text: Option<String>, option| text.map(|text| rate(&text, option)).transpose();
    let change = InterfaceTuning {
        interface: interface.clone(),
        inbound: rate(inbound, "inbound")?,
        outbound: rate(outbound, "outbound")?,
    };
    if change.inbound.is_some() || change.outbound.is_some() {
        let change = Tuning { interfaces: vec![change], ..Tuning::default() };
        return set(session, &domain, change, affects).await;
    }
    let tuning = get(session, &domain, affects).await?;
    let call = session.client.interfaces(&domain, affects.config);
    let mut all = session.of(&domain, call).await?;
    all.retain(|found| found.target.as_ref() == Some(&interface));
    let mac = all.pop().map_or(interface.to_ascii_lowercase(), |found| found.mac);
    let found = tuning.interfaces.into_iter().find(|tuned| tuned.interface == mac);
    let found = found.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("Interface '{interface}' not found."))
    })?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let mut text = String::new();
    for (direction, rate) in [("inbound", found.inbound), ("outbound", found.outbound)] {
        let rate = rate.unwrap_or_default();
        text += &line(&format!("{direction}.average"), rate.average);
        text += &line(&format!("{direction}.peak"), rate.peak.unwrap_or(0));
        text += &line(&format!("{direction}.burst"), rate.burst.unwrap_or(0));
    }
    session.terminal.print(&text);
    Ok(())
}

/// `average,peak,burst`; what is left out is not said.
fn rate(text: &str, option: &str) -> Result<RateTuning, Failure> {
    let wrong = || Failure::usage(format!("{option} format is incorrect: '{text}'"));
    let mut parts = text.split(',');
    let mut number = || match parts.next() {
        None | Some("") => Ok(None),
        Some(part) => part.parse::<u32>().map(Some).map_err(|_| wrong()),
    };
    let (average, peak, burst) = (number()?, number()?, number()?);
    if parts.next().is_some() {
        return Err(wrong());
    }
    let average = average.ok_or_else(wrong)?;
    Ok(RateTuning { average, peak, burst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_virsh_reads_it() {
        let read = |text| rate(text, "inbound").ok();
        let all = RateTuning { average: 1000, peak: Some(2000), burst: Some(64) };
        assert_eq!(read("1000,2000,64"), Some(all));
        assert_eq!(read("1000"), Some(RateTuning { peak: None, burst: None, ..all }));
        assert_eq!(read("1000,,64"), Some(RateTuning { peak: None, ..all }));
        assert_eq!([read(""), read(",1"), read("a"), read("1,2,3,4")], [None; 4]);
    }
}
