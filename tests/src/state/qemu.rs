//! QEMU alone, by its monitor.

use std::path::Path;

use super::{DIR, DISK, INITRD, KERNEL, MAC, MEMORY_MIB, TAP, guest};
use crate::qemu;

const MONITOR: u16 = 4444;

/// With the devices that the others have.
fn command() -> String {
    let program = qemu::in_tree(Path::new("/mnt/qemu")).words().join(" ");
    let command_line = guest().command_line();
    format!(
        "{program} -M q35 -accel kvm -cpu host -smp 1 -m {MEMORY_MIB}M -nodefaults -no-user-config \
         -display none -no-reboot -kernel {KERNEL} -initrd {INITRD} -append '{command_line}' \
         -chardev file,id=out,path={DIR}/out,append=on -serial chardev:out \
         -monitor tcp:127.0.0.1:{MONITOR},server=on,wait=off \
         -drive if=none,id=disk,format=raw,file={DISK} -device virtio-blk-pci,drive=disk \
         -netdev tap,id=net,ifname={TAP},script=no,downscript=no,vhost=off \
         -device virtio-net-pci,netdev=net,mac={MAC},romfile="
    )
}

pub(super) fn script() -> String {
    let qemu = command();
    format!(
        "trap 'kill $qemu 2>/dev/null || true' EXIT
         said() {{ nc 127.0.0.1 {MONITOR} >{DIR}/monitor 2>&1 || true; }}
         snapshot() {{ a=$(now)
             (echo snapshot_blkdev disk {DIR}/before.qcow2 qcow2; echo info block; sleep 2) | said &
             until grep -q 'Backing file' {DIR}/monitor 2>/dev/null; do usleep 10000; done
             took snapshot $a; wait $!; }}
         {qemu} >{DIR}/log.txt 2>&1 </dev/null &
         qemu=$!
         up
         a=$(now)
         printf '%s\\n' 'migrate_set_parameter max-bandwidth 100G' stop \\
             'migrate \"exec:cat >{DIR}/saved\"' quit | said
         while kill -0 $qemu 2>/dev/null; do usleep 10000; done
         took save $a
         echo kib $(du -k {DIR}/saved | cut -f1)
         read_all
         a=$(now)
         {qemu} -incoming 'exec:cat {DIR}/saved' >>{DIR}/log.txt 2>&1 </dev/null &
         qemu=$!
         until grep -q ':{MONITOR:04X} 00000000:0000 0A' /proc/net/tcp; do usleep 10000; done
         (until [ -e {DIR}/done ]; do echo cont; echo info status; usleep 20000; done) |
             nc 127.0.0.1 {MONITOR} 2>/dev/null | grep -q -m 1 'status: running' || true
         took running $a
         touch {DIR}/done
         grown; took output $a
         pinged rest sleep 1
         : >{DIR}/monitor
         pinged snapshot_pause snapshot"
    )
}
