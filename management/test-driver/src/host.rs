//! The host that is made up: what the daemon reads of a computer in /proc and /sys, in a directory.
//!
//! ```text
//! computer ─┬ pci_0000_00_19_0 ─ net_eth1_aa_bb_cc_dd_ee_ff
//!           ├ pci_0000_00_1f_2 ─ block_sda_TEST0001
//!           └ net_lo_00_00_00_00_00_00
//! 2 sockets × 4 cores × 2 threads, 16 GiB
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

const CPUS: u32 = 16;
const SOCKETS: u32 = 2;
const THREADS: u32 = 2;

const FILES: [(&str, &str); 47] = [
    ("bios.bin", "no guest runs it\n"),
    (
        "proc/cpuinfo",
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Manor test driver\ncpu MHz\t\t: 1400.000\n\
         physical id\t: 0\nflags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 \
         clflush mmx fxsr sse sse2 syscall nx rdtscp lm pni pclmulqdq ssse3 cx16 sse4_1 sse4_2 x2apic popcnt \
         tsc_deadline_timer aes xsave avx hypervisor lahf_lm xsaveopt\n",
    ),
    (
        "proc/meminfo",
        "MemTotal: 16777216 kB\nMemFree: 12582912 kB\nMemAvailable: 12582912 kB\n\
         Buffers: 131072 kB\nCached: 1048576 kB\nHugepagesize: 2048 kB\n",
    ),
    (
        "proc/net/arp",
        "IP address       HW type     Flags       HW address            Mask     Device\n\
         192.168.122.2    0x1         0x2         52:54:00:7e:57:01     *        virbr0\n",
    ),
    ("proc/stat", "cpu  1000 0 500 100000 200 0 0 0 0 0\ncpu0 100 0 50 10000 20 0 0 0 0 0\n"),
    ("proc/uptime", "86400.00 1382400.00\n"),
    ("proc/sys/kernel/hostname", "test\n"),
    ("proc/sys/kernel/osrelease", "6.1.0-test\n"),
    ("sys/devices/system/cpu/online", "0-15\n"),
    ("sys/devices/system/node/node0/cpulist", "0-15\n"),
    ("sys/devices/system/node/node0/distance", "10\n"),
    (
        "sys/devices/system/node/node0/meminfo",
        "Node 0 MemTotal: 16777216 kB\nNode 0 MemFree: 12582912 kB\n",
    ),
    ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "1024\n"),
    ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "1024\n"),
    ("sys/kernel/mm/ksm/pages_to_scan", "100\n"),
    ("sys/kernel/mm/ksm/sleep_millisecs", "20\n"),
    ("sys/kernel/mm/ksm/pages_shared", "0\n"),
    ("sys/kernel/mm/ksm/merge_across_nodes", "1\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1024\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "0\n"),
    ("sys/class/dmi/id/product_name", "Test host\n"),
    ("sys/class/dmi/id/sys_vendor", "Manor\n"),
    ("sys/class/dmi/id/product_version", "1\n"),
    ("sys/class/dmi/id/product_uuid", "b0f6b5b6-2a0d-4f0a-8d8e-0f7f5d1c2b3a\n"),
    ("sys/class/dmi/id/bios_vendor", "Manor\n"),
    ("sys/class/dmi/id/bios_version", "1\n"),
    ("sys/class/dmi/id/bios_date", "01/01/2026\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/class", "0x020000\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/vendor", "0x8086\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/device", "0x10d3\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/net/eth1/address", "aa:bb:cc:dd:ee:ff\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/net/eth1/operstate", "up\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/net/eth1/speed", "1000\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/net/eth1/mtu", "1500\n"),
    ("sys/devices/pci0000:00/0000:00:19.0/net/eth1/flags", "0x1003\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/class", "0x010601\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/vendor", "0x8086\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/device", "0x2922\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/ata1/block/sda/size", "209715200\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/ata1/block/sda/serial", "TEST0001\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/ata1/block/sda/device/model", "TEST DISK\n"),
    ("sys/devices/pci0000:00/0000:00:1f.2/ata1/block/sda/device/vendor", "ATA\n"),
    ("sys/devices/virtual/net/lo/address", "00:00:00:00:00:00\n"),
    ("sys/devices/virtual/net/lo/operstate", "unknown\n"),
    ("sys/devices/virtual/net/lo/mtu", "65536\n"),
    ("sys/devices/virtual/net/lo/flags", "0x9\n"),
];

/// Names below `sys`, and what they lead to there.
const LINKS: [(&str, &str); 7] = [
    ("devices/pci0000:00/0000:00:19.0/subsystem", "bus/pci"),
    ("devices/pci0000:00/0000:00:1f.2/subsystem", "bus/pci"),
    ("bus/pci/devices/0000:00:19.0", "devices/pci0000:00/0000:00:19.0"),
    ("bus/pci/devices/0000:00:1f.2", "devices/pci0000:00/0000:00:1f.2"),
    ("class/net/eth1", "devices/pci0000:00/0000:00:19.0/net/eth1"),
    ("class/net/lo", "devices/virtual/net/lo"),
    ("block/sda", "devices/pci0000:00/0000:00:1f.2/ata1/block/sda"),
];

/// Write it into a directory that is there, and empty.
pub fn make(root: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        write(&root.join(name), text)?;
    }
    for cpu in 0..CPUS {
        let place = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        let (socket, core) = (cpu / (CPUS / SOCKETS), cpu % (CPUS / SOCKETS) / THREADS);
        write(&place.join("physical_package_id"), &format!("{socket}\n"))?;
        write(&place.join("core_id"), &format!("{core}\n"))?;
        let first = cpu - cpu % THREADS;
        write(&place.join("thread_siblings_list"), &format!("{first}-{}\n", first + THREADS - 1))?;
    }
    for (name, to) in LINKS {
        let name = root.join("sys").join(name);
        if let Some(directory) = name.parent() {
            fs::create_dir_all(directory)?;
        }
        symlink(root.join("sys").join(to), name)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)
}
