//! setvcpu, setvcpus, setmaxmem, vcpucount.

use std::fmt::Write as _;

use api::types::{Affects, Sizes, Tuning, VcpuChange};

use super::{cpus, get, set};
use crate::args::{Setmaxmem, Setvcpu, Setvcpus, Vcpucount};
use crate::failure::Failure;
use crate::verbs::Session;
use crate::verbs::memory::{affects, scaled};

pub(crate) async fn setvcpus(session: &Session, args: Setvcpus) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let count = Some(args.count);
    let sizes = match args.maximum {
        true => Sizes { max_vcpus: count, ..Sizes::default() },
        false => Sizes { vcpus: count, ..Sizes::default() },
    };
    set(session, &args.domain, Tuning { sizes, ..Tuning::default() }, affects).await
}

pub(crate) async fn setvcpu(session: &Session, args: Setvcpu) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    if args.enable == args.disable {
        let line = match args.enable {
            true => "Options --enable and --disable are mutually exclusive",
            false => "one of --enable, --disable is required",
        };
        return Err(Failure::usage(line));
    }
    let change = VcpuChange { vcpus: cpus(&args.vcpulist)?, enabled: args.enable };
    let call = session.client.set_vcpus(&args.domain, &change, affects);
    session.of(&args.domain, call).await
}

pub(crate) async fn setmaxmem(session: &Session, args: Setmaxmem) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let max_memory_bytes = Some(scaled(&args.size, "k", "size")?);
    let sizes = Sizes { max_memory_bytes, ..Sizes::default() };
    set(session, &args.domain, Tuning { sizes, ..Tuning::default() }, affects).await
}

pub(crate) async fn vcpucount(session: &Session, args: Vcpucount) -> Result<(), Failure> {
    let asked = affects(args.affects)?;
    if args.maximum || args.active {
        let sizes = get(session, &args.domain, asked).await?.sizes;
        let count = if args.maximum { sizes.max_vcpus } else { sizes.vcpus };
        let count = count.unwrap_or(0);
        match session.terminal.json {
            true => session.terminal.print_json(&count),
            false => session.terminal.print(&format!("{count}\n")),
        }
        return Ok(());
    }
    // It is there, in one definition at least; of one that is not there, nothing is told.
    get(session, &args.domain, Affects::default()).await?;
    let of = async |live| {
        let affects = Affects { live, config: !live };
        session.client.tuning(&args.domain, affects).await.ok().map(|tuning| tuning.sizes)
    };
    let (config, live) = (of(false).await, of(true).await);
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "config": config, "live": live }));
        return Ok(());
    }
    let mut text = String::new();
    let mut lines = |what: &str, count: fn(&Sizes) -> Option<u16>| {
        for (of, sizes) in [("config", &config), ("live", &live)] {
            if let Some(count) = sizes.as_ref().and_then(count) {
                let _ = writeln!(text, "{what:<12} {of:<12} {count:3}");
            }
        }
    };
    lines("maximum", |sizes| sizes.max_vcpus);
    lines("current", |sizes| sizes.vcpus);
    session.terminal.print(&text);
    Ok(())
}
