//! Scopes of systemd: a process that already exists becomes a unit of its own, with a cgroup that
//! no command about the daemon's unit reaches. Asked for over D-Bus (its specification, "Message
//! Protocol"; `org.freedesktop.systemd1.Manager.StartTransientUnit`).

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup::limits::{self, CpuQuota, DeviceLimits, Limits};

/// There exactly while systemd is the init (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const BUS: &str = "/run/dbus/system_bus_socket";
/// Guests appear together in `systemd-cgls`, and can be given limits together.
const SLICE: &str = "manor.slice";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const PATIENCE: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(2);
/// Far above any answer to what is asked here.
const LONGEST: u32 = 1 << 16;
/// A guest asked to power off before the host does has this long.
const SHUTDOWN_US: u64 = 90_000_000;

/// Whether scopes can be had here; why not, if systemd runs and does not answer.
pub(crate) fn available() -> io::Result<bool> {
    if !Path::new(BOOTED).exists() || !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    Bus::connect(Path::new(BUS)).map(|_| true)
}

/// Where a scope lies below the root of the hierarchy.
pub(crate) fn place(name: &str) -> String {
    format!("{SLICE}/manor-{name}.scope")
}

/// The scope's name, if this is the cgroup of one.
pub(crate) fn unit_of(cgroup: &Path) -> Option<&str> {
    let in_slice = cgroup.parent().is_some_and(|slice| slice.ends_with(SLICE));
    cgroup.file_name()?.to_str().filter(|name| in_slice && name.ends_with(".scope"))
}

/// Make the process a scope; returns when it is in the scope's cgroup.
pub(crate) fn adopt(pid: u32, unit: &str, guest: &str, limits: &Limits) -> io::Result<()> {
    let limits = properties(limits, false)?;
    let until = Instant::now() + PATIENCE;
    let mut bus = Bus::connect(Path::new(BUS))?;
    loop {
        match bus.call(
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            &start(pid, unit, guest, &limits),
        )? {
            Ok(()) => break,
            // That of the guest's last run, which systemd has yet to forget.
            Err(error) if error.name == UNIT_EXISTS && Instant::now() < until => {
                std::thread::sleep(TURN);
            }
            Err(error) => {
                return Err(io::Error::other(format!(
                    "systemd makes no {unit}: {} ({})",
                    error.text, error.name
                )));
            }
        }
    }
    // The answer says that the job is queued.
    while !is_in(pid, unit)? {
        if Instant::now() >= until {
            return Err(io::Error::other(format!("systemd did not start {unit} within 5 s")));
        }
        std::thread::sleep(TURN);
    }
    Ok(())
}

/// Put `limits` into force in a scope that is there; what was and is no longer is taken back.
pub(crate) fn limit(unit: &str, limits: &Limits) -> io::Result<()> {
    let mut body = Body::default();
    body.string(unit);
    // Until the scope ends.
    body.u32(1);
    let properties = properties(limits, true)?;
    body.array(8, |list| properties.iter().for_each(|property| property.write(list)));
    match Bus::connect(Path::new(BUS))?.call("SetUnitProperties", "sba(sv)", &body.bytes)? {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(format!("{} ({})", error.text, error.name))),
    }
}

/// A limit as systemd names it (systemd.resource-control(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Property {
    name: &'static str,
    value: Setting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Setting {
    Number(u64),
    /// Of devices, by the paths of their nodes.
    Devices(Vec<(String, u64)>),
}

impl Property {
    fn write(&self, list: &mut Body) {
        list.align(8);
        list.string(self.name);
        match &self.value {
            Setting::Number(number) => {
                list.signature("t");
                list.u64(*number);
            }
            Setting::Devices(devices) => {
                list.signature("a(st)");
                list.array(8, |entries| {
                    for (path, value) in devices {
                        entries.align(8);
                        entries.string(path);
                        entries.u64(*value);
                    }
                });
            }
        }
    }
}

