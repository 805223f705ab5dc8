//! One QEMU process and its directory `target/testbed/run/NAME`.
//!
//! QEMU inherits the locked file `alive` as its standard input, so the lock says whether it
//! lives, whatever became of the process that started it. `lock` serialises up and down.
//! `state.json` exists while the instance is meant to be up: gone QEMU, file there = a crash.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use testbed_agent::wire::Act;
use testbed_agent::{AGENT_PORT, BARE_DISK, HTTP_PORT, IDLE_OPTION, ROOT_DISK, TOKEN_OPTION};

use super::client::Command;
use super::{HostCrash, Options, client, image};
use crate::kernel::Kernel;
use crate::{disk, paths, qemu};

/// Generous: the machine may be busy compiling. A quiet one needs about four seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// A file system with O_DIRECT, which the root in memory lacks. Sparse, and gone after `down`.
const SCRATCH: &str = "scratch";
const SCRATCH_SIZE: &str = "16G";
const TURN: Duration = Duration::from_millis(50);
/// With two processors, every tenth or so boot of a guest failed under load, as if QEMU's TCG (10.0
/// and 11.1) left a nested guest twice: the guest went on with the emulated host's registers, or the
/// host took an interrupt with the guest's.
const PROCESSORS: &str = "1";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) token: String,
    pub(super) agent_port: u16,
    pub(super) http_port: u16,
}

/// What `cargo xtask testbed status` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Down,
    Up { http_port: u16, agent_port: u16, console: PathBuf },
    Crashed { reason: String, console: PathBuf },
}

pub(super) fn up(options: &Options) -> anyhow::Result<Instance> {
    let dir = dir(&options.name)?;
    let _lock = paths::lock(&dir.join("lock"))?;
    if let Some(instance) = load(&dir)
        && client::ask(&instance, Act::Ping, Duration::from_secs(30)).is_ok()
    {
        return Ok(instance);
    }
    clean(&dir)?;
    let accelerated = super::is_accelerated();
    let qemu = if options.uefi && !accelerated { qemu::mended() } else { qemu::emulator() }?;
    let kernel = Kernel::find()?;
    fs::write(dir.join("initrd"), image::build(&kernel)?)?;
    disk::empty(&dir.join(SCRATCH), SCRATCH_SIZE)?;
    if let Some(image) = &options.root {
        disk::copy(image, &dir.join(ROOT_DISK))?;
    }
    for _ in 0..5 {
        let instance = Instance {
            name: options.name.clone(),
            token: token()?,
            agent_port: free_port()?,
            http_port: free_port()?,
        };
        let mut words = qemu.words().to_owned();
        words.extend(arguments(&instance, options, &kernel, &dir));
        fs::write(dir.join("qemu.json"), serde_json::to_vec(&words)?)?;
        remove_file(&dir.join("console.log"))?;
        start(&dir)?;
        fs::write(dir.join("state.json"), serde_json::to_vec_pretty(&instance)?)?;
        match await_agent(&instance, &dir) {
            Ok(()) => return Ok(instance),
            // Someone else took the port between our look and QEMU's bind.
            Err(_) if log_of_qemu(&dir).contains("host forwarding") => clean(&dir)?,
            Err(error) => {
                kill(&dir)?;
                return Err(error);
            }
        }
    }
    bail!("found no free loopback port for the testbed in five attempts")
}

pub(super) fn running(name: &str) -> anyhow::Result<Instance> {
    let dir = dir(name)?;
    let Some(instance) = load(&dir) else {
        bail!("testbed {name:?} is not up; `cargo xtask testbed up` starts it");
    };
    if !alive(&dir)? {
        return Err(instance.crash().into());
    }
    Ok(instance)
}

pub(super) fn down(name: &str) -> anyhow::Result<()> {
    let dir = dir(name)?;
    if !dir.exists() {
        return Ok(());
    }
    let _lock = paths::lock(&dir.join("lock"))?;
    clean(&dir)
}

pub fn status(name: &str) -> anyhow::Result<Status> {
    let dir = dir(name)?;
    let console = dir.join("console.log");
    Ok(match load(&dir) {
        None => Status::Down,
        Some(Instance { http_port, agent_port, .. }) if alive(&dir)? => {
            Status::Up { http_port, agent_port, console }
        }
        Some(instance) => Status::Crashed { reason: instance.crash().reason, console },
    })
}

