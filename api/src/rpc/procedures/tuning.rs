//! Shares and limits, as typed parameters: each name once, for reading and for writing.

use management::domain::{
    Affects, BlockTuning, CpuTuning, DiskTuning, InterfaceRow, InterfaceTuning, MemoryTuning,
    NumaTuning, RateTuning, Tuning,
};
use management::ops::{GetTuning, ListInterfaces, TuneDomain};

use super::super::failure::{Area, Failure};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::{Parameter, Parameters, Value};
use super::guest_cpus::{ids, ranges};
use super::{Client, affects, disk_target};

/// The client takes strings; without it, they are left out.
const STRINGS: u32 = 4;
/// Of a limit that there is not, KiB.
const UNLIMITED: u64 = (1 << 53) - 1;

type Field<T, V> = (&'static str, fn(&mut T) -> &mut Option<V>);

const CPU: [Field<CpuTuning, u64>; 5] = [
    ("cpu_shares", |cpu| &mut cpu.shares),
    ("vcpu_period", |cpu| &mut cpu.period_us),
    ("emulator_period", |cpu| &mut cpu.emulator_period_us),
    ("global_period", |cpu| &mut cpu.global_period_us),
    ("iothread_period", |cpu| &mut cpu.iothread_period_us),
];
const CPU_QUOTAS: [Field<CpuTuning, i64>; 4] = [
    ("vcpu_quota", |cpu| &mut cpu.quota_us),
    ("emulator_quota", |cpu| &mut cpu.emulator_quota_us),
    ("global_quota", |cpu| &mut cpu.global_quota_us),
    ("iothread_quota", |cpu| &mut cpu.iothread_quota_us),
];
const MEMORY: [Field<MemoryTuning, u64>; 3] = [
    ("hard_limit", |memory| &mut memory.hard_limit_bytes),
    ("soft_limit", |memory| &mut memory.soft_limit_bytes),
    ("swap_hard_limit", |memory| &mut memory.swap_hard_limit_bytes),
];
const DISK: [Field<DiskTuning, u64>; 19] = [
    ("total_bytes_sec", |disk| &mut disk.total_bytes_sec),
    ("read_bytes_sec", |disk| &mut disk.read_bytes_sec),
    ("write_bytes_sec", |disk| &mut disk.write_bytes_sec),
    ("total_iops_sec", |disk| &mut disk.total_iops_sec),
    ("read_iops_sec", |disk| &mut disk.read_iops_sec),
    ("write_iops_sec", |disk| &mut disk.write_iops_sec),
    ("total_bytes_sec_max", |disk| &mut disk.total_bytes_sec_max),
    ("read_bytes_sec_max", |disk| &mut disk.read_bytes_sec_max),
    ("write_bytes_sec_max", |disk| &mut disk.write_bytes_sec_max),
    ("total_iops_sec_max", |disk| &mut disk.total_iops_sec_max),
    ("read_iops_sec_max", |disk| &mut disk.read_iops_sec_max),
    ("write_iops_sec_max", |disk| &mut disk.write_iops_sec_max),
    ("size_iops_sec", |disk| &mut disk.size_iops_sec),
    ("total_bytes_sec_max_length", |disk| &mut disk.total_bytes_sec_max_length),
    ("read_bytes_sec_max_length", |disk| &mut disk.read_bytes_sec_max_length),
    ("write_bytes_sec_max_length", |disk| &mut disk.write_bytes_sec_max_length),
    ("total_iops_sec_max_length", |disk| &mut disk.total_iops_sec_max_length),
    ("read_iops_sec_max_length", |disk| &mut disk.read_iops_sec_max_length),
    ("write_iops_sec_max_length", |disk| &mut disk.write_iops_sec_max_length),
];

fn field<T, V>(fields: &[Field<T, V>], of: &mut T, name: &str, value: V) -> bool {
    let found = fields.iter().find(|(known, _)| *known == name);
    if let Some((_, field)) = found {
        *field(of) = Some(value);
    }
    found.is_some()
}

fn invalid(parameter: &Parameter) -> Failure {
    let text =
        format!("parameter {:?} of {:?} is not known here", parameter.field, parameter.value);
    Failure::invalid_argument(Area::Domain, &text)
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Uint(value) => Some(u64::from(*value)),
        Value::Ullong(value) => Some(*value),
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Llong(value) => u64::try_from(*value).ok(),
        Value::Double(_) | Value::Boolean(_) | Value::String(_) => None,
    }
}

