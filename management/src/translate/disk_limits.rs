//! `<iotune>` of disks as limits of the VMM.

use vmm_protocol::config::{DiskLimits, IoRate};
use xml::DomainDef;
use xml::device::disk::{Disk, IoTune};

/// Of those that are limited, by their aliases.
pub(crate) fn disk_limits(def: &DomainDef) -> Vec<DiskLimits> {
    def.devices.disks.iter().filter_map(of).collect()
}

pub(crate) fn of(disk: &Disk) -> Option<DiskLimits> {
    let (id, tune) = (disk.alias.clone()?, disk.io_tune.as_ref()?);
    (*tune != IoTune::default()).then(|| limits((id, tune)))
}

fn limits((id, tune): (String, &IoTune)) -> DiskLimits {
    let [total_bytes, read_bytes, write_bytes, total_requests, read_requests, write_requests] =
        rates(tune).map(|rate| rate.rate());
    DiskLimits {
        id,
        group: tune.group_name.clone(),
        total_bytes,
        read_bytes,
        write_bytes,
        total_requests,
        read_requests,
        write_requests,
        request_size: tune.size_iops.unwrap_or(0),
    }
}

/// What is said of one kind of limit.
struct Said {
    name: &'static str,
    average: u64,
    burst: u64,
    seconds: u64,
}

impl Said {
    fn rate(&self) -> IoRate {
        let burst_seconds = if self.burst > 0 { self.seconds.max(1) } else { 0 };
        IoRate { average: self.average, burst: self.burst, burst_seconds }
    }

    fn mistake(&self) -> Option<String> {
        let Self { name, average, burst, seconds } = self;
        if *burst > 0 && average == &0 {
            return Some(format!("{name}_max goes with {name}"));
        }
        if *burst > 0 && burst < average {
            return Some(format!("{name}_max is at least {name}, which is {average}"));
        }
        (*seconds > 0 && *burst == 0).then(|| format!("{name}_max_length goes with {name}_max"))
    }
}

fn rates(tune: &IoTune) -> [Said; 6] {
    let said = |name, average: Option<u64>, burst: Option<u64>, seconds: Option<u64>| Said {
        name,
        average: average.unwrap_or(0),
        burst: burst.unwrap_or(0),
        seconds: seconds.unwrap_or(0),
    };
    let t = tune;
    [
        said("total_bytes_sec", t.total_bytes, t.total_bytes_max, t.total_bytes_max_length),
        said("read_bytes_sec", t.read_bytes, t.read_bytes_max, t.read_bytes_max_length),
        said("write_bytes_sec", t.write_bytes, t.write_bytes_max, t.write_bytes_max_length),
        said("total_iops_sec", t.total_iops, t.total_iops_max, t.total_iops_max_length),
        said("read_iops_sec", t.read_iops, t.read_iops_max, t.read_iops_max_length),
        said("write_iops_sec", t.write_iops, t.write_iops_max, t.write_iops_max_length),
    ]
}

/// What of it cannot be, and where.
pub(super) fn mistakes(def: &DomainDef) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let tuned = (1..).zip(&def.devices.disks);
    let tuned: Vec<_> =
        tuned.filter_map(|(number, disk)| Some((number, disk, disk.io_tune.as_ref()?))).collect();
    for (number, _, tune) in &tuned {
        let path = format!("/domain/devices/disk[{number}]/iotune");
        let wrong = rates(tune).iter().find_map(Said::mistake);
        found.extend(wrong.map(|text| (path.clone(), text)));
        let other = tuned.iter().find(|(_, _, other)| {
            tune.group_name.is_some() && tune.group_name == other.group_name && tune != other
        });
        if let Some((_, other, _)) = other {
            let text = format!("disk {:?} of its group has other limits", other.target.dev);
            found.push((path, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(tune: &IoTune) -> Option<String> {
        rates(tune).iter().find_map(Said::mistake)
    }

    #[test]
    fn a_burst_goes_with_an_average_that_it_is_not_below() {
        let tune = |total_bytes, total_bytes_max| IoTune {
            total_bytes,
            total_bytes_max,
            ..IoTune::default()
        };
        assert_eq!(mistake(&tune(Some(10), Some(10))), None);
        let alone = mistake(&tune(None, Some(10)));
        assert_eq!(alone.as_deref(), Some("total_bytes_sec_max goes with total_bytes_sec"));
        let less = mistake(&tune(Some(10), Some(9)));
        assert_eq!(
            less.as_deref(),
            Some("total_bytes_sec_max is at least total_bytes_sec, which is 10")
        );
        let long = IoTune { read_iops_max_length: Some(3), ..IoTune::default() };
        assert!(mistake(&long).is_some());
    }

    #[test]
    fn limits_are_by_alias_and_a_burst_lasts_a_second_without_a_word() {
        let tune = IoTune {
            read_iops: Some(100),
            read_iops_max: Some(500),
            group_name: Some("g".to_owned()),
            ..IoTune::default()
        };
        let limits = limits(("virtio-disk0".to_owned(), &tune));
        let expected = IoRate { average: 100, burst: 500, burst_seconds: 1 };
        assert_eq!(limits.read_requests, expected);
        assert_eq!((limits.id.as_str(), limits.group.as_deref()), ("virtio-disk0", Some("g")));
        assert_eq!(limits.total_bytes, IoRate::default());
    }
}
