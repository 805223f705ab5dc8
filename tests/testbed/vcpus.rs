//! vCPUs that come to a stock kernel and leave it.

use anyhow::{Result, ensure};

use crate::rig::{Daemon, Shell, Xml};

/// Runs `command` in the guest until it prints `wanted`.
fn wait(shell: &mut Shell, command: &str, wanted: &str) -> Result<()> {
    let text = shell.run(&format!(
        "n=0; while [ \"$({command})\" != '{wanted}' ] && [ $n -lt 150 ]; do usleep 200000; \
         n=$((n+1)); done; [ \"$({command})\" = '{wanted}' ] && echo as-wanted || dmesg | tail -30"
    ))?;
    ensure!(text.contains("as-wanted"), "{command} is not {wanted}: {text}");
    Ok(())
}

fn come_and_go(name: &str, machine: &str) -> Result<()> {
    let daemon = Daemon::start(name)?;
    let mut xml = Xml::new(name, "manor.end=shell");
    xml.machine = machine.to_owned();
    (xml.vcpus, xml.present) = (3, Some(1));
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell(name)?;
    wait(&mut shell, "nproc", "1")?;
    wait(&mut shell, "cat /sys/devices/system/cpu/possible", "0-2")?;
    for _ in 0..2 {
        daemon.manor(&format!("setvcpus {name} 3 --live"))?;
        for cpu in 1..3 {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
            wait(&mut shell, &format!("ls {path} 2>/dev/null"), &path)?;
            shell.run(&format!("grep -q 1 {path} || echo 1 >{path}"))?;
        }
        wait(&mut shell, "nproc", "3")?;
        let busy = shell.run("for n in 1 2 3; do (i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done) & done; wait; echo done")?;
        ensure!(busy.contains("done"), "{busy}");
        daemon.manor(&format!("setvcpus {name} 1 --live"))?;
        wait(&mut shell, "nproc", "1")?;
    }
    daemon.manor(&format!("setvcpus {name} 2 --live"))?;
    let counts = daemon.manor(&format!("vcpucount {name} --active --live"))?;
    ensure!(counts.trim() == "2", "{counts}");

    // A reboot of the guest keeps what it has, online from the beginning.
    shell.last("echo b >/proc/sysrq-trigger")?;
    shell.await_prompt()?;
    wait(&mut shell, "nproc", "2")?;
    daemon.manor(&format!("destroy {name}"))?;
    Ok(())
}

#[test]
fn vcpus_come_to_q35_and_go() -> Result<()> {
    come_and_go("vcpus-q35", "q35")
}

#[test]
fn vcpus_come_to_a_pc_and_go() -> Result<()> {
    come_and_go("vcpus-pc", "pc")
}