impl Instance {
    /// Why the agent could not be talked to.
    pub(super) fn explain(&self, error: io::Error) -> anyhow::Error {
        // A dying QEMU closes its sockets a moment before it is gone.
        let until = Instant::now() + Duration::from_secs(5);
        while let Ok(dir) = dir(&self.name) {
            if self.crash_log(&dir).exists() {
                return self.crash().into();
            }
            if load(&dir).as_ref() != Some(self) {
                return anyhow::anyhow!("testbed {:?} was taken down meanwhile", self.name);
            }
            if alive(&dir).is_ok_and(|alive| !alive) {
                return self.crash().into();
            }
            if Instant::now() >= until {
                break;
            }
            thread::sleep(TURN);
        }
        anyhow::Error::new(error)
            .context(format!("testbed {:?} runs, but its agent does not answer", self.name))
    }

    /// Whether it is meant to be up, and not another of its name.
    pub(super) fn is_current(&self) -> bool {
        dir(&self.name).is_ok_and(|dir| load(&dir).as_ref() == Some(self))
    }

    pub(super) fn reboot(&self) -> anyhow::Result<()> {
        let dir = dir(&self.name)?;
        let _lock = paths::lock(&dir.join("lock"))?;
        // The agent ends before it can report that this one did; QEMU's end is the answer.
        let _asked = Command::new(self, &["/sbin/reboot"]).spawn()?;
        let until = Instant::now() + BOOT_LIMIT;
        while alive(&dir)? {
            if Instant::now() >= until {
                bail!("the emulated host did not shut down; see {:?}", dir.join("console.log"));
            }
            thread::sleep(TURN);
        }
        self.start_again(&dir)
    }

    pub(super) fn power_cycle(&self) -> anyhow::Result<()> {
        let dir = dir(&self.name)?;
        let _lock = paths::lock(&dir.join("lock"))?;
        kill(&dir)?;
        self.start_again(&dir)
    }

    fn start_again(&self, dir: &Path) -> anyhow::Result<()> {
        start(dir)?;
        await_agent(self, dir)
    }

    fn crash_log(&self, dir: &Path) -> PathBuf {
        dir.join(format!("crash-{}.log", self.token))
    }

