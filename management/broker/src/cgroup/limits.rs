//! [`Limits`]: what the processes of a domain may use of the host together, as files of its cgroup
//! (the kernel's cgroup-v2.rst).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::BrokerError;

/// What is not said has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// 1 to 10000; 100 without a word.
    pub cpu_weight: Option<u32>,
    pub cpu: Option<CpuQuota>,
    /// Bytes.
    pub memory_max: Option<u64>,
    pub memory_high: Option<u64>,
    pub swap_max: Option<u64>,
    /// 1 to 10000.
    pub io_weight: Option<u32>,
    pub devices: Vec<DeviceLimits>,
}

/// So much CPU time in each period, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuQuota {
    pub quota: u64,
    pub period: u64,
}

/// Of one block device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceLimits {
    pub path: PathBuf,
    pub weight: Option<u32>,
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
    pub read_requests: Option<u64>,
    pub write_requests: Option<u64>,
}

impl CpuQuota {
    pub(super) fn text(quota: Option<Self>) -> String {
        match quota {
            Some(Self { quota, period }) => format!("{quota} {period}"),
            None => "max 100000".to_owned(),
        }
    }
}

impl DeviceLimits {
    fn limits(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("rbps", self.read_bytes),
            ("wbps", self.write_bytes),
            ("riops", self.read_requests),
            ("wiops", self.write_requests),
        ]
    }

    fn is_limited(&self) -> bool {
        self.limits().iter().any(|(_, limit)| limit.is_some())
    }
}

impl Limits {
    /// What has to be there for them.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let cpu = self.cpu_weight.is_some() || self.cpu.is_some();
        let memory = [self.memory_max, self.memory_high, self.swap_max].iter().any(Option::is_some);
        let io = self.io_weight.is_some() || !self.devices.is_empty();
        let needed = [("cpu", cpu), ("memory", memory), ("io", io)];
        needed.into_iter().filter_map(|(name, needed)| needed.then_some(name)).collect()
    }

    /// Put them into force in `cgroup`, whose controllers are there; what was and is no longer is
    /// taken back.
    pub(super) fn write(&self, cgroup: &Path) -> Result<(), BrokerError> {
        let number = |value: Option<u64>| value.map_or("max".to_owned(), |value| value.to_string());
        let weight = self.cpu_weight.map(|weight| weight.to_string());
        put(cgroup, "cpu", "cpu.weight", weight.as_deref(), "100")?;
        let quota = self.cpu.map(|quota| CpuQuota::text(Some(quota)));
        put(cgroup, "cpu", "cpu.max", quota.as_deref(), &CpuQuota::text(None))?;
        for (file, value) in [
            // The threshold first: it gives memory back before the hard limit kills.
            ("memory.high", self.memory_high),
            ("memory.swap.max", self.swap_max),
            ("memory.max", self.memory_max),
        ] {
            let text = value.map(|value| number(Some(value)));
            put(cgroup, "memory", file, text.as_deref(), "max")?;
        }
        self.write_weights(cgroup)?;
        self.write_maxima(cgroup)
    }

    fn write_weights(&self, cgroup: &Path) -> Result<(), BrokerError> {
        // The BFQ scheduler has weights of its own, up to 1000; the iocost controller the others.
        let bfq = "io.bfq.weight";
        let (file, most) =
            if cgroup.join(bfq).exists() { (bfq, 1000) } else { ("io.weight", 10_000) };
        let default = |weight: u32| match file == bfq {
            true => weight.to_string(),
            false => format!("default {weight}"),
        };
        let weight = self.io_weight.map(|weight| default(weight.min(most)));
        put(cgroup, "io", file, weight.as_deref(), &default(100))?;
        let wanted = self.devices.iter().filter_map(|device| Some((device, device.weight?)));
        let mut kept = BTreeSet::new();
        for (device, weight) in wanted {
            let number = number_of(&device.path)?;
            put(cgroup, "io", file, Some(&format!("{number} {}", weight.min(most))), "")?;
            kept.insert(number);
        }
        forget(cgroup, file, &kept, "default")
    }

    fn write_maxima(&self, cgroup: &Path) -> Result<(), BrokerError> {
        let mut kept = BTreeSet::new();
        for device in self.devices.iter().filter(|device| device.is_limited()) {
            let number = number_of(&device.path)?;
            let mut line = number.clone();
            for (key, limit) in device.limits() {
                let limit = limit.map_or("max".to_owned(), |limit| limit.to_string());
                let _ = write!(line, " {key}={limit}");
            }
            put(cgroup, "io", "io.max", Some(&line), "")?;
            kept.insert(number);
        }
        forget(cgroup, "io.max", &kept, "rbps=max wbps=max riops=max wiops=max")
    }
}