/// With `all`, also what is not limited.
fn properties(limits: &Limits, all: bool) -> io::Result<Vec<Property>> {
    // systemd's word for no limit, and for a weight that is not set.
    const NONE: u64 = u64::MAX;
    const SECOND_US: u64 = 1_000_000;
    let mut found = Vec::new();
    let mut number = |name, value: Option<u64>| {
        if all || value.is_some() {
            found.push(Property { name, value: Setting::Number(value.unwrap_or(NONE)) });
        }
    };
    number("CPUWeight", limits.cpu_weight.map(u64::from));
    number("CPUQuotaPeriodUSec", limits.cpu.map(|cpu| cpu.period));
    let per_second = |cpu: CpuQuota| {
        let share = u128::from(cpu.quota) * u128::from(SECOND_US) / u128::from(cpu.period.max(1));
        u64::try_from(share).unwrap_or(NONE)
    };
    number("CPUQuotaPerSecUSec", limits.cpu.map(per_second));
    number("MemoryHigh", limits.memory_high);
    number("MemorySwapMax", limits.swap_max);
    number("MemoryMax", limits.memory_max);
    number("IOWeight", limits.io_weight.map(u64::from));
    let mut devices = |name, value: fn(&DeviceLimits) -> Option<u64>| -> io::Result<()> {
        let limited: Vec<_> =
            limits.devices.iter().filter_map(|device| Some((device, value(device)?))).collect();
        let mut entries = Vec::new();
        for (device, value) in limited {
            limits::number_of(&device.path).map_err(io::Error::other)?;
            let path = device.path.to_str();
            let path = path.ok_or_else(|| io::Error::other("the device's path is not UTF-8"))?;
            entries.push((path.to_owned(), value));
        }
        if all {
            // An empty list lets all go; a full one adds to what is there.
            found.push(Property { name, value: Setting::Devices(Vec::new()) });
        }
        if !entries.is_empty() {
            found.push(Property { name, value: Setting::Devices(entries) });
        }
        Ok(())
    };
    devices("IODeviceWeight", |device| device.weight.map(u64::from))?;
    devices("IOReadBandwidthMax", |device| device.read_bytes)?;
    devices("IOWriteBandwidthMax", |device| device.write_bytes)?;
    devices("IOReadIOPSMax", |device| device.read_requests)?;
    devices("IOWriteIOPSMax", |device| device.write_requests)?;
    Ok(found)
}

fn is_in(pid: u32, unit: &str) -> io::Result<bool> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(text.lines().any(|line| {
        line.strip_prefix("0::").is_some_and(|path| path.ends_with(&format!("/{unit}")))
    }))
}

/// The arguments of StartTransientUnit.
fn start(pid: u32, unit: &str, guest: &str, limits: &[Property]) -> Vec<u8> {
    let mut body = Body::default();
    body.string(unit);
    body.string("fail");
    body.array(8, |list| {
        let mut property = |name: &str, signature: &str, value: &dyn Fn(&mut Body)| {
            list.align(8);
            list.string(name);
            list.signature(signature);
            value(list);
        };
        property("Description", "s", &|v| v.string(&format!("Manor guest {guest}")));
        property("Slice", "s", &|v| v.string(SLICE));
        property("PIDs", "au", &|v| v.array(4, |pids| pids.u32(pid)));
        property("Delegate", "b", &|v| v.u32(1));
        property("CollectMode", "s", &|v| v.string("inactive-or-failed"));
        // When the host goes down, guests go before the daemon, their disks and their network; they
        // are asked first (at SIGPWR, by their agent or their power button).
        property("KillSignal", "i", &|v| v.u32(libc::SIGPWR.unsigned_abs()));
        property("TimeoutStopUSec", "t", &|v| v.u64(SHUTDOWN_US));
        property("After", "as", &|v| {
            v.array(4, |units| {
                let before =
                    ["manor.service", "local-fs.target", "remote-fs.target", "network.target"];
                before.iter().for_each(|unit| units.string(unit));
            });
        });
        // It shuts guests down in their order, before their scopes end.
        property("Before", "as", &|v| v.array(4, |units| units.string("manor-guests.service")));
        limits.iter().for_each(|limit| limit.write(list));
    });
    body.array(8, |_| {});
    body.bytes
}

/// What the other side of the bus says instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    name: String,
    text: String,
}

