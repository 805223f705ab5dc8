//! Processors and memory as an unmodified kernel sees them: models, NUMA nodes, Hyper-V's
//! enlightenments, huge, locked and merged pages, the generation.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::rig::{Daemon, LONG, Xml};

#[test]
fn a_guest_sees_its_numa_nodes_with_their_vcpus_memory_and_distances() -> Result<()> {
    let daemon = Daemon::start("numa")?;
    let mut xml = Xml::new("numa", "manor.end=shell");
    xml.vcpus = 3;
    xml.cpu = "<cpu mode='host-passthrough'><numa>
                 <cell id='0' cpus='0,2' memory='96' unit='MiB'/>
                 <cell id='1' cpus='1' memory='64' unit='MiB'>
                   <distances><sibling id='0' value='27'/></distances>
                 </cell>
               </numa></cpu>"
        .into();
    xml.domain = "<numatune><memory mode='strict' nodeset='0'/></numatune>".into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("numa")?;
    let seen = shell.run(
        "cd /sys/devices/system/node; cat online; cat node0/cpulist node1/cpulist; \
         cat node0/distance node1/distance; grep -h MemTotal node0/meminfo node1/meminfo",
    )?;
    let lines: Vec<&str> = seen.lines().map(str::trim).collect();
    let expected = ["0-1", "0,2", "1", "10 27", "27 10"];
    ensure!(lines.windows(expected.len()).any(|found| found == expected), "{seen}");
    let kib = |node: &str| -> Option<u64> {
        let line = seen.lines().find_map(|line| line.strip_prefix(node))?;
        line.trim_start_matches(" MemTotal:").trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let (first, second) = (kib("Node 0").unwrap_or(0), kib("Node 1").unwrap_or(0));
    // The kernel and its first disk lie somewhere and do not count.
    ensure!(
        (16 << 10..=96 << 10).contains(&first) && (16 << 10..=64 << 10).contains(&second),
        "{seen}"
    );
    ensure!(first + second > 96 << 10, "{seen}");
    // The host has one node, and says so where another is asked for.
    let maps = daemon.host.sh("grep -h ' bind:0 ' /proc/[0-9]*/numa_maps | wc -l")?;
    ensure!(maps.trim() != "0", "no memory of the guest's is bound to node 0");
    daemon.post("numa", "destroy")?;
    daemon.manor("undefine numa")?;
    xml.domain = "<numatune><memory mode='strict' nodeset='1'/></numatune>".into();
    daemon.define(&xml)?;
    let error = daemon.refused("start numa")?;
    ensure!(error.contains("NUMA nodes 1"), "{error}");
    Ok(())
}

#[test]
fn a_kernel_that_looks_for_hyper_v_finds_it_and_takes_its_clock() -> Result<()> {
    let daemon = Daemon::start("hyperv")?;
    let mut xml = Xml::new("hyperv", "manor.end=shell");
    xml.vcpus = 2;
    // A kernel that meets both takes KVM.
    xml.features = "<acpi/><kvm><hidden state='on'/></kvm>
        <hyperv mode='custom'>
          <relaxed state='on'/><vapic state='on'/><spinlocks state='on' retries='8191'/>
          <vpindex state='on'/><runtime state='on'/><synic state='on'/>
          <stimer state='on'><direct state='on'/></stimer>
          <reset state='on'/><frequencies state='on'/><tlbflush state='on'/><ipi state='on'/>
        </hyperv>"
        .into();
    xml.domain = "<clock offset='utc'><timer name='hypervclock' present='yes'/></clock>".into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("hyperv")?;
    let seen = shell.run(
        "dmesg | grep -i -e Hypervisor -e Hyper-V; \
         cat /sys/devices/system/clocksource/clocksource0/current_clocksource; \
         grep -c HVS: /proc/interrupts; nproc",
    )?;
    for words in ["Hypervisor detected: Microsoft Hyper-V", "hyperv_clocksource_tsc_page"] {
        ensure!(seen.contains(words), "no {words:?} in {seen}");
    }
    ensure!(seen.lines().any(|line| line.trim() == "2"), "two processors: {seen}");
    // Its register is how such a kernel restarts; all of it starts anew.
    shell.last("reboot -f")?;
    shell.await_prompt()?;
    ensure!(shell.run("dmesg | grep Hypervisor")?.contains("Microsoft Hyper-V"));
    Ok(())
}

#[test]
fn a_named_model_has_its_name_and_its_features_but_for_those_that_are_disabled() -> Result<()> {
    let daemon = Daemon::start("model")?;
    let mut xml = Xml::new("model", "manor.end=shell");
    xml.vcpus = 4;
    // The emulated processor lacks some of an EPYC's features.
    xml.cpu = "<cpu mode='custom' match='exact' check='none'><model>EPYC</model>
                 <topology sockets='1' cores='4' threads='1'/><cache mode='emulate' level='3'/>
                 <feature policy='disable' name='aes'/><feature policy='require' name='avx2'/>
               </cpu>"
        .into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("model")?;
    let seen = shell.run(
        "grep -m1 -e 'model name' /proc/cpuinfo; grep -m1 vendor_id /proc/cpuinfo; \
         grep -m1 flags /proc/cpuinfo; cd /sys/devices/system/cpu/cpu0; \
         echo last $(cat cache/index3/size) of $(cat cache/index3/shared_cpu_list)",
    )?;
    let words: Vec<&str> = seen.split_whitespace().collect();
    for word in ["AuthenticAMD", "avx2", "sse4_2", "hypervisor"] {
        ensure!(words.contains(&word), "no {word} in {seen}");
    }
    ensure!(seen.contains("AMD EPYC Processor"), "{seen}");
    ensure!(!words.contains(&"aes") && !words.contains(&"avx512f"), "{seen}");
    ensure!(seen.contains("last 16384K of 0-3"), "{seen}");
    Ok(())
}

/// Of the host's `/proc/meminfo`.
fn free_huge_pages(daemon: &Daemon) -> Result<u64> {
    let text = daemon.host.sh("grep HugePages_Free: /proc/meminfo")?;
    Ok(text.trim_start_matches("HugePages_Free:").trim().parse()?)
}

#[test]
fn a_guest_of_huge_pages_takes_them_from_the_host_and_gives_them_back() -> Result<()> {
    let daemon = Daemon::start("huge")?;
    daemon.host.sh("echo 3 >/proc/sys/vm/drop_caches; echo 70 >/proc/sys/vm/nr_hugepages")?;
    let before = free_huge_pages(&daemon)?;
    ensure!(before >= 64, "the host has only {before} huge pages to give");
    let mut xml = Xml::new("huge", "manor.end=shell");
    xml.domain = "<memoryBacking><hugepages/><allocation mode='immediate'/></memoryBacking>".into();
    daemon.define_and_start(&xml)?;
    daemon.shell("huge")?;
    ensure!(free_huge_pages(&daemon)? == before - 64, "128 MiB are 64 pages");
    daemon.post("huge", "destroy")?;
    ensure!(free_huge_pages(&daemon)? == before, "they did not come back");
    daemon.host.sh("echo 0 >/proc/sys/vm/nr_hugepages")?;
    Ok(())
}

/// A kernel has pages that are the same by itself, once it has started.
#[test]
fn the_host_keeps_same_pages_once_but_not_those_of_a_guest_that_has_its_own() -> Result<()> {
    const KSM: &str = "/sys/kernel/mm/ksm";
    let daemon = Daemon::start("same")?;
    daemon.host.sh(&format!("echo 20 >{KSM}/sleep_millisecs; echo 5000 >{KSM}/pages_to_scan"))?;
    let mut own = Xml::new("own", "manor.end=shell");
    own.domain = "<memoryBacking><nosharepages/></memoryBacking>".into();
    for xml in [&own, &Xml::new("plain", "manor.end=shell")] {
        daemon.define_and_start(xml)?;
        daemon.shell(&xml.name)?;
    }
    let merged = |name: &str| -> Result<u64> {
        let domain = daemon.api.get(&format!("/v1/domains/{name}"))?.success()?.json()?;
        let file = format!("/proc/{}/ksm_merging_pages", domain["pid"]);
        Ok(daemon.host.sh(&format!("cat {file}"))?.trim().parse()?)
    };
    ensure!(merged("plain")? == 0, "nothing looks for them yet");
    daemon.host.sh(&format!("echo 1 >{KSM}/run"))?;
    let until = Instant::now() + LONG;
    while merged("plain")? == 0 {
        ensure!(Instant::now() < until, "no page of the plain guest is kept once");
        std::thread::sleep(Duration::from_secs(1));
    }
    // The kernel goes round and round: had it looked at the other's, it would have found some as well.
    daemon.host.sh(&format!(
        "seen=$(cat {KSM}/full_scans); while test $(cat {KSM}/full_scans) -lt $((seen + 3)); do sleep 1; done"
    ))?;
    ensure!(merged("own")? == 0, "{} of its own pages are kept once", merged("own")?);
    ensure!(daemon.host.sh(&format!("cat {KSM}/pages_shared"))?.trim() != "0");
    daemon.host.sh(&format!("echo 2 >{KSM}/run; echo 0 >{KSM}/run"))?;
    Ok(())
}

#[test]
fn a_locked_guest_stays_in_memory_and_finds_the_number_of_its_generation() -> Result<()> {
    let daemon = Daemon::start("locked")?;
    let mut xml = Xml::new("locked", "manor.end=shell");
    xml.domain = "<memoryBacking><locked/></memoryBacking><genid/>".into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("locked")?;
    let domain = daemon.api.get("/v1/domains/locked")?.success()?.json()?;
    let locked = daemon.host.sh(&format!("grep VmLck: /proc/{}/status", domain["pid"]))?;
    let kib: u64 = locked.trim_start_matches("VmLck:").trim().trim_end_matches(" kB").parse()?;
    ensure!(kib >= 128 << 10, "{locked}");
    // This kernel has no driver for the device, but shows it.
    let seen = shell.run("cat /sys/bus/acpi/devices/VMGENCTR:00/path")?;
    ensure!(seen.contains(r"\_SB_.VGEN"), "{seen}");
    Ok(())
}
