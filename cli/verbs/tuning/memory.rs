//! memtune.

use api::types::{MemoryTuning, Tuning};

use super::{get, line, set};
use crate::args::Memtune;
use crate::failure::Failure;
use crate::verbs::Session;
use crate::verbs::memory::{affects, scaled};

pub(crate) async fn memtune(session: &Session, args: Memtune) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let memory = MemoryTuning {
        hard_limit_bytes: limit(args.hard_limit.as_deref(), "hard-limit")?,
        soft_limit_bytes: limit(args.soft_limit.as_deref(), "soft-limit")?,
        swap_hard_limit_bytes: limit(args.swap_hard_limit.as_deref(), "swap-hard-limit")?,
    };
    if memory != MemoryTuning::default() {
        return set(session, &args.domain, Tuning { memory, ..Tuning::default() }, affects).await;
    }
    let memory = get(session, &args.domain, affects).await?.memory;
    if session.terminal.json {
        session.terminal.print_json(&memory);
        return Ok(());
    }
    let mut text = String::new();
    for (name, bytes) in [
        ("hard_limit", memory.hard_limit_bytes),
        ("soft_limit", memory.soft_limit_bytes),
        ("swap_hard_limit", memory.swap_hard_limit_bytes),
    ] {
        let kib = bytes.map_or("unlimited".to_owned(), |bytes| (bytes / 1024).to_string());
        text += &line(name, kib);
    }
    session.terminal.print(&text);
    Ok(())
}

/// 0 on the wire is none, and virsh's -1.
fn limit(text: Option<&str>, option: &str) -> Result<Option<u64>, Failure> {
    match text {
        Some("-1") => Ok(Some(0)),
        Some(text) => match scaled(text, "k", option)? {
            0 => Err(Failure::usage(format!("a guest needs memory: --{option} 0; -1 is no limit"))),
            bytes => Ok(Some(bytes)),
        },
        None => Ok(None),
    }
}
