//! Pools on file systems that are mounted when the pool starts, and unmounted when it stops.
//!
//! A device is mounted by the kernel alone. A network file system needs the host's helper, which
//! knows the protocols that find the server's ports. Nothing on them is run, or is a device.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{major, minor, stat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde::{Deserialize, Serialize};

use super::POOL;
use crate::BrokerError;
use crate::policy::{Judge, Wish};

/// What is mounted on a pool's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MountSource {
    Device {
        device: PathBuf,
        /// As the kernel calls it; none: whichever of those it knows fits.
        format: Option<String>,
    },
    Nfs {
        host: String,
        dir: PathBuf,
    },
}

impl MountSource {
    fn name(&self) -> String {
        match self {
            Self::Device { device, .. } => device.display().to_string(),
            Self::Nfs { host, dir } => {
                // An IPv6 address has colons of its own.
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!("{host}:{}", dir.display())
            }
        }
    }
}

/// Where it is already, nothing is done.
pub(super) fn mount_pool(
    judge: Judge<'_>,
    pool: &Path,
    source: &MountSource,
) -> Result<(), BrokerError> {
    let place = judge.find(Wish::Write, POOL, pool, true)?;
    let pool = directory(place.real().unwrap_or(pool))?;
    if let Some(there) = mounted(&pool)? {
        return expect(&pool, &there, source);
    }
    match source {
        MountSource::Device { device, format } => {
            let found = judge.find(Wish::Write, "device", device, true)?;
            // Named as it really is, where none but root names devices.
            let device = found.real().unwrap_or(device);
            judge.steady(Wish::Write, device, device.parent().unwrap_or(device))?;
            device_on((&pool, place.by()), device, format.as_deref())
        }
        MountSource::Nfs { host, .. } => {
            is_no_option(host)?;
            judge.steady(Wish::Write, &pool, pool.parent().unwrap_or(&pool))?;
            network_on(&pool, &source.name())
        }
    }
}

/// The helper would read it as one.
fn is_no_option(host: &str) -> Result<(), BrokerError> {
    match host.starts_with('-') {
        true => Err(BrokerError::UnknownHost {
            host: host.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "no host's name begins with '-'"),
        }),
        false => Ok(()),
    }
}

/// Where it is not there, nothing is done.
pub(super) fn unmount_pool(
    judge: Judge<'_>,
    pool: &Path,
    source: &MountSource,
) -> Result<(), BrokerError> {
    let pool = {
        // What is open there would keep it busy.
        let place = judge.find(Wish::Write, POOL, pool, true)?;
        directory(place.real().unwrap_or(pool))?
    };
    let Some(there) = mounted(&pool)? else { return Ok(()) };
    expect(&pool, &there, source)?;
    unmount(&pool, UnmountFlags::NOFOLLOW).map_err(|errno| match errno {
        Errno::BUSY => BrokerError::MountBusy { path: pool.clone() },
        _ => BrokerError::host(format!("unmount {}", pool.display()))(errno.into()),
    })
}

/// By its real name: that is how the kernel knows it.
fn directory(pool: &Path) -> Result<PathBuf, BrokerError> {
    let found = fs::canonicalize(pool);
    let found = found.map_err(|error| BrokerError::open("read", POOL, pool, error))?;
    if !found.is_dir() {
        return Err(BrokerError::WrongKind {
            what: POOL.to_owned(),
            path: pool.to_owned(),
            found: "no directory".into(),
            expected: "one".into(),
        });
    }
    Ok(found)
}

/// A mount of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    /// `major:minor` of its device.
    device: String,
    source: String,
}

/// All mounts of the host: where, the number of the device, and what it is called.
pub(crate) fn mounts() -> Result<Vec<(PathBuf, String, PathBuf)>, BrokerError> {
    let all = table()?;
    let all = all.lines().filter_map(parse);
    Ok(all.map(|(on, Mounted { device, source })| (on, device, source.into())).collect())
}