fn signed(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(i64::from(*value)),
        Value::Llong(value) => Some(*value),
        other => i64::try_from(unsigned(other)?).ok(),
    }
}

async fn get(client: &Client, domain: &Domain, affects: Affects) -> Result<Tuning, Failure> {
    client.domain(GetTuning { domain: domain.reference(), affects }).await
}

async fn set(
    client: &Client,
    domain: &Domain,
    change: Tuning,
    affects: Affects,
) -> Result<(), Failure> {
    client.domain(TuneDomain { domain: domain.reference(), change, affects }).await
}

fn of_cpu(mut cpu: CpuTuning) -> Parameters {
    let mut all = Parameters::default();
    for (name, field) in CPU {
        all.ullong(name, field(&mut cpu).unwrap_or(0));
    }
    for (name, field) in CPU_QUOTAS {
        all.llong(name, field(&mut cpu).unwrap_or(0));
    }
    all
}

fn cpu_of(parameters: &[Parameter]) -> Result<CpuTuning, Failure> {
    let mut cpu = CpuTuning::default();
    for parameter in parameters {
        let (name, value) = (&*parameter.field, &parameter.value);
        let is_number = unsigned(value).is_some_and(|value| field(&CPU, &mut cpu, name, value));
        let is_quota = signed(value).is_some_and(|value| field(&CPU_QUOTAS, &mut cpu, name, value));
        if !is_number && !is_quota {
            return Err(invalid(parameter));
        }
    }
    Ok(cpu)
}

pub(crate) async fn scheduler(
    client: Client,
    domain: Domain,
) -> Result<(&'static str, i32), Failure> {
    let parameters = of_cpu(get(&client, &domain, Affects::default()).await?.cpu);
    Ok(("posix", super::count(parameters.0.len())))
}

pub(crate) async fn cpu(
    client: Client,
    (domain, room): (Domain, i32),
) -> Result<Parameters, Failure> {
    cpu_flags(client, (domain, room, 0)).await
}

