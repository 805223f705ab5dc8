//! Manor's verbs, with a daemon of their own.

use super::{DIR, definition};
use crate::Testbed;

pub(super) fn script(host: &Testbed) -> anyhow::Result<String> {
    let config = format!(
        "state_dir = \"{DIR}/state\"\nrun_dir = \"{DIR}/run\"\nlog_dir = \"{DIR}/log\"\n\
         [api]\nsocket = \"{DIR}/api.sock\"\nsocket_group = \"\"\nread_only_socket = \"\"\n"
    );
    host.write(&format!("{DIR}/manor.toml"), config.as_bytes())?;
    host.write(&format!("{DIR}/guest.xml"), definition().as_bytes())?;
    Ok(format!(
        "manor daemon --config {DIR}/manor.toml >{DIR}/log.txt 2>&1 </dev/null &
         daemon=$!
         trap 'm destroy bench-state >/dev/null 2>&1 || true
             m destroy twin >/dev/null 2>&1 || true; kill $daemon' EXIT
         m() {{ manor --connect {DIR}/api.sock \"$@\"; }}
         timed() {{ name=$1; shift; a=$(now); m \"$@\" >/dev/null; took $name $a; }}
         until m list >/dev/null 2>&1; do usleep 100000; done
         m define {DIR}/guest.xml >/dev/null
         m start bench-state >/dev/null
         up
         timed save save bench-state {DIR}/saved
         echo kib $(du -k {DIR}/saved | cut -f1)
         read_all
         a=$(now); m restore {DIR}/saved >/dev/null; took running $a; grown; took output $a
         pinged rest sleep 1
         pinged clone_pause timed clone clone bench-state twin
         m domstate twin | grep -q running
         m destroy twin >/dev/null
         pinged snapshot_pause timed snapshot snapshot-create-as bench-state before --disk-only
         pinged memory_pause m snapshot-create-as bench-state kept \
             --memspec file={DIR}/kept.mem,snapshot=external
         pinged live_pause m snapshot-create-as bench-state live --live \
             --memspec file={DIR}/live.mem,snapshot=external"
    ))
}
