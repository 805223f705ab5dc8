//! The guest's agent, which is always there where the definition has a channel for it, and says the
//! same in each run.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::machine::Machine;

/// Longer than any request.
const LONGEST: u64 = 1 << 20;

/// What file systems think they are, over all connections.
static FROZEN: AtomicBool = AtomicBool::new(false);

pub(super) fn serve(machine: &Machine, stream: UnixStream) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // What an interrupted request left is passed over.
        let begin = line.iter().rposition(|byte| *byte == 0xFF).map_or(0, |at| at + 1);
        let Ok(request) = serde_json::from_slice::<Value>(&line[begin..]) else { continue };
        let command = request["execute"].as_str().unwrap_or_default();
        let arguments = &request["arguments"];
        let mut answer = Vec::new();
        if command == "guest-sync-delimited" {
            answer.push(0xFF);
        }
        let said = said(machine, command, arguments);
        answer.extend(format!("{said}\n").into_bytes());
        writer.write_all(&answer)?;
        if command == "guest-shutdown" {
            match arguments["mode"].as_str() {
                Some("reboot") => machine.reset(),
                _ => machine.power_off(),
            }
        }
    }
}

fn error(class: &str, text: &str) -> Value {
    json!({ "error": { "class": class, "desc": text } })
}

/// Its address, by the guest's name: other guests have others.
fn address(machine: &Machine) -> String {
    let name = machine.config.identity.name.bytes();
    let sum = name.fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("192.168.122.{}", 2 + sum % 253)
}

fn mac(machine: &Machine) -> Option<String> {
    use vmm_protocol::config::PciKind;
    let mac = machine.config.pci.iter().find_map(|device| match &device.kind {
        PciKind::Net(net) => Some(net.mac),
        _ => None,
    })?;
    Some(mac.map(|byte| format!("{byte:02x}")).join(":"))
}

fn said(machine: &Machine, command: &str, arguments: &Value) -> Value {
    let frozen = FROZEN.load(Ordering::SeqCst);
    match command {
        "guest-sync" | "guest-sync-delimited" => json!({ "return": arguments["id"] }),
        "guest-fsfreeze-freeze" | "guest-fsfreeze-freeze-list" => {
            FROZEN.store(true, Ordering::SeqCst);
            json!({ "return": 1 })
        }
        "guest-fsfreeze-thaw" => {
            FROZEN.store(false, Ordering::SeqCst);
            json!({ "return": i32::from(frozen) })
        }
        "guest-fsfreeze-status" => json!({ "return": if frozen { "frozen" } else { "thawed" } }),
        _ if frozen => {
            let text = format!("Command {command} has been disabled: the agent is in frozen state");
            error("CommandNotFound", &text)
        }
        "guest-ping"
        | "guest-set-user-password"
        | "guest-set-time"
        | "guest-ssh-add-authorized-keys"
        | "guest-ssh-remove-authorized-keys"
        | "guest-shutdown"
        | "guest-suspend-disk"
        | "guest-suspend-ram"
        | "guest-suspend-hybrid" => {
            json!({ "return": {} })
        }
        "guest-info" => json!({ "return": { "version": "9.0.0", "supported_commands": [] } }),
        "guest-get-host-name" => json!({ "return": { "host-name": machine.config.identity.name } }),
        "guest-get-time" => json!({ "return": 1_700_000_000_000_000_000_i64 }),
        "guest-get-osinfo" => json!({ "return": {
            "id": "debian", "name": "Debian GNU/Linux", "version-id": "12", "machine": "x86_64",
            "pretty-name": "Debian GNU/Linux 12 (bookworm)", "kernel-release": "6.1.0-test",
        } }),
        "guest-ssh-get-authorized-keys" => json!({ "return": { "keys": [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5v test@example.org",
        ] } }),
        "guest-get-vcpus" => json!({ "return": [
            { "logical-id": 0, "online": true, "can-offline": false },
            { "logical-id": 1, "online": true, "can-offline": true },
        ] }),
        "guest-set-vcpus" => {
            json!({ "return": arguments["vcpus"].as_array().map_or(0, Vec::len) })
        }
        "guest-get-timezone" => json!({ "return": { "zone": "UTC", "offset": 0 } }),
        "guest-get-users" => json!({ "return": [{ "user": "root", "login-time": 1.5 }] }),
        "guest-get-fsinfo" => json!({ "return": [{
            "name": "vda1", "mountpoint": "/", "type": "ext4",
            "used-bytes": 1_073_741_824, "total-bytes": 10_737_418_240_i64, "disk": [],
        }] }),
        "guest-fstrim" => json!({ "return": { "paths": [{ "path": "/", "trimmed": 0 }] } }),
        "guest-network-get-interfaces" => {
            let mut all = vec![json!({
                "name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [
                    { "ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8 }],
            })];
            all.extend(mac(machine).map(|mac| {
                json!({ "name": "eth0", "hardware-address": mac, "ip-addresses": [
                    { "ip-address": address(machine), "ip-address-type": "ipv4", "prefix": 24 }] })
            }));
            json!({ "return": all })
        }
        "guest-exec" => json!({ "return": { "pid": 4711 } }),
        "guest-exec-status" => json!({ "return": { "exited": true, "exitcode": 0 } }),
        _ => error("CommandNotFound", &format!("The command {command} has not been found")),
    }
}
