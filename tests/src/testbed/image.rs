//! The emulated host's root: one initramfs with the agent as PID 1, busybox, and the modules a
//! virtual machine server needs.

use testbed_agent::MODULE_LIST;

use crate::binaries;
use crate::cpio::Cpio;
use crate::guest::add_busybox;
use crate::kernel::Kernel;
use crate::modules;

/// Loaded at boot, in the order that their dependencies ask for.
const LOADED: [&str; 11] = [
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_rng",
    "kvm-amd",
    "kvm-intel",
    "tun",
    "tap",
    "vhost_net",
    "vhost_vsock",
    "bridge",
];

/// Carried for `modprobe` and for the kernel's own requests.
const CARRIED: [&str; 57] = [
    "veth",
    "dummy",
    "macvtap",
    "vxlan",
    "8021q",
    "vsock_loopback",
    "nbd",
    "loop",
    "dm_mod",
    "dm-flakey",
    "dm-thin-pool",
    "dm-snapshot",
    "dm-crypt",
    "scsi_debug",
    "sd_mod",
    "overlay",
    "fuse",
    "virtiofs",
    "squashfs",
    "erofs",
    "xfs",
    "btrfs",
    "isofs",
    "nfs",
    "nfsv4",
    "nfsd",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "br_netfilter",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_log",
    "nft_limit",
    "nft_meta_bridge",
    "nft_reject_bridge",
    "nf_conntrack_bridge",
    "nft_compat",
    "nft_redir",
    "nft_fib_inet",
    "nft_dup_netdev",
    "nft_fwd_netdev",
    "ip_tables",
    "iptable_filter",
    "iptable_nat",
    "xt_MASQUERADE",
    "sch_htb",
    "sch_ingress",
    "act_police",
    "cls_u32",
];

pub(super) fn build(kernel: &Kernel) -> anyhow::Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    for dir in ["/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/root", "/var/lib", "/newroot"] {
        cpio.dir(dir);
    }
    cpio.character_device("/dev/console", 0o600, (5, 1));
    cpio.file_from("/init", 0o755, &binaries::agent_binary()?)?;
    cpio.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:\n");
    cpio.file("/etc/group", 0o644, b"root:x:0:\nkvm:x:104:\nnogroup:x:65534:\n");
    cpio.file("/etc/hosts", 0o644, b"127.0.0.1 localhost testbed\n");
    add_busybox(&mut cpio, kernel)?;

    let all = kernel.modules()?;
    let inside =
        |module: &modules::Module| format!("/lib/modules/{}/{}.ko", kernel.release, module.name);
    let boot: Vec<_> = all.in_load_order(&LOADED)?.iter().map(inside).collect();
    cpio.file(MODULE_LIST, 0o644, boot.join("\n").as_bytes());
    let carried = all.in_load_order(&[LOADED.as_slice(), CARRIED.as_slice()].concat())?;
    for module in &carried {
        cpio.file_from(&inside(module), 0o644, &module.path)?;
    }
    let (dep, alias) = modules::tables(&carried, |module| format!("{}.ko", module.name));
    let tables = format!("/lib/modules/{}", kernel.release);
    cpio.file(&format!("{tables}/modules.dep"), 0o644, dep.as_bytes());
    cpio.file(&format!("{tables}/modules.alias"), 0o644, alias.as_bytes());
    Ok(cpio.finish())
}
