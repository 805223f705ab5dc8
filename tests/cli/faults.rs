//! Disks that the host fails, from the command line: a guest that waits for room goes on with it,
//! whatever became of the daemon meanwhile.

use api::types::Event;
use baremetal::Asm;
use baremetal::Width::{Byte, Dword, Word};
use manor_tests::small_fs::SmallFs;

use super::guests::{defined, ok, state};
use super::rig::{Rig, wait_for};

const BAR: u32 = 0xc000_0000;
const AREA: u32 = baremetal::SCRATCH;
const DATA: u32 = AREA + 0x1_0000;
/// The disk's slot on bus 0.
const SLOT: u8 = 3;

const SMALL: u64 = 96 << 10;
const STEPS: u32 = 60;

/// Writes to sector `step` times 256, with the step as its content, and says when it has done so.
pub(super) fn filling() -> Vec<u8> {
    baremetal::pvh(|asm| {
        bring_up(asm);
        let (header, status) = (AREA + 0x3000, AREA + 0x4000);
        asm.poke(Dword, header, 1);
        for (n, (gpa, len, flags)) in (0..).zip([(header, 16, 1), (DATA, 512, 1), (status, 1, 2)]) {
            asm.poke(Dword, AREA + 16 * n, gpa).poke(Dword, AREA + 16 * n + 8, len);
            asm.poke(Dword, AREA + 16 * n + 12, flags | (n + 1) << 16);
        }
        let failed = asm.label();
        let again = asm.here();
        // The second byte of the sector's number.
        asm.load(Dword, DATA).add_eax(1).store(Dword, DATA).store(Byte, header + 9);
        asm.poke(Byte, status, 0xff).load(Dword, DATA).store(Word, AREA + 0x1002);
        asm.poke(Word, BAR + 0x3000, 0);
        let used = asm.here();
        asm.load(Word, AREA + 0x2002).jump_unless_eax_is_at(Word, DATA, used);
        asm.load(Byte, status).jump_unless_eax_is(0, failed);
        asm.load(Dword, DATA).jump_unless_eax_is(STEPS, again);
        asm.print("all\n").stop();
        asm.place(failed).print("failed\n").stop();
    })
}

/// The first queue of the virtio disk.
fn bring_up(asm: &mut Asm) {
    asm.pci_write(SLOT, 0, 0x20, BAR).pci_write(SLOT, 0, 0x24, 0);
    asm.pci_write(SLOT, 0, 0x10, BAR).pci_write(SLOT, 0, 0x14, 0).pci_write(SLOT, 0, 0x04, 7);
    for status in [0, 1, 3] {
        asm.poke(Byte, BAR + 0x14, status);
    }
    asm.poke(Dword, BAR + 0x08, 1).poke(Dword, BAR + 0x0c, 1);
    asm.poke(Byte, BAR + 0x14, 0xb);
    asm.poke(Word, BAR + 0x16, 0).poke(Word, BAR + 0x18, 16);
    for (register, address) in [(0x20, AREA), (0x28, AREA + 0x1000), (0x30, AREA + 0x2000)] {
        asm.poke(Dword, BAR + register, address).poke(Dword, BAR + register + 4, 0);
    }
    asm.poke(Word, BAR + 0x1c, 1).poke(Byte, BAR + 0x14, 0xf);
}

/// `echo` as a guest that fills the disk in this file.
fn define_filling(rig: &Rig, driver: &str) {
    rig.write("kernel", filling());
    with_disk(rig, driver, "small/disk");
    ok(rig, &["define", "echo.xml"]);
}

/// A virtio disk in the slot where the guest looks for it.
pub(super) fn with_disk(rig: &Rig, driver: &str, file: &str) {
    let disk = format!(
        "<disk type='file'><driver name='qemu' type='raw'{driver}/><source file='{}'/>\
         <target dev='vda' bus='virtio'/>\
         <address type='pci' domain='0' bus='0' slot='{SLOT}' function='0'/></disk></devices>",
        rig.path(file).display()
    );
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("echo.xml", xml.replace("</devices>", &disk));
}

/// The first event of this kind.
pub(super) fn event(rig: &Rig, kind: &str) -> Event {
    event_like(rig, |event| event.event == kind)
}

fn event_like(rig: &Rig, wanted: impl Fn(&Event) -> bool) -> Event {
    let endpoint = api::client::Endpoint::Unix(rig.path("run/api.sock"));
    let client = api::client::Client::new(endpoint);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = client.events(Some(0), Some("echo")).await.unwrap();
        loop {
            let event = all.next().await.unwrap().unwrap();
            if wanted(&event) {
                return event;
            }
        }
    })
}

#[test]
fn a_guest_that_ran_out_of_space_waits_for_it_and_loses_nothing() {
    let Some(mut rig) = defined() else { return };
    std::fs::create_dir(rig.path("small")).unwrap();
    let mounted = SmallFs::new(SMALL).and_then(|mut fs| {
        fs.mount(&rig.path("small"))?;
        Ok(fs)
    });
    let fs = match mounted {
        Ok(fs) => fs,
        Err(error) => return println!("SKIP: no file system of our own: {error}"),
    };
    let disk = fs.file("disk").unwrap();
    disk.set_len(u64::from(STEPS + 1) << 17).unwrap();
    // Nothing said: a disk that runs full waits.
    define_filling(&rig, "");
    ok(&rig, &["start", "echo"]);
    wait_for("the disk to be full", || state(&rig) == "paused (I/O error)");
    assert_eq!(ok(&rig, &["domblkerror", "echo"]).trim(), "vda: no space");
    let told = event(&rig, "io-error");
    assert_eq!(told.device.as_deref(), Some("virtio-disk0"));
    assert_eq!((told.write, told.no_space), (Some(true), Some(true)));
    assert_eq!(told.action.as_deref(), Some("pause"));
    let suspended = |event: &Event| event.detail.as_deref() == Some("I/O Error");
    assert_eq!(event_like(&rig, suspended).lifecycle.as_deref(), Some("Suspended"));

    rig.end_daemon("KILL");
    rig.start_daemon();
    assert_eq!(state(&rig), "paused (I/O error)");
    // Without room it only waits again.
    ok(&rig, &["resume", "echo"]);
    wait_for("the disk to be full", || state(&rig) == "paused (I/O error)");
    fs.resize(SMALL * 64).unwrap();
    ok(&rig, &["resume", "echo"]);
    wait_for("the guest to be done", || {
        ok(&rig, &["domblkstat", "echo", "vda"]).contains(&format!("wr_req {STEPS}\n"))
    });
    assert_eq!(state(&rig), "running (unpaused)");
    assert_eq!(ok(&rig, &["domblkerror", "echo"]).trim(), "No errors found");
    ok(&rig, &["destroy", "echo"]);
    for step in 1..=STEPS {
        let mut content = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&disk, &mut content, u64::from(step) << 17)
            .unwrap();
        assert_eq!(u32::from_le_bytes(content), step);
    }
}
