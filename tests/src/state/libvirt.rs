//! libvirt's verbs, with Debian's libvirtd.

use super::{DIR, definition};
use crate::Testbed;
use crate::libvirtd::virsh;

pub(super) fn script(host: &Testbed) -> anyhow::Result<String> {
    let emulator = "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>";
    let definition = definition().replacen("<devices>", emulator, 1);
    host.write(&format!("{DIR}/guest.xml"), definition.as_bytes())?;
    let virsh = virsh("\"$@\"");
    Ok(format!(
        "v() {{ {virsh}; }}
         timed() {{ name=$1; shift; a=$(now); v \"$@\" >/dev/null; took $name $a; }}
         trap 'v destroy bench-state >/dev/null 2>&1 || true' EXIT
         v create {DIR}/guest.xml >/dev/null
         up
         timed save save bench-state {DIR}/saved
         echo kib $(du -k {DIR}/saved | cut -f1)
         read_all
         a=$(now); v restore {DIR}/saved >/dev/null; took running $a; grown; took output $a
         pinged rest sleep 1
         pinged snapshot_pause timed snapshot snapshot-create-as bench-state before --disk-only \
             --no-metadata --diskspec vda,file={DIR}/before.qcow2"
    ))
}
