//! A change of tuning, made in a definition.

use xml::device::disk::{Disk, IoTune};
use xml::device::interface::{Bandwidth, Interface, InterfaceType, Rate};
use xml::domain::tuning::{BlockIoDevice, CpuTune, IoThreadPin, VcpuPin};
use xml::domain::{Kib, MemoryTune};
use xml::{CpuSet, DomainDef, MacAddress};

use super::{
    BlockDeviceTuning, BlockTuning, CpuTuning, DiskTuning, InterfaceTuning, MemoryTuning, Pins,
    RateTuning, Tuning,
};
use crate::error::{Code, Error};
use crate::translate::tuning::mistakes;

impl Tuning {
    /// `def` as it shall be.
    pub(super) fn applied(&self, def: &DomainDef) -> Result<DomainDef, Error> {
        let mut new = def.clone();
        self.apply(&mut new)?;
        Ok(new)
    }

    /// # Errors
    /// When it cannot be; `def` is of no use then.
    pub(super) fn apply(&self, def: &mut DomainDef) -> Result<(), Error> {
        let mut cpu = def.cpu_tune.take().unwrap_or_default();
        self.cpu.apply(&mut cpu);
        self.pins.apply(&mut cpu)?;
        def.cpu_tune = Some(cpu).filter(|cpu| *cpu != CpuTune::default());
        let mut memory = def.memory_tune.take().unwrap_or(NO_MEMORY_TUNE);
        self.memory.apply(&mut memory);
        def.memory_tune = Some(memory).filter(|memory| *memory != NO_MEMORY_TUNE);
        let mut block = def.block_io_tune.take().unwrap_or_default();
        self.block.apply(&mut block);
        def.block_io_tune = Some(block).filter(|block| *block != Default::default());
        self.sizes.apply(def)?;
        self.numa.apply(def)?;
        for disk in &self.disks {
            disk.apply(&mut def.devices.disks)?;
        }
        for interface in &self.interfaces {
            interface.apply(&mut def.devices.interfaces)?;
        }
        match mistakes(def).into_iter().next() {
            None => Ok(()),
            Some((_, text)) => Err(Error::new(Code::InvalidArgument, text)),
        }
    }
}

const NO_MEMORY_TUNE: MemoryTune =
    MemoryTune { hard_limit: None, soft_limit: None, min_guarantee: None, swap_hard_limit: None };

/// What is said takes the place of what was; 0 of both.
fn set<T: Copy + Default + PartialEq>(field: &mut Option<T>, value: Option<T>) {
    if let Some(value) = value {
        *field = Some(value).filter(|value| *value != T::default());
    }
}

impl CpuTuning {
    fn apply(&self, tune: &mut CpuTune) {
        set(&mut tune.shares, self.shares);
        set(&mut tune.period, self.period_us);
        set(&mut tune.quota, self.quota_us);
        set(&mut tune.global_period, self.global_period_us);
        set(&mut tune.global_quota, self.global_quota_us);
        set(&mut tune.emulator_period, self.emulator_period_us);
        set(&mut tune.emulator_quota, self.emulator_quota_us);
        set(&mut tune.iothread_period, self.iothread_period_us);
        set(&mut tune.iothread_quota, self.iothread_quota_us);
    }
}

impl Pins {
    fn apply(&self, tune: &mut CpuTune) -> Result<(), Error> {
        for pin in &self.vcpus {
            let vcpu = u16::try_from(pin.id).map_err(|_| {
                Error::new(Code::InvalidArgument, format!("there is no vCPU {}", pin.id))
            })?;
            tune.vcpu_pins.retain(|old| old.vcpu != vcpu);
            tune.vcpu_pins.extend(set_of(&pin.cpus).map(|cpuset| VcpuPin { vcpu, cpuset }));
            tune.vcpu_pins.sort_by_key(|pin| pin.vcpu);
        }
        for pin in &self.iothreads {
            let iothread = pin.id;
            tune.iothread_pins.retain(|old| old.iothread != iothread);
            let new = set_of(&pin.cpus).map(|cpuset| IoThreadPin { iothread, cpuset });
            tune.iothread_pins.extend(new);
            tune.iothread_pins.sort_by_key(|pin| pin.iothread);
        }
        if let Some(cpus) = &self.emulator {
            tune.emulator_pin = set_of(cpus);
        }
        Ok(())
    }
}

/// None: everywhere.
fn set_of(cpus: &[u16]) -> Option<CpuSet> {
    (!cpus.is_empty()).then(|| cpus.iter().map(|cpu| u32::from(*cpu)).collect())
}

impl MemoryTuning {
    fn apply(&self, tune: &mut MemoryTune) {
        let limit = |field: &mut Option<Kib>, bytes: Option<u64>| {
            if let Some(bytes) = bytes {
                *field = (bytes > 0).then(|| Kib(bytes.div_ceil(1024)));
            }
        };
        limit(&mut tune.hard_limit, self.hard_limit_bytes);
        limit(&mut tune.soft_limit, self.soft_limit_bytes);
        limit(&mut tune.swap_hard_limit, self.swap_hard_limit_bytes);
    }
}