/// A connection to the system bus, for calls to systemd.
struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Bus {
    fn connect(path: &Path) -> io::Result<Bus> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Bus { stream: BufReader::new(stream), serial: 0 };
        // The kernel says who we are; the text says whom we claim to be.
        let uid: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect();
        bus.stream.get_mut().write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let mut line = String::new();
        (&mut bus.stream).take(4096).read_line(&mut line)?;
        if !line.starts_with("OK ") {
            return Err(io::Error::other(format!("the system bus refuses us: {}", line.trim())));
        }
        bus.stream.get_mut().write_all(b"BEGIN\r\n")?;
        let bus_itself = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        match bus.call_at(bus_itself, "Hello", "", &[])? {
            Ok(()) => Ok(bus),
            Err(refusal) => Err(io::Error::other(refusal.text)),
        }
    }

    fn call(
        &mut self,
        method: &str,
        signature: &str,
        body: &[u8],
    ) -> io::Result<Result<(), Refusal>> {
        let manager = (SYSTEMD, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
        self.call_at(manager, method, signature, body)
    }

    fn call_at(
        &mut self,
        (destination, path, interface): (&str, &str, &str),
        method: &str,
        signature: &str,
        body: &[u8],
    ) -> io::Result<Result<(), Refusal>> {
        self.serial += 1;
        let serial = self.serial;
        let mut message = Body::default();
        message.bytes.extend_from_slice(&[b'l', METHOD_CALL, 0, 1]);
        message.u32(u32::try_from(body.len()).map_err(io::Error::other)?);
        message.u32(serial);
        message.array(8, |fields| {
            for (code, kind, text) in
                [(1, "o", path), (6, "s", destination), (2, "s", interface), (3, "s", method)]
            {
                fields.align(8);
                fields.bytes.push(code);
                fields.signature(kind);
                fields.string(text);
            }
            if !signature.is_empty() {
                fields.align(8);
                fields.bytes.push(SIGNATURE);
                fields.signature("g");
                fields.signature(signature);
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&message.bytes)?;
        loop {
            let answer = self.receive()?;
            if answer.answers != Some(serial) {
                continue; // a signal
            }
            return Ok(match answer.error {
                None => Ok(()),
                Some(name) => Err(Refusal { name, text: answer.text }),
            });
        }
    }

    fn receive(&mut self) -> io::Result<Answer> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        let word = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let (body, fields) = (word(4), word(12));
        if fixed[0] != b'l' || body > LONGEST || fields > LONGEST {
            return Err(garbled());
        }
        // The header ends on a multiple of eight.
        let mut header = vec![0; (fields as usize).next_multiple_of(8)];
        self.stream.read_exact(&mut header)?;
        let mut text = vec![0; body as usize];
        self.stream.read_exact(&mut text)?;
        header.truncate(fields as usize);
        Answer::parse(fixed[1], &header, &text).ok_or_else(garbled)
    }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the system bus sent what is no message")
}

const METHOD_CALL: u8 = 1;
const ERROR: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const SIGNATURE: u8 = 8;

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// The call it belongs to.
    answers: Option<u32>,
    error: Option<String>,
    /// Of an error, for people.
    text: String,
}

