//! blkiotune.

use api::types::{BlockDeviceTuning, BlockTuning, Tuning};

use super::{get, line, set};
use crate::args::Blkiotune;
use crate::failure::Failure;
use crate::verbs::Session;
use crate::verbs::memory::affects;

pub(crate) async fn blkiotune(session: &Session, args: Blkiotune) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let mut block = BlockTuning { weight: args.weight, devices: Vec::new() };
    let mut each = |text: Option<&str>, put: &dyn Fn(&mut BlockDeviceTuning, u64)| {
        for (path, value) in pairs(text.unwrap_or_default())? {
            let at = block.devices.iter().position(|device| device.path == path);
            let at = at.unwrap_or_else(|| {
                block.devices.push(BlockDeviceTuning { path, ..BlockDeviceTuning::default() });
                block.devices.len() - 1
            });
            put(&mut block.devices[at], value);
        }
        Ok::<(), Failure>(())
    };
    let small = |value: u64| Some(u32::try_from(value).unwrap_or(u32::MAX));
    each(args.device_weights.as_deref(), &|device, value| device.weight = small(value))?;
    each(args.device_read_iops_sec.as_deref(), &|device, value| {
        device.read_iops_sec = small(value);
    })?;
    each(args.device_write_iops_sec.as_deref(), &|device, value| {
        device.write_iops_sec = small(value);
    })?;
    each(args.device_read_bytes_sec.as_deref(), &|device, value| {
        device.read_bytes_sec = Some(value);
    })?;
    each(args.device_write_bytes_sec.as_deref(), &|device, value| {
        device.write_bytes_sec = Some(value);
    })?;
    if block != BlockTuning::default() {
        return set(session, &args.domain, Tuning { block, ..Tuning::default() }, affects).await;
    }
    let block = get(session, &args.domain, affects).await?.block;
    if session.terminal.json {
        session.terminal.print_json(&block);
    } else {
        session.terminal.print(&lines(&block));
    }
    Ok(())
}

/// `path,value,path,value…`
fn pairs(text: &str) -> Result<Vec<(String, u64)>, Failure> {
    let wrong = || Failure::usage(format!("Unable to parse device parameters '{text}'"));
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = text.split(',').collect();
    let (pairs, []) = parts.as_chunks::<2>() else { return Err(wrong()) };
    let pair = |[path, value]: &[&str; 2]| Some(((*path).to_owned(), value.parse().ok()?));
    pairs.iter().map(|parts| pair(parts).ok_or_else(wrong)).collect()
}

fn lines(block: &BlockTuning) -> String {
    let each = |value: fn(&BlockDeviceTuning) -> Option<u64>| {
        let devices = block.devices.iter();
        let said = devices.filter_map(|device| Some(format!("{},{}", device.path, value(device)?)));
        said.collect::<Vec<_>>().join(",")
    };
    let mut text = line("weight", block.weight.unwrap_or(0));
    text += &line("device_weight", each(|device| device.weight.map(u64::from)));
    text += &line("device_read_iops_sec", each(|device| device.read_iops_sec.map(u64::from)));
    text += &line("device_write_iops_sec", each(|device| device.write_iops_sec.map(u64::from)));
    text += &line("device_read_bytes_sec", each(|device| device.read_bytes_sec));
    text += &line("device_write_bytes_sec", each(|device| device.write_bytes_sec));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_in_pairs() {
        let read = pairs("/dev/sda,100,/dev/sdb,200").ok();
        assert_eq!(read, Some(vec![("/dev/sda".into(), 100), ("/dev/sdb".into(), 200)]));
        assert_eq!(pairs("").ok(), Some(Vec::new()));
        for wrong in ["/dev/sda", "/dev/sda,x", "/dev/sda,1,/dev/sdb"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
    }
}