impl BlockTuning {
    fn apply(&self, tune: &mut xml::domain::BlockIoTune) {
        set(&mut tune.weight, self.weight);
        for change in &self.devices {
            let at = tune.devices.iter().position(|device| device.path == change.path);
            let mut device = match at {
                Some(at) => tune.devices.remove(at),
                None => no_limits(&change.path),
            };
            change.apply(&mut device);
            if device != no_limits(&change.path) {
                tune.devices.insert(at.unwrap_or(tune.devices.len()), device);
            }
        }
    }
}

fn no_limits(path: &str) -> BlockIoDevice {
    BlockIoDevice {
        path: path.to_owned(),
        weight: None,
        read_iops: None,
        write_iops: None,
        read_bytes: None,
        write_bytes: None,
    }
}

impl BlockDeviceTuning {
    fn apply(&self, device: &mut BlockIoDevice) {
        set(&mut device.weight, self.weight);
        set(&mut device.read_iops, self.read_iops_sec);
        set(&mut device.write_iops, self.write_iops_sec);
        set(&mut device.read_bytes, self.read_bytes_sec);
        set(&mut device.write_bytes, self.write_bytes_sec);
    }
}

impl DiskTuning {
    fn apply(&self, disks: &mut [Disk]) -> Result<(), Error> {
        let is_it = |disk: &Disk| {
            let source = crate::ops::disk_source(disk);
            disk.target.dev == self.disk || source.as_deref() == Some(&*self.disk)
        };
        let at = disks.iter().position(is_it).ok_or_else(|| {
            let text = format!("the domain has no disk {:?}", self.disk);
            Error::new(Code::DeviceNotFound, text)
        })?;
        let mut tune = disks[at].io_tune.take().unwrap_or_default();
        self.change(&mut tune);
        // All disks of a group have what it is given.
        if let Some(group) = &tune.group_name {
            let in_group = |disk: &&mut Disk| {
                let tune = disk.io_tune.as_ref();
                tune.is_some_and(|tune| tune.group_name.as_ref() == Some(group))
            };
            for disk in disks.iter_mut().filter(in_group) {
                disk.io_tune = Some(tune.clone());
            }
        }
        disks[at].io_tune = Some(tune).filter(|tune| *tune != IoTune::default());
        Ok(())
    }

    fn change(&self, tune: &mut IoTune) {
        if let Some(group) = &self.group_name {
            tune.group_name = Some(group.clone()).filter(|group| !group.is_empty());
        }
        // A total takes the place of its parts, and they of it, as with virsh.
        let said = |value: Option<u64>| value.is_some_and(|value| value > 0);
        if said(self.total_bytes_sec) {
            (tune.read_bytes, tune.write_bytes) = (None, None);
        } else if said(self.read_bytes_sec) || said(self.write_bytes_sec) {
            tune.total_bytes = None;
        }
        if said(self.total_iops_sec) {
            (tune.read_iops, tune.write_iops) = (None, None);
        } else if said(self.read_iops_sec) || said(self.write_iops_sec) {
            tune.total_iops = None;
        }
        set(&mut tune.total_bytes, self.total_bytes_sec);
        set(&mut tune.read_bytes, self.read_bytes_sec);
        set(&mut tune.write_bytes, self.write_bytes_sec);
        set(&mut tune.total_iops, self.total_iops_sec);
        set(&mut tune.read_iops, self.read_iops_sec);
        set(&mut tune.write_iops, self.write_iops_sec);
        set(&mut tune.total_bytes_max, self.total_bytes_sec_max);
        set(&mut tune.read_bytes_max, self.read_bytes_sec_max);
        set(&mut tune.write_bytes_max, self.write_bytes_sec_max);
        set(&mut tune.total_iops_max, self.total_iops_sec_max);
        set(&mut tune.read_iops_max, self.read_iops_sec_max);
        set(&mut tune.write_iops_max, self.write_iops_sec_max);
        set(&mut tune.total_bytes_max_length, self.total_bytes_sec_max_length);
        set(&mut tune.read_bytes_max_length, self.read_bytes_sec_max_length);
        set(&mut tune.write_bytes_max_length, self.write_bytes_sec_max_length);
        set(&mut tune.total_iops_max_length, self.total_iops_sec_max_length);
        set(&mut tune.read_iops_max_length, self.read_iops_sec_max_length);
        set(&mut tune.write_iops_max_length, self.write_iops_sec_max_length);
        set(&mut tune.size_iops, self.size_iops_sec);
    }
}

