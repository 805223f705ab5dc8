//! Start a kernel in a VMM process, for people who work on the VMM: no daemon, no XML.
//!
//! `launch KERNEL|firmware=FILE [initrd=FILE] [cmdline=TEXT] [variables=FILE] [menu=MILLISECONDS] [memory=MIB] [cpus=N] [machine=q35|pc|microvm]
//! [disk=FILE] [io=uring|plain] [tap=NAME] [rom=FILE] [rng=] [console=] [pci=JSON] [reboot=restart] [control=PATH] [seccomp=off]
//! [config=FILE] [vmm=PROGRAM] [save=FILE after=SECONDS] [restore=FILE]`
//!
//! The console is the terminal. `config=FILE` shows the configuration that was made. Invoked as
//! `launch run-domain`, it *is* the VMM process.
#![allow(clippy::print_stderr, reason = "a command-line tool")]

#[path = "../../tests/process/sys.rs"]
mod sys;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use vmm_protocol::Version;
use vmm_protocol::control::{Call, Message, Request};
use vmm_protocol::wire;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if env::args_os().nth(1).is_some_and(|role| role == "run-domain") {
        arguments.next();
        return vmm::process::run_domain(arguments);
    }
    match launch() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("launch: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn launch() -> anyhow::Result<ExitCode> {
    let mut words = env::args().skip(1);
    let kernel = words.next().context("which kernel?")?;
    let options: BTreeMap<String, String> = words
        .filter_map(|word| word.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
    let number = |name: &str, default: u64| -> anyhow::Result<u64> {
        options.get(name).map_or(Ok(default), |text| Ok(text.parse()?))
    };
    let mut files = Files::default();
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").context("/dev/kvm")?;
    let kvm = files.add(kvm);
    let control = options.get("control").cloned().unwrap_or_else(|| {
        format!("{}/launch-{}.sock", env::temp_dir().display(), std::process::id())
    });
    let _ = fs::remove_file(&control);
    let listener = files.add(UnixListener::bind(&control).with_context(|| control.clone())?);
    let restore = match options.get("restore") {
        Some(path) => Some(json!({ "image": files.add(File::open(path)?) })),
        None => None,
    };
    let record = tempfile::tempfile()?;
    let mut record_reader = record.try_clone()?;
    let record = files.add(record);
    let boot = match kernel.strip_prefix("firmware=") {
        Some(path) => {
            let image = files.add(File::open(path).context(path.to_owned())?);
            let variables = match options.get("variables") {
                Some(path) => {
                    let file = OpenOptions::new().read(true).write(true).open(path);
                    Some(files.add(file.context(path.clone())?))
                }
                None => None,
            };
            let menu = options.get("menu").map(|text| text.parse::<u16>()).transpose()?;
            json!({ "firmware": {
                "image": image, "variables": variables, "menu": menu, "serial_text": true,
            } })
        }
        None => json!({ "kernel": {
            "kernel": files.add(File::open(&kernel).context(kernel.clone())?),
            "initrd": match options.get("initrd") {
                Some(path) => Some(files.add(File::open(path).context(path.clone())?)),
                None => None,
            },
            "cmdline": options.get("cmdline").map_or("console=ttyS0 panic=-1", |it| it),
        } }),
    };
    let mut pci: Vec<Value> =
        options.get("pci").map_or(Ok(Vec::new()), |text| serde_json::from_str(text))?;
    if let Some(path) = options.get("disk") {
        let disk = OpenOptions::new().read(true).write(true).open(path).context(path.clone())?;
        pci.push(json!({
            "id": "virtio-disk0",
            "address": { "bus": 0, "slot": 4, "function": 0 },
            "multifunction": false,
            "kind": { "blk": {
                "image": { "raw": { "file": files.add(disk) } },
                "read_only": false,
                "cache": "writeback",
                "discard": "unmap",
                "serial": "launch",
                "logical_block_size": 512,
                "io": options.get("io").map_or("uring", |it| it),
                "queues": [0],
                "queue_size": 256,
            } },
        }));
    }
    if let Some(name) = options.get("tap") {
        pci.push(json!({
            "id": "net0",
            "address": { "bus": 0, "slot": 6, "function": 0 },
            "multifunction": false,
            "kind": { "net": {
                "taps": [files.add(sys::open_tap(name).context(name.clone())?)],
                "mac": [0x52, 0x54, 0, 1, 2, 3],
                "mtu": null,
                "link_up": true,
                "offloads": true,
                "queues": [0],
                "queue_size": 256,
                "rom": match options.get("rom") {
                    Some(path) => Some(files.add(File::open(path).context(path.clone())?)),
                    None => None,
                },
            } },
        }));
    }
    if options.contains_key("console") {
        pci.push(json!({
            "id": "console0",
            "address": { "bus": 0, "slot": 7, "function": 0 },
            "multifunction": false,
            "kind": { "console": { "io_thread": 0, "ports": [{
                "id": "port0", "number": 0, "name": null,
                "chardev": { "pty": null, "listener": null, "log": null, "stdio": true },
            }] } },
        }));
    }
    if options.contains_key("rng") {
        pci.push(json!({
            "id": "rng0",
            "address": { "bus": 0, "slot": 5, "function": 0 },
            "multifunction": false,
            "kind": { "rng": { "rate": null, "io_thread": 0 } },
        }));
    }
    let cpus = number("cpus", 1)?;
    let config = json!({
        "version": { "major": 1, "minor": 0 },
        "identity": {
            "name": "launch",
            "uuid": "8a3b1c5e-0000-4000-8000-000000000001",
            "start_token": "8a3b1c5e-0000-4000-8000-000000000002",
            "boot_id": "8a3b1c5e-0000-4000-8000-000000000003",
        },
        "platform": { "machine": options.get("machine").map_or("q35", |it| it), "version": 1 },
        "memory": { "size": number("memory", 128)? << 20, "backing": "anonymous" },
        "cpus": {
            "count": cpus,
            "model": "host-passthrough",
            "topology": { "sockets": 1, "dies": 1, "cores": cpus, "threads": 1 },
        },
        "clock": { "offset": 0, "kvmclock": true },
        "boot": boot,
        "lifecycle": {
            "on_poweroff": "destroy",
            "on_reboot": options.get("reboot").map_or("destroy", |it| it),
            "on_crash": "destroy",
        },
        "io_threads": [{ "name": "io" }],
        "pci": pci,
        "serial": [{ "id": "serial0", "port": 0, "chardev": { "stdio": true } }],
        "pvpanic": true,
        "process": {
            "kvm": kvm,
            "control": listener,
            "exit_record": record,
            "log": null,
            "locks": [],
            "live_record": "",
            "seccomp": options.get("seccomp").is_none_or(|it| it != "off"),
        },
        "restore": restore,
        "start_paused": false,
    });
    if let Some(path) = options.get("config") {
        fs::write(path, serde_json::to_string_pretty(&config)?)?;
    }
    let files = files.with_config(&config)?;
    let program = options.get("vmm").map_or(env::current_exe()?, Into::into);
    let mut command = Command::new(program);
    command.arg("run-domain");
    let mut child = sys::spawn(command, &files)?;
    if let Some(path) = options.get("save") {
        thread::sleep(Duration::from_secs(number("after", 10)?));
        save(&control, path)?;
    }
    let status = child.wait()?;
    record_reader.rewind()?;
    eprintln!("launch: {status}: {}", std::io::read_to_string(record_reader)?.trim_end());
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128)))
}