    fn crash(&self) -> HostCrash {
        let dir = dir(&self.name).unwrap_or_default();
        let kept = self.crash_log(&dir);
        let console = if kept.exists() { kept } else { dir.join("console.log") };
        let text = fs::read(&console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let reason = text
            .lines()
            .find_map(|line| {
                let at = line.find("Kernel panic").or_else(|| line.find("testbed agent: "))?;
                Some(line[at..].to_owned()).filter(|text| !text.ends_with(": ready"))
            })
            .or_else(|| log_of_qemu(&dir).lines().last().map(str::to_owned))
            .unwrap_or_else(|| "QEMU ended without a word".to_owned());
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        HostCrash { name: self.name.clone(), reason, console, tail }
    }
}

/// Runs the QEMU command noted in the directory.
fn start(dir: &Path) -> anyhow::Result<()> {
    let words: Vec<String> = serde_json::from_slice(&fs::read(dir.join("qemu.json"))?)?;
    let alive = File::create(dir.join("alive"))?;
    flock(&alive, FlockOperation::NonBlockingLockExclusive).context("another QEMU holds on")?;
    let log = File::create(dir.join("qemu.log"))?;

    // The shell notes the number that QEMU is going to have before there is a QEMU: at no
    // moment is there a process that `down` could not find.
    let mut command = process::Command::new("/bin/sh");
    command.args(["-c", "echo $$ >pid && exec \"$@\"", "testbed"]).args(words);
    command
        .current_dir(dir)
        .stdin(alive)
        .stdout(log.try_clone()?)
        .stderr(log)
        // ^C in the terminal is for the command that waits, not for the machine.
        .process_group(0);
    command.spawn().context("cannot start QEMU")?;
    Ok(())
}

fn arguments(instance: &Instance, options: &Options, kernel: &Kernel, dir: &Path) -> Vec<String> {
    let (accel, cpu) = match super::is_accelerated() {
        true => ("kvm", "host"),
        false => ("tcg,thread=multi,tb-size=1024", "max"),
    };
    let idle = options.idle.as_secs();
    // An oops leaves a kernel that lies; better a crash that is seen. On a busy machine the timer's
    // interrupts come later than the kernel's check of them waits, which then panics.
    let kernel_command_line = format!(
        "console=ttyS0 quiet panic=-1 oops=panic no_timer_check {TOKEN_OPTION}={} {IDLE_OPTION}={idle}",
        instance.token
    );
    let network = format!(
        "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{}-:{AGENT_PORT},\
         hostfwd=tcp:127.0.0.1:{}-:{HTTP_PORT}",
        instance.agent_port, instance.http_port
    );
    let mut line: Vec<String> = [
        "-name",
        &format!("manor-testbed-{}", options.name),
        "-machine",
        "q35",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-accel",
        accel,
        "-cpu",
        cpu,
        "-smp",
        PROCESSORS,
        "-m",
        &options.memory_mib.to_string(),
        "-kernel",
        &kernel.vmlinux().display().to_string(),
        "-initrd",
        &dir.join("initrd").display().to_string(),
        "-append",
        &kernel_command_line,
        "-chardev",
        // Appended to, so that a reboot keeps what led to it.
        &format!("file,id=console,append=on,path={}", dir.join("console.log").display()),
        "-serial",
        "chardev:console",
        "-netdev",
        &network,
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
        "-device",
        "virtio-rng-pci",
    ]
    .map(str::to_owned)
    .into();
    line.extend(attach(SCRATCH, &dir.join(SCRATCH), "cache=unsafe,discard=unmap"));
    if options.root.is_some() {
        line.extend(attach(ROOT_DISK, &dir.join(ROOT_DISK), "cache=unsafe,discard=unmap"));
    }
    for disk in &options.disks {
        line.extend(attach(&disk.name, &disk.image, "readonly=on"));
    }
    for disk in &options.guest_disks {
        line.extend(attach(&format!("{BARE_DISK}{}", disk.name), &disk.image, "snapshot=on"));
    }
    line
}

/// The serial number tells the agent where to mount it.
fn attach(name: &str, image: &Path, how: &str) -> [String; 4] {
    let id = name.replace(':', "-");
    [
        "-drive".to_owned(),
        format!("if=none,id={id},format=raw,{how},file={}", image.display()),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive={id},serial={name}"),
    ]
}

fn await_agent(instance: &Instance, dir: &Path) -> anyhow::Result<()> {
    let until = Instant::now() + BOOT_LIMIT;
    loop {
        // QEMU accepts the connection long before there is an agent: the answer counts.
        if client::ask(instance, Act::Ping, Duration::from_secs(5)).is_ok() {
            return Ok(());
        }
        if !alive(dir)? {
            return Err(instance.crash().into());
        }
        if Instant::now() >= until {
            bail!(
                "the emulated host did not come up in {BOOT_LIMIT:?}; see {:?}",
                dir.join("console.log")
            );
        }
        thread::sleep(TURN);
    }
}

/// Whether some QEMU holds this directory's lock.
fn alive(dir: &Path) -> anyhow::Result<bool> {
    let file = match File::open(dir.join("alive")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Ends what runs and forgets it. The log of one that crashed stays under its token, so that
/// whoever still holds that instance learns what became of it.
fn clean(dir: &Path) -> anyhow::Result<()> {
    if let Some(crashed) = load(dir)
        && !alive(dir)?
    {
        let _ = fs::rename(dir.join("console.log"), crashed.crash_log(dir));
    }
    remove_file(&dir.join("state.json"))?;
    kill(dir)?;
    remove_file(&dir.join(SCRATCH))?;
    remove_file(&dir.join(ROOT_DISK))
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn kill(dir: &Path) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while alive(dir)? {
        // Absent for the moment in which the shell has not yet written it.
        if let Some(pid) = process_id(dir) {
            let handle = pidfd_open(pid, PidfdFlags::empty());
            // Checked after the open: the handle cannot come to mean another process.
            if let Ok(handle) = handle
                && is_ours(pid, dir)
            {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
            }
        }
        if Instant::now() >= until {
            bail!("cannot end the QEMU that holds {:?}", dir.join("alive"));
        }
        thread::sleep(TURN);
    }
    Ok(())
}

fn process_id(dir: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?)
}

/// Its command line names this instance's own files.
fn is_ours(pid: Pid, dir: &Path) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let initrd = dir.join("initrd").display().to_string();
    line.split(|byte| *byte == 0).any(|word| word == initrd.as_bytes())
}

fn load(dir: &Path) -> Option<Instance> {
    serde_json::from_slice(&fs::read(dir.join("state.json")).ok()?).ok()
}

/// Instances belong to a checkout, also where the packages are shared with others.
fn dir(name: &str) -> anyhow::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        bail!("testbed name {name:?} has characters other than letters, digits, - and _");
    }
    Ok(paths::target().join("testbed/run").join(name))
}

fn log_of_qemu(dir: &Path) -> String {
    fs::read_to_string(dir.join("qemu.log")).unwrap_or_default()
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn token() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}
