//! A guest agent for tests, at the other end of a channel: an honest one, and the ways a hostile or
//! broken guest can play one.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use serde_json::{Value, json};

/// What file systems think they are, over all connections.
static FROZEN: Mutex<bool> = Mutex::new(false);

/// Serve a connection until it ends, as `manner` says. What it was asked for is passed to `heard`;
/// what that returns is answered by an honest agent that does not know better.
pub(crate) fn serve(stream: UnixStream, manner: &str, heard: impl Fn(&Value) -> Option<Value>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    if manner == "late" {
        // Answers to whoever was here before: whole ones, halves, and another's number.
        let stale = b"{\"return\":{}}\n{\"ret\xFF{\"return\":7}\n\xFF{\"return\":\"x\n\xFFgarbage";
        writer.write_all(stale).unwrap();
    }
    if manner == "endless" {
        // The other end hangs up at last.
        while writer.write_all(&[b'a'; 4096]).is_ok() {}
        return;
    }
    while let Some(request) = next(&mut reader) {
        let command = request["execute"].as_str().unwrap_or_default().to_owned();
        if manner == "silent" {
            continue;
        }
        if command == "guest-sync-delimited" {
            let id = request["arguments"]["id"].as_u64().unwrap();
            let id = if manner == "wrong-id" { id ^ 1 } else { id };
            let mut answer = [b"\xFF".to_vec(), line(&json!({ "return": id }))].concat();
            if manner == "twice" {
                answer.extend_from_within(..);
            }
            if writer.write_all(&answer).is_err() {
                return;
            }
            continue;
        }
        let answer: Vec<u8> = match manner {
            "hangs" => continue,
            "freezes-and-hangs" if command == "guest-fsfreeze-freeze" => {
                honest(&command, &request["arguments"], None);
                continue;
            }
            "hangs-up" => return,
            "garbage" => b"\x00\x1b[2J{]\n".to_vec(),
            "neither" => b"{\"returned\":1}\n".to_vec(),
            "other-type" => b"{\"return\":[1,2,3]}\n".to_vec(),
            "nested" => nested(),
            "huge" => {
                // Without an end, but not without a limit.
                while writer.write_all(&[b' '; 1 << 16]).is_ok() {}
                return;
            }
            "old" => line(&not_found(&command)),
            "forbidden" => line(&disabled(&command)),
            _ => line(&honest(&command, &request["arguments"], heard(&request))),
        };
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The next request; what an interrupted one left is passed over.
fn next(reader: &mut BufReader<impl Read>) -> Option<Value> {
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let begin = line.iter().rposition(|byte| *byte == 0xFF).map_or(0, |at| at + 1);
        if let Ok(request) = serde_json::from_slice(&line[begin..]) {
            return Some(request);
        }
    }
}

fn line(answer: &Value) -> Vec<u8> {
    format!("{answer}\n").into_bytes()
}

fn nested() -> Vec<u8> {
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    format!("{{\"return\":{open}{close}}}\n").into_bytes()
}

fn not_found(command: &str) -> Value {
    let desc = format!("The command {command} has not been found");
    json!({ "error": { "class": "CommandNotFound", "desc": desc } })
}

fn disabled(command: &str) -> Value {
    let desc = format!("Command {command} has been disabled");
    json!({ "error": { "class": "CommandNotFound", "desc": desc } })
}

fn honest(command: &str, arguments: &Value, other: Option<Value>) -> Value {
    let frozen = *FROZEN.lock().unwrap();
    match command {
        "guest-fsfreeze-freeze" | "guest-fsfreeze-freeze-list" => {
            *FROZEN.lock().unwrap() = true;
            json!({ "return": 2 })
        }
        "guest-fsfreeze-thaw" => {
            *FROZEN.lock().unwrap() = false;
            json!({ "return": if frozen { 2 } else { 0 } })
        }
        _ if frozen => json!({ "error": {
            "class": "CommandNotFound",
            "desc": format!("Command {command} has been disabled: the agent is in frozen state"),
        } }),
        "guest-ping" | "guest-set-user-password" => json!({ "return": {} }),
        "guest-get-host-name" => json!({ "return": { "host-name": "web\u{1b}[2J1" } }),
        "guest-get-time" => json!({ "return": 1_700_000_000_000_000_000_i64 }),
        "guest-get-osinfo" => json!({ "return": {
            "id": "debian", "pretty-name": "Debian GNU/Linux 12 (bookworm)", "machine": "x86_64",
        } }),
        "guest-get-vcpus" => json!({ "return": [
            { "logical-id": 0, "online": true },
            { "logical-id": 1, "online": true, "can-offline": true },
            { "logical-id": 2, "online": false, "can-offline": true },
        ] }),
        // One at a time, and one of them never.
        "guest-set-vcpus" => {
            json!({ "return": i32::from(arguments["vcpus"][0]["logical-id"] != 2) })
        }
        "guest-ssh-get-authorized-keys" => json!({ "return": { "keys": ["ssh-rsa A\u{1b}[2J"] } }),
        "guest-ssh-add-authorized-keys" => {
            assert_eq!(
                (&arguments["username"], &arguments["reset"]),
                (&json!("root"), &json!(true))
            );
            json!({ "return": {} })
        }
        "guest-get-timezone" => json!({ "return": { "zone": "UTC", "offset": 0 } }),
        "guest-get-users" => json!({ "return": [{ "user": "root", "login-time": 1.5 }] }),
        "guest-get-fsinfo" => json!({ "return": [{
            "name": "vda1", "mountpoint": "/", "type": "ext4", "used-bytes": 1, "total-bytes": 2,
            "disk": [{ "bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "serial": "disk-1",
                "dev": "/dev/vda1",
                "pci-controller": { "domain": 0, "bus": 99, "slot": 0, "function": 0 } }],
        }] }),
        "guest-network-get-interfaces" => json!({ "return": [
            { "name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [
                { "ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8 }] },
            { "name": "eth0", "hardware-address": "52:54:00:11:22:33", "ip-addresses": [
                { "ip-address": "192.168.122.5", "ip-address-type": "ipv4", "prefix": 24 },
                { "ip-address": "fe80::1%eth0", "ip-address-type": "ipv6", "prefix": 64 },
                { "ip-address": "not one", "ip-address-type": "ipv4", "prefix": 24 }] },
        ] }),
        "guest-exec" => {
            assert_eq!(arguments["capture-output"], true);
            json!({ "return": { "pid": 4711 } })
        }
        "guest-exec-status" if arguments["pid"] == 4711 => json!({ "return": {
            "exited": true, "exitcode": 3, "out-data": "aGVsbG8K", "err-data": "b29wcwo=",
        } }),
        "guest-exec-status" => json!({ "error": {
            "class": "GenericError", "desc": "PID 1 does not exist",
        } }),
        _ => other.unwrap_or_else(|| not_found(command)),
    }
}