pub(crate) async fn cpu_flags(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<Parameters, Failure> {
    let affects = affects(flags, STRINGS, "virDomainGetSchedulerParametersFlags")?;
    Ok(of_cpu(get(&client, &domain, affects).await?.cpu).within(room).0)
}

pub(crate) async fn set_cpu(
    client: Client,
    (domain, parameters): (Domain, Vec<Parameter>),
) -> Result<(), Failure> {
    set_cpu_flags(client, (domain, parameters, 0)).await
}

pub(crate) async fn set_cpu_flags(
    client: Client,
    (domain, parameters, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, STRINGS, "virDomainSetSchedulerParametersFlags")?;
    let change = Tuning { cpu: cpu_of(&parameters)?, ..Tuning::default() };
    set(&client, &domain, change, affects).await
}

type Answer = (Parameters, i32);

pub(crate) async fn memory(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<Answer, Failure> {
    let affects = affects(flags, STRINGS, "virDomainGetMemoryParameters")?;
    let mut memory = get(&client, &domain, affects).await?.memory;
    let mut all = Parameters::default();
    for (name, field) in MEMORY {
        all.ullong(name, field(&mut memory).map_or(UNLIMITED, |bytes| bytes / 1024));
    }
    Ok(all.within(room))
}

pub(crate) async fn set_memory(
    client: Client,
    (domain, parameters, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, STRINGS, "virDomainSetMemoryParameters")?;
    let mut memory = MemoryTuning::default();
    for parameter in &parameters {
        let bytes = unsigned(&parameter.value).map(|kib| match kib {
            // As such, and as clients make of -1.
            UNLIMITED.. => 0,
            kib => kib.saturating_mul(1024),
        });
        let known = bytes.is_some_and(|bytes| field(&MEMORY, &mut memory, &parameter.field, bytes));
        if !known {
            return Err(invalid(parameter));
        }
    }
    set(&client, &domain, Tuning { memory, ..Tuning::default() }, affects).await
}

/// virDomainNumatuneMemMode.
const NUMA_MODES: [&str; 4] = ["strict", "preferred", "interleave", "restrictive"];

pub(crate) async fn numa(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<Answer, Failure> {
    let affects = affects(flags, STRINGS, "virDomainGetNumaParameters")?;
    let numa = get(&client, &domain, affects).await?.numa;
    let mode = numa.mode.and_then(|mode| NUMA_MODES.iter().position(|known| *known == mode));
    let nodes = numa.nodes.unwrap_or_default().into_iter().map(u32::from).collect();
    let mut all = Parameters::default();
    all.int("numa_mode", super::count(mode.unwrap_or(0)));
    if flags & STRINGS != 0 {
        all.string("numa_nodeset", ranges(nodes));
    }
    Ok(all.within(room))
}

pub(crate) async fn set_numa(
    client: Client,
    (domain, parameters, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, STRINGS, "virDomainSetNumaParameters")?;
    let mut numa = NumaTuning::default();
    for parameter in &parameters {
        match (&*parameter.field, &parameter.value) {
            ("numa_mode", Value::Int(mode)) => {
                let mode = usize::try_from(*mode).ok().and_then(|mode| NUMA_MODES.get(mode));
                numa.mode = Some((*mode.ok_or_else(|| invalid(parameter))?).to_owned());
            }
            ("numa_nodeset", Value::String(nodes)) => {
                let nodes = ids(nodes).ok_or_else(|| invalid(parameter))?;
                let nodes = nodes.into_iter().filter_map(|node| u16::try_from(node).ok());
                numa.nodes = Some(nodes.collect());
            }
            _ => return Err(invalid(parameter)),
        }
    }
    set(&client, &domain, Tuning { numa, ..Tuning::default() }, affects).await
}

pub(crate) async fn block(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<Answer, Failure> {
    let affects = affects(flags, STRINGS, "virDomainGetBlkioParameters")?;
    let block = get(&client, &domain, affects).await?.block;
    let mut all = Parameters::default();
    all.uint("weight", block.weight.unwrap_or(0));
    Ok(all.within(room))
}

pub(crate) async fn set_block(
    client: Client,
    (domain, parameters, flags): (Domain, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, STRINGS, "virDomainSetBlkioParameters")?;
    let mut block = BlockTuning::default();
    for parameter in &parameters {
        let weight = unsigned(&parameter.value).and_then(|value| u32::try_from(value).ok());
        match (&*parameter.field, weight) {
            ("weight", Some(weight)) => block.weight = Some(weight),
            _ => return Err(invalid(parameter)),
        }
    }
    set(&client, &domain, Tuning { block, ..Tuning::default() }, affects).await
}

pub(crate) async fn disk(
    client: Client,
    (domain, disk, room, flags): (Domain, Option<String>, i32, u32),
) -> Result<Answer, Failure> {
    let affects = affects(flags, STRINGS, "virDomainGetBlockIoTune")?;
    let disks = get(&client, &domain, affects).await?.disks;
    // Without a disk, a client asks which parameters there are.
    let disk = match disk {
        Some(disk) => Some(disk_target(&client, &domain, &disk, affects.config).await?),
        None => None,
    };
    let found = disk.and_then(|disk| disks.into_iter().find(|found| found.disk == disk));
    let mut found = found.unwrap_or_default();
    let mut all = Parameters::default();
    for (name, field) in DISK {
        all.ullong(name, field(&mut found).unwrap_or(0));
    }
    if flags & STRINGS != 0 {
        all.string("group_name", found.group_name.unwrap_or_default());
    }
    Ok(all.within(room))
}

pub(crate) async fn set_disk(
    client: Client,
    (domain, disk, parameters, flags): (Domain, String, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, STRINGS, "virDomainSetBlockIoTune")?;
    let mut tuning = DiskTuning { disk, ..DiskTuning::default() };
    for parameter in &parameters {
        match (&*parameter.field, &parameter.value) {
            ("group_name", Value::String(name)) => tuning.group_name = Some(name.clone()),
            (name, value) => {
                let known =
                    unsigned(value).is_some_and(|value| field(&DISK, &mut tuning, name, value));
                if !known {
                    return Err(invalid(parameter));
                }
            }
        }
    }
    set(&client, &domain, Tuning { disks: vec![tuning], ..Tuning::default() }, affects).await
}

pub(crate) async fn interface(
    client: Client,
    (domain, interface, room, flags): (Domain, String, i32, u32),
) -> Result<Answer, Failure> {
    let affects = affects(flags, STRINGS, "virDomainGetInterfaceParameters")?;
    let all = get(&client, &domain, affects).await?.interfaces;
    let list = ListInterfaces { domain: domain.reference(), inactive: affects.config };
    let rows = client.domain(list).await?;
    let is_it = |row: &InterfaceRow| {
        row.mac.eq_ignore_ascii_case(&interface) || row.target.as_ref() == Some(&interface)
    };
    let row = rows.iter().find(|row| is_it(row)).ok_or_else(|| {
        let text = format!("the domain has no interface {interface:?}");
        Failure::invalid_argument(Area::Domain, &text)
    })?;
    let found = all.into_iter().find(|found| found.interface == row.mac).unwrap_or_default();
    let mut all = Parameters::default();
    for (side, rate) in [("inbound", found.inbound), ("outbound", found.outbound)] {
        let rate = rate.unwrap_or_default();
        all.uint(format!("{side}.average"), rate.average);
        all.uint(format!("{side}.peak"), rate.peak.unwrap_or(0));
        all.uint(format!("{side}.burst"), rate.burst.unwrap_or(0));
        if side == "inbound" {
            // Clients count on it.
            all.uint("inbound.floor", 0);
        }
    }
    Ok(all.within(room))
}

pub(crate) async fn set_interface(
    client: Client,
    (domain, interface, parameters, flags): (Domain, String, Vec<Parameter>, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, STRINGS, "virDomainSetInterfaceParameters")?;
    let mut tuning = InterfaceTuning { interface, inbound: None, outbound: None };
    for parameter in &parameters {
        let value = unsigned(&parameter.value).and_then(|value| u32::try_from(value).ok());
        let value = value.ok_or_else(|| invalid(parameter))?;
        let (side, figure) = parameter.field.split_once('.').unwrap_or_default();
        let rate = match side {
            "inbound" => &mut tuning.inbound,
            "outbound" => &mut tuning.outbound,
            _ => return Err(invalid(parameter)),
        };
        let rate = rate.get_or_insert_with(RateTuning::default);
        match figure {
            "average" => rate.average = value,
            "peak" => rate.peak = Some(value).filter(|value| *value > 0),
            "burst" => rate.burst = Some(value).filter(|value| *value > 0),
            "floor" if value == 0 => {}
            _ => return Err(invalid(parameter)),
        }
    }
    set(&client, &domain, Tuning { interfaces: vec![tuning], ..Tuning::default() }, affects).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_parameters_come_back_as_they_went() {
        let cpu = CpuTuning {
            shares: Some(2048),
            period_us: Some(100_000),
            quota_us: Some(-1),
            global_quota_us: Some(50_000),
            ..CpuTuning::default()
        };
        let mut parameters = of_cpu(cpu.clone()).0;
        // Nothing is nothing, also where it is written as 0.
        parameters
            .retain(|parameter| !matches!(parameter.value, Value::Ullong(0) | Value::Llong(0)));
        assert_eq!(cpu_of(&parameters).ok(), Some(cpu));
        let wrong = Parameter { field: "shares".into(), value: Value::Ullong(1) };
        assert!(cpu_of(&[wrong]).is_err());
        let text = Parameter { field: "cpu_shares".into(), value: Value::String("1".into()) };
        assert!(cpu_of(&[text]).is_err());
    }
}