/// Take back what `file` says of devices that nothing is said of any more.
fn forget(
    cgroup: &Path,
    file: &str,
    kept: &BTreeSet<String>,
    default: &str,
) -> Result<(), BrokerError> {
    let Ok(said) = std::fs::read_to_string(cgroup.join(file)) else { return Ok(()) };
    for number in said.lines().filter_map(|line| line.split(' ').next()) {
        if number.contains(':') && !kept.contains(number) {
            put(cgroup, "io", file, Some(&format!("{number} {default}")), "")?;
        }
    }
    Ok(())
}

/// Write `value`; without one `default`, if there is such a file at all.
fn put(
    cgroup: &Path,
    controller: &'static str,
    file: &str,
    value: Option<&str>,
    default: &str,
) -> Result<(), BrokerError> {
    let path = cgroup.join(file);
    if !path.exists() {
        return match value {
            None => Ok(()),
            Some(_) => Err(BrokerError::NoController {
                controller: controller.into(),
                reason: format!("the kernel has no {}", path.display()),
            }),
        };
    }
    let text = value.unwrap_or(default);
    std::fs::write(&path, text).map_err(|source| BrokerError::Limit {
        path,
        value: text.to_owned(),
        source,
    })
}

/// `major:minor` of a block device.
pub(crate) fn number_of(path: &Path) -> Result<String, BrokerError> {
    let meta = std::fs::metadata(path)
        .map_err(|error| BrokerError::open("look at", "block device", path, error))?;
    if !meta.file_type().is_block_device() {
        let (what, path) = ("the device of <blkiotune>".to_owned(), path.to_owned());
        let found = if meta.is_dir() { "a directory" } else { "no block device" };
        return Err(BrokerError::WrongKind {
            what,
            path,
            found: found.into(),
            expected: "a block device".into(),
        });
    }
    let device = meta.rdev();
    Ok(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Have `controllers` in `cgroup`: enabled in every cgroup above it.
pub(super) fn enable(
    mount: &Path,
    cgroup: &Path,
    controllers: &[&'static str],
) -> Result<(), BrokerError> {
    let Some(controller) = controllers.first() else { return Ok(()) };
    // systemd starts a service in its own cgroup again, which must then have none enabled.
    let is_service = |path: &Path| path.extension().is_some_and(|end| end == "service");
    if let Some(service) = cgroup.ancestors().find(|path| is_service(path)) {
        let reason = format!(
            "the domain was put below {}, as systemd gave it no scope; see the daemon's log",
            service.display()
        );
        return Err(BrokerError::NoController { controller: (*controller).into(), reason });
    }
    let mut above: Vec<&Path> = cgroup.ancestors().skip(1).collect();
    above.retain(|path| path.starts_with(mount));
    for path in above.into_iter().rev() {
        enable_below(path, controllers)?;
    }
    Ok(())
}

/// Have `controllers` in the cgroups below `parent`.
pub(super) fn enable_below(parent: &Path, controllers: &[&'static str]) -> Result<(), BrokerError> {
    let list = |file: &str| -> Result<String, BrokerError> {
        let path = parent.join(file);
        std::fs::read_to_string(&path)
            .map_err(BrokerError::host(format!("read {}", path.display())))
    };
    let (there, enabled) = (list("cgroup.controllers")?, list("cgroup.subtree_control")?);
    for controller in controllers {
        let is_in = |list: &str| list.split_whitespace().any(|name| name == *controller);
        if is_in(&enabled) {
            continue;
        }
        if !is_in(&there) {
            return Err(BrokerError::NoController {
                controller: (*controller).into(),
                reason: why_absent(controller, parent),
            });
        }
        let path = parent.join("cgroup.subtree_control");
        let value = format!("+{controller}");
        std::fs::write(&path, &value).map_err(|source| BrokerError::Limit {
            path,
            value,
            source,
        })?;
    }
    Ok(())
}

pub(crate) fn why_absent(controller: &str, cgroup: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if is_version_1(&mounts, controller) {
        return "the host has it in cgroup version 1 (start the kernel with cgroup_no_v1=all)"
            .into();
    }
    format!("{} does not list it in cgroup.controllers", cgroup.display())
}

fn is_version_1(mountinfo: &str, controller: &str) -> bool {
    let name = if controller == "io" { "blkio" } else { controller };
    mountinfo.lines().filter_map(|line| line.split_once(" - ")).any(|(_, filesystem)| {
        let mut fields = filesystem.split(' ');
        fields.next() == Some("cgroup")
            && fields.next_back().is_some_and(|options| options.split(',').any(|o| o == name))
    })
}

/// A write that the kernel refuses, in words.
pub(crate) fn explain(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENODEV) => ": no disk has this number (a partition cannot be limited)",
        Some(libc::ERANGE) => ": it is out of the kernel's range",
        Some(libc::EBUSY) => ": the memory cannot be given back, or processes are in the way",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, as the kernel would have it; writes replace what is there.
    fn cgroup(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(dir.path().join(name)).unwrap()
    }

    const ALL: &[(&str, &str)] = &[
        ("cpu.weight", ""),
        ("cpu.max", ""),
        ("memory.max", ""),
        ("memory.high", ""),
        ("memory.swap.max", ""),
        ("io.weight", ""),
        ("io.max", ""),
    ];

    #[test]
    fn limits_are_written_as_the_kernel_reads_them_and_taken_back_when_gone() {
        let dir = cgroup(ALL);
        let limits = Limits {
            cpu_weight: Some(300),
            cpu: Some(CpuQuota { quota: 50_000, period: 100_000 }),
            memory_max: Some(1 << 30),
            memory_high: Some(1 << 29),
            swap_max: Some(0),
            io_weight: Some(500),
            devices: Vec::new(),
        };
        limits.write(dir.path()).unwrap();
        assert_eq!(read(&dir, "cpu.weight"), "300");
        assert_eq!(read(&dir, "cpu.max"), "50000 100000");
        assert_eq!(read(&dir, "memory.max"), "1073741824");
        assert_eq!(read(&dir, "memory.high"), "536870912");
        assert_eq!(read(&dir, "memory.swap.max"), "0");
        assert_eq!(read(&dir, "io.weight"), "default 500");
        Limits::default().write(dir.path()).unwrap();
        assert_eq!(read(&dir, "cpu.weight"), "100");
        assert_eq!(read(&dir, "cpu.max"), "max 100000");
        assert_eq!(read(&dir, "memory.max"), "max");
        assert_eq!(read(&dir, "memory.swap.max"), "max");
        assert_eq!(read(&dir, "io.weight"), "default 100");
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error_that_names_it_and_no_limit_is_none() {
        let dir = cgroup(&[("cpu.weight", "100")]);
        Limits::default().write(dir.path()).unwrap();
        let limits = Limits { memory_max: Some(1), ..Limits::default() };
        let error = limits.write(dir.path()).unwrap_err();
        let lacking = matches!(&error, BrokerError::NoController { controller, .. } if controller == "memory");
        assert!(lacking, "{error}");
    }

    #[test]
    fn devices_that_are_limited_no_longer_are_let_go() {
        let dir = cgroup(&[("io.max", "8:0 rbps=1 wbps=max riops=max wiops=max\n")]);
        Limits::default().write(dir.path()).unwrap();
        assert_eq!(read(&dir, "io.max"), "8:0 rbps=max wbps=max riops=max wiops=max");
    }

    #[test]
    fn a_file_is_no_device() {
        let dir = cgroup(&[("io.max", "")]);
        let path = dir.path().join("io.max");
        let error = number_of(&path).unwrap_err();
        assert!(error.to_string().ends_with("it must be a block device"), "{error}");
    }

    #[test]
    fn controllers_are_enabled_where_they_are_offered() {
        let mount = cgroup(&[
            ("cgroup.controllers", "cpu io memory\n"),
            ("cgroup.subtree_control", "cpu\n"),
        ]);
        let inner = mount.path().join("manor");
        std::fs::create_dir_all(inner.join("u-1")).unwrap();
        std::fs::write(inner.join("cgroup.controllers"), "cpu memory\n").unwrap();
        std::fs::write(inner.join("cgroup.subtree_control"), "").unwrap();
        enable(mount.path(), &inner.join("u-1"), &["memory"]).unwrap();
        assert_eq!(read(&mount, "cgroup.subtree_control"), "+memory");
        let error = enable(mount.path(), &inner.join("u-1"), &["io"]).unwrap_err();
        assert!(error.to_string().contains("\"io\""), "{error}");
        let below = mount.path().join("x.service/domains/u-1");
        let error = enable(mount.path(), &below, &["cpu"]).unwrap_err();
        assert!(error.to_string().contains("x.service"), "{error}");
    }

    #[test]
    fn a_controller_of_version_1_is_found_by_its_name() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 23 0:27 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
                      32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,memory\n";
        assert!(is_version_1(mounts, "cpu"));
        assert!(is_version_1(mounts, "io"));
        assert!(!is_version_1(mounts, "memory"));
    }
}