fn table() -> Result<String, BrokerError> {
    let path = "/proc/self/mountinfo";
    fs::read_to_string(path).map_err(BrokerError::host(format!("read {path}")))
}

/// What is mounted on a directory: of several, the one that is seen.
fn mounted(directory: &Path) -> Result<Option<Mounted>, BrokerError> {
    Ok(table()?
        .lines()
        .filter_map(parse)
        .filter(|(on, _)| on == directory)
        .map(|(_, it)| it)
        .next_back())
}

/// A line of `proc_pid_mountinfo(5)`.
fn parse(line: &str) -> Option<(PathBuf, Mounted)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let device = fields.next()?.to_owned();
    let on = unescape(fields.nth(1)?);
    let source = unescape(after.split(' ').nth(1)?);
    Some((on.into(), Mounted { device, source }))
}

/// Spaces and their like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let value = octal.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 8).ok());
        match value {
            Some(value) => {
                plain.push(value);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn expect(pool: &Path, there: &Mounted, source: &MountSource) -> Result<(), BrokerError> {
    let same = match source {
        MountSource::Device { device, .. } => {
            let of_device = |stat: rustix::fs::Stat| {
                format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev)) == there.device
            };
            // Some file systems (btrfs) have a number of their own; then the name tells.
            stat(device).is_ok_and(of_device)
                || fs::canonicalize(device)
                    .is_ok_and(|own| fs::canonicalize(&there.source).is_ok_and(|it| it == own))
        }
        MountSource::Nfs { .. } => there.source == source.name(),
    };
    if same {
        return Ok(());
    }
    Err(BrokerError::MountTaken { path: pool.to_owned(), source_there: there.source.clone() })
}

/// On a directory of that name, by this way to it.
fn device_on(
    (pool, by): (&Path, &Path),
    device: &Path,
    format: Option<&str>,
) -> Result<(), BrokerError> {
    let missing = |errno: Errno| BrokerError::open("mount", "device", device, errno.into());
    stat(device).map_err(missing)?;
    let formats = match format {
        Some(format) => vec![on_devices(format)?],
        None => known_formats()?,
    };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut failure = Errno::INVAL;
    for format in &formats {
        match mount(device, by, format.as_str(), flags, None) {
            Ok(()) => return Ok(()),
            // It is of another format, as far as this one can tell.
            Err(Errno::INVAL | Errno::UCLEAN | Errno::NODEV) if format_is_open(&formats) => {}
            Err(errno) => {
                failure = errno;
                break;
            }
        }
    }
    let what = match (failure, format) {
        (Errno::INVAL, None) => {
            let known = formats.join(", ");
            format!(
                ": it has no file system that the kernel knows now ({known}); name its format, or make one (mkfs)"
            )
        }
        (Errno::INVAL, Some(format)) => format!(" as {format}: it has no such file system"),
        (Errno::NODEV, Some(format)) => format!(" as {format}: the kernel has no such file system"),
        _ => String::new(),
    };
    let act = format!("mount {} on {}{what}", device.display(), pool.display());
    Err(BrokerError::host(act)(failure.into()))
}

fn format_is_open(formats: &[String]) -> bool {
    formats.len() > 1
}

/// Those that the kernel may have as modules that nobody has needed yet.
const USUAL: &[&str] = &[
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "gfs2", "hfs",
    "hfsplus", "iso9660", "jfs", "msdos", "nilfs2", "ntfs", "ntfs3", "ocfs2", "reiserfs",
    "squashfs", "udf", "ufs", "vfat", "xfs",
];

/// Others lie on no device but are the kernel itself (`proc`, `binfmt_misc`), and no pools.
fn on_devices(format: &str) -> Result<String, BrokerError> {
    if USUAL.contains(&format) || known_formats()?.iter().any(|known| known == format) {
        return Ok(format.to_owned());
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "it is none that lies on devices");
    Err(BrokerError::Host { act: format!("mount a file system of format {format:?}"), source })
}

