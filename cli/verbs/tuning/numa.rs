//! numatune.

use api::types::{NumaTuning, Tuning};

use super::{cpus, get, line, list, set};
use crate::args::Numatune;
use crate::failure::Failure;
use crate::verbs::Session;
use crate::verbs::memory::affects;

pub(crate) async fn numatune(session: &Session, args: Numatune) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let numa =
        NumaTuning { mode: args.mode, nodes: args.nodeset.as_deref().map(cpus).transpose()? };
    if numa != NumaTuning::default() {
        return set(session, &args.domain, Tuning { numa, ..Tuning::default() }, affects).await;
    }
    let numa = get(session, &args.domain, affects).await?.numa;
    if session.terminal.json {
        session.terminal.print_json(&numa);
        return Ok(());
    }
    let mode = numa.mode.unwrap_or_else(|| "strict".to_owned());
    let nodes = list(&numa.nodes.unwrap_or_default());
    session.terminal.print(&(line("numa_mode", mode) + &line("numa_nodeset", nodes)));
    Ok(())
}