/// Pause the guest, save it to `path`, and end it.
fn save(control: &str, path: &str) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(control)?;
    let file = File::create(path)?;
    let requests = [
        Request::Hello { version: Version::CURRENT },
        Request::Pause,
        Request::Save,
        Request::Destroy,
    ];
    for (id, request) in (1..).zip(requests) {
        let frame = wire::encode(&Call { id, request: request.clone() })?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut extra = SendAncillaryBuffer::new(&mut space);
        let passed = [file.as_fd()];
        if request == Request::Save {
            extra.push(SendAncillaryMessage::ScmRights(&passed));
        }
        sendmsg(&stream, &[IoSlice::new(&frame)], &mut extra, SendFlags::empty())?;
        match wire::receive(&mut stream)?.context("the VMM closed the connection")? {
            Message::Reply { result: Ok(_), .. } => {}
            other => anyhow::bail!("{request:?}: {other:?}"),
        }
    }
    Ok(())
}

#[derive(Default)]
struct Files(Vec<OwnedFd>);

impl Files {
    /// The descriptor that `file` will have: 3 is the configuration's.
    fn add(&mut self, file: impl Into<OwnedFd>) -> usize {
        self.0.push(file.into());
        3 + self.0.len()
    }

    fn with_config(self, config: &Value) -> anyhow::Result<Vec<OwnedFd>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(config.to_string().as_bytes())?;
        file.rewind()?;
        Ok(std::iter::once(file.into()).chain(self.0).collect())
    }
}