impl Answer {
    fn parse(kind: u8, mut fields: &[u8], body: &[u8]) -> Option<Answer> {
        let all = fields.len();
        let mut answer = Answer::default();
        let mut signature = String::new();
        while !fields.is_empty() {
            // Structures begin on a multiple of eight, counted from the first field.
            fields =
                fields.get((all - fields.len()).next_multiple_of(8) - (all - fields.len())..)?;
            let [code, 1, value, 0, rest @ ..] = fields else { return None };
            let (length, start) = match value {
                b'u' | b's' | b'o' => (number(rest)?, 4),
                b'g' => (u32::from(*rest.first()?), 1),
                _ => return None,
            };
            if *value == b'u' {
                if *code == REPLY_SERIAL {
                    answer.answers = Some(length);
                }
                fields = rest.get(start..)?;
                continue;
            }
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            let text = std::str::from_utf8(rest.get(start..end)?).ok()?;
            match *code {
                ERROR_NAME if kind == ERROR => answer.error = Some(text.to_owned()),
                SIGNATURE => text.clone_into(&mut signature),
                _ => {}
            }
            fields = rest.get(end.checked_add(1)?..)?;
        }
        if answer.error.is_some() && signature.starts_with('s') {
            let end = usize::try_from(number(body)?).ok()?.checked_add(4)?;
            answer.text = String::from_utf8_lossy(body.get(4..end)?).into_owned();
        }
        Some(answer)
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// Values as the bus marshals them, little-endian.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(0));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(0));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// The length before it counts neither itself nor what aligns the first element.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Body)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(0);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_the_specification_aligns_them() {
        let mut body = Body::default();
        body.signature("s");
        body.string("ab");
        body.array(8, |list| {
            list.align(8);
            list.u64(7);
        });
        let expected = [
            &[1, b's', 0, 0][..],
            &[2, 0, 0, 0, b'a', b'b', 0, 0],
            &[8, 0, 0, 0],
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(body.bytes, expected);
    }

    fn error_fields() -> Vec<u8> {
        let mut fields = Body::default();
        fields.bytes.push(REPLY_SERIAL);
        fields.signature("u");
        fields.u32(2);
        fields.align(8);
        fields.bytes.push(ERROR_NAME);
        fields.signature("s");
        fields.string(UNIT_EXISTS);
        fields.align(8);
        fields.bytes.push(SIGNATURE);
        fields.signature("g");
        fields.signature("s");
        fields.bytes
    }

    #[test]
    fn a_refusal_is_read_with_its_name_and_text() {
        let mut body = Body::default();
        body.string("Unit x.scope already exists.");
        let answer = Answer::parse(ERROR, &error_fields(), &body.bytes).unwrap();
        assert_eq!(answer.answers, Some(2));
        assert_eq!(answer.error.as_deref(), Some(UNIT_EXISTS));
        assert_eq!(answer.text, "Unit x.scope already exists.");
    }

    #[test]
    fn a_message_cut_short_anywhere_is_refused_and_never_read_past_its_end() {
        let fields = error_fields();
        for length in 0..fields.len() {
            // Between fields an end is an end.
            let _ = Answer::parse(ERROR, &fields[..length], &[]);
        }
        assert_eq!(Answer::parse(ERROR, &fields, &[9, 0, 0, 0, b'x']), None);
        assert_eq!(Answer::parse(ERROR, &[5, 1, b'x', 0, 0, 0, 0, 0], &[]), None);
    }

    #[test]
    fn limits_are_properties_and_one_that_is_gone_is_said_to_be() {
        let cpu = Some(CpuQuota { quota: 25_000, period: 50_000 });
        let limits = Limits { cpu, memory_max: Some(1 << 30), ..Limits::default() };
        let number = |name, number| Property { name, value: Setting::Number(number) };
        assert_eq!(
            properties(&limits, false).unwrap(),
            [
                number("CPUQuotaPeriodUSec", 50_000),
                number("CPUQuotaPerSecUSec", 500_000),
                number("MemoryMax", 1 << 30),
            ]
        );
        let all = properties(&Limits::default(), true).unwrap();
        assert!(all.contains(&number("MemoryMax", u64::MAX)));
        let none = Property { name: "IOReadBandwidthMax", value: Setting::Devices(Vec::new()) };
        assert!(all.contains(&none));
    }

    #[test]
    fn a_limit_of_a_device_is_marshalled_as_a_structure() {
        let mut body = Body::default();
        let devices = Setting::Devices(vec![("/d".to_owned(), 7)]);
        Property { name: "N", value: devices }.write(&mut body);
        let expected = [
            &[1, 0, 0, 0, b'N', 0][..],
            &[5, b'a', b'(', b's', b't', b')', 0, 0, 0, 0],
            // The length counts nothing of what aligns the first structure.
            &[16, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, b'/', b'd', 0, 0],
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(body.bytes, expected);
    }

    #[test]
    fn scopes_are_told_from_plain_directories() {
        let scope = Path::new("/sys/fs/cgroup").join(place("u-1"));
        assert_eq!(unit_of(&scope), Some("manor-u-1.scope"));
        assert_eq!(unit_of(Path::new("/sys/fs/cgroup/manor/domains/u-1")), None);
        assert_eq!(unit_of(Path::new("/sys/fs/cgroup/user.slice/a.scope")), None);
    }
}