impl InterfaceTuning {
    fn apply(&self, interfaces: &mut [Interface]) -> Result<(), Error> {
        let mac = self.interface.parse::<MacAddress>().ok();
        let is_it = |interface: &Interface| {
            let target = interface.target.as_ref().and_then(|target| target.dev.as_deref());
            target == Some(&*self.interface) || (mac.is_some() && interface.mac_address() == mac)
        };
        let found = interfaces.iter_mut().find(|interface| is_it(interface));
        let interface = found.ok_or_else(|| {
            let text = format!("the domain has no interface {:?}", self.interface);
            Error::new(Code::DeviceNotFound, text)
        })?;
        if matches!(interface.kind, InterfaceType::User | InterfaceType::Direct) {
            let text = format!(
                "what passes an interface of type='{}' is not limited; one of type='network' or 'bridge' is",
                interface.kind
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        let none = Bandwidth { inbound: None, outbound: None };
        let mut bandwidth = interface.bandwidth.take().unwrap_or(none.clone());
        let rate = |rate: &RateTuning| {
            let some = |value: Option<u32>| value.filter(|value| *value > 0);
            (rate.average > 0).then(|| Rate {
                average: Some(rate.average),
                peak: some(rate.peak),
                floor: None,
                burst: some(rate.burst),
            })
        };
        if let Some(inbound) = &self.inbound {
            bandwidth.inbound = rate(inbound);
        }
        if let Some(outbound) = &self.outbound {
            bandwidth.outbound = rate(outbound);
        }
        interface.bandwidth = Some(bandwidth).filter(|bandwidth| *bandwidth != none);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pin;
    use super::*;

    fn def(inner: &str) -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>\
             <os><type>hvm</type></os>{inner}</domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    #[test]
    fn what_is_said_is_set_and_0_takes_it_back() {
        let cpu = CpuTuning { shares: Some(200), quota_us: Some(-1), ..CpuTuning::default() };
        let tuning = Tuning { cpu, ..Tuning::default() };
        let new = tuning.applied(&def("")).unwrap();
        let tune = new.cpu_tune.as_ref().unwrap();
        assert_eq!((tune.shares, tune.quota, tune.period), (Some(200), Some(-1), None));
        let cpu = CpuTuning { shares: Some(0), quota_us: Some(0), ..CpuTuning::default() };
        let back = Tuning { cpu, ..Tuning::default() }.applied(&new).unwrap();
        assert_eq!(back.cpu_tune, None, "an empty element says nothing");
    }

    #[test]
    fn a_pin_takes_the_place_of_the_one_that_was() {
        let pin = |cpus: &[u16]| Tuning {
            pins: Pins { vcpus: vec![Pin { id: 1, cpus: cpus.to_vec() }], ..Pins::default() },
            ..Tuning::default()
        };
        let one = pin(&[0, 1]).applied(&def("")).unwrap();
        let two = pin(&[3]).applied(&one).unwrap();
        assert_eq!(crate::translate::tuning::vcpu_cpus(&two, 1), [3]);
        assert_eq!(pin(&[]).applied(&two).unwrap().cpu_tune, None);
        let absent = Pins { vcpus: vec![Pin { id: 2, cpus: vec![0] }], ..Pins::default() };
        let error = Tuning { pins: absent, ..Tuning::default() }.applied(&two).unwrap_err();
        assert_eq!(error.message, "there is no vCPU 2: the domain has 2");
    }

    #[test]
    fn swap_is_limited_together_with_memory() {
        let memory = |hard, swap| MemoryTuning {
            hard_limit_bytes: hard,
            soft_limit_bytes: None,
            swap_hard_limit_bytes: swap,
        };
        let tuning = |memory| Tuning { memory, ..Tuning::default() };
        let alone = tuning(memory(None, Some(1 << 30))).applied(&def(""));
        assert_eq!(alone.unwrap_err().code, Code::InvalidArgument);
        let less = tuning(memory(Some(2 << 30), Some(1 << 30))).applied(&def(""));
        assert_eq!(less.unwrap_err().code, Code::InvalidArgument);
        let both = tuning(memory(Some(1 << 30), Some(3 << 30))).applied(&def("")).unwrap();
        let limits = crate::translate::tuning::limits(&both);
        assert_eq!((limits.memory_max, limits.swap_max), (Some(1 << 30), Some(2 << 30)));
    }

    #[test]
    fn a_total_and_its_parts_exclude_each_other() {
        let mut tune = IoTune { total_bytes: Some(5), ..IoTune::default() };
        DiskTuning { read_bytes_sec: Some(7), ..DiskTuning::default() }.change(&mut tune);
        assert_eq!((tune.total_bytes, tune.read_bytes), (None, Some(7)));
        DiskTuning { total_bytes_sec: Some(9), ..DiskTuning::default() }.change(&mut tune);
        assert_eq!((tune.total_bytes, tune.read_bytes), (Some(9), None));
    }
}