/// Those on devices that the kernel has at present.
fn known_formats() -> Result<Vec<String>, BrokerError> {
    let path = "/proc/filesystems";
    let table = fs::read_to_string(path).map_err(BrokerError::host(format!("read {path}")))?;
    let on_device = |line: &str| Some(line.strip_prefix('\t')?.trim().to_owned());
    Ok(table.lines().filter_map(on_device).collect())
}

fn network_on(pool: &Path, source: &str) -> Result<(), BrokerError> {
    let helper = ["/sbin/mount.nfs", "/usr/sbin/mount.nfs"].map(Path::new);
    let helper = helper.into_iter().find(|path| path.exists()).ok_or(BrokerError::NoProgram {
        program: "mount.nfs".into(),
        package: "nfs-common (Debian, Ubuntu) or nfs-utils (Fedora, Arch, RHEL)".into(),
    })?;
    let mut command = Command::new(helper);
    // A server that does not answer is an error, and not two minutes of silence.
    command.arg(source).arg(pool).args(["-o", "nosuid,nodev,noexec,retry=0"]);
    run(command, &format!("mount {source} on {}", pool.display())).map(drop)
}

/// Run one of the host's programs to its end; what it said is the error.
pub(crate) fn run(mut command: Command, act: &str) -> Result<Vec<u8>, BrokerError> {
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    let output = command.stdin(Stdio::null()).output().map_err(BrokerError::host(act))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(BrokerError::host(act)(io::Error::other(said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_is_read_with_its_escapes() {
        let line =
            r"36 35 98:0 /mnt1 /srv/my\040images rw,noatime master:1 - ext4 /dev/my\134root rw";
        let there = Mounted { device: "98:0".to_owned(), source: r"/dev/my\root".to_owned() };
        assert_eq!(parse(line), Some((PathBuf::from("/srv/my images"), there)));
        assert_eq!(parse("36 35 98:0 /"), None);
        assert_eq!(unescape(r"\04"), r"\04");
        assert!(known_formats().unwrap().iter().all(|name| !name.contains(char::is_whitespace)));
    }

    #[test]
    fn a_server_is_named_as_its_helper_wants_it() {
        let nfs = |host: &str| MountSource::Nfs { host: host.to_owned(), dir: "/srv".into() };
        assert_eq!(nfs("nas").name(), "nas:/srv");
        assert_eq!(nfs("fd00::1").name(), "[fd00::1]:/srv");
    }

    #[test]
    fn a_server_that_would_be_an_option_of_the_helper_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for host in ["-o", "-oremount,rw", "--", "-", "-::1"] {
            let source = MountSource::Nfs { host: host.to_owned(), dir: "/srv".into() };
            let error = mount_pool(Judge::NONE, dir.path(), &source).unwrap_err();
            let is_named =
                matches!(&error, BrokerError::UnknownHost { host: named, .. } if named == host);
            assert!(is_named, "{host}: {error}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_and_nothing_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let source =
            |device: &Path| MountSource::Device { device: device.to_owned(), format: None };
        let device = dir.path().join("no-device");
        let error = mount_pool(Judge::NONE, dir.path(), &source(&device)).unwrap_err().to_string();
        assert!(error.contains("device") && error.contains("does not exist"), "{error}");
        let error = mount_pool(Judge::NONE, &dir.path().join("none"), &source(&device))
            .unwrap_err()
            .to_string();
        assert!(error.contains("pool directory"), "{error}");
        unmount_pool(Judge::NONE, dir.path(), &source(&device)).unwrap();
        let taken =
            mount_pool(Judge::NONE, Path::new("/proc"), &source(&device)).unwrap_err().to_string();
        assert!(taken.contains("is mounted on /proc"), "{taken}");
    }
}
