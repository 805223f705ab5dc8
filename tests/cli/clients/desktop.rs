//! virt-viewer and virt-manager, on a screen that nobody sees: Xvfb keeps it in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use manor_tests::picture::Picture;
use manor_tests::userland::Userland;

use super::super::rig::Rig;
use super::super::viewers::{BANDS, SIZE, painted};
use super::{Running, at_system, userland};

const ON_A_SCREEN: &str = r#"
rm -f display
Xvfb -displayfd 3 -screen 0 1024x768x24 -fbdir "$HOME" 3> display &
until test -s display; do sleep 0.1; done
export DISPLAY=":$(cat display)" GSETTINGS_BACKEND=memory
exec dbus-run-session -- "$@"
"#;

/// In the file that Xvfb names so.
const SCREEN: &str = "Xvfb_screen0";

/// Programs of this size take long to begin where others build.
const PATIENCE: Duration = Duration::from_secs(180);

fn wait_for(what: &str, rig: &Rig, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}: {}", log(rig));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn desktop() -> Option<Userland> {
    userland("client-desktop", &["dbus", "xvfb", "virt-viewer", "virt-manager"])
}

/// A program that has no daemon but that which its words name.
fn started_apart(desktop: &Userland, rig: &Rig, words: &[&str]) -> Running {
    let mut all = vec!["sh", "-c", ON_A_SCREEN, "sh"];
    all.extend(words);
    let mut command = desktop.command(rig.directory.path(), &all);
    command.stdin(std::process::Stdio::null());
    Running::start(command, &rig.path("desktop.log"))
}

fn started(desktop: &Userland, rig: &Rig, words: &[&str]) -> Running {
    let mut all = vec!["sh", "-c", ON_A_SCREEN, "sh"];
    all.extend(words);
    let home = rig.directory.path();
    let command = at_system(desktop, home, &rig.path("run/libvirt-sock"), &all);
    Running::start(command, &rig.path("desktop.log"))
}

/// How many pixels have each of the guest's colours.
fn bands_in(screen: &Path) -> [usize; 3] {
    let file = std::fs::read(screen).unwrap_or_default();
    let Ok(picture) = Picture::of_xwd(&file) else { return [0; 3] };
    BANDS.map(|band| picture.pixels.iter().filter(|pixel| **pixel == band).count())
}

/// All of the guest's screen is on this one, as large as it is or larger.
fn wait_for_the_guest(rig: &Rig, words: &[&str]) {
    let third = SIZE.0 * SIZE.1 / 3;
    wait_for(&format!("the guest's screen in {}", words.join(" ")), rig, || {
        let [first, second, last] = bands_in(&rig.path(SCREEN));
        // Scaled by a fraction, lines in between are mixed.
        let alike = |count: usize| count >= third && count.abs_diff(first) <= first / 10;
        alike(first) && alike(second) && alike(last)
    });
}

fn log(rig: &Rig) -> String {
    std::fs::read_to_string(rig.path("desktop.log")).unwrap_or_default()
}

#[test]
fn virt_viewer_shows_the_guests_screen() {
    let Some(desktop) = desktop() else { return };
    let Some(rig) = painted("", "<graphics type='vnc' port='-1'/>") else { return };
    // By a descriptor from the daemon, and by the port that the definition tells.
    for way in ["--attach", "--direct"] {
        let _ = std::fs::remove_file(rig.path(SCREEN));
        let words = ["virt-viewer", "--connect", "qemu:///system", way, "show"];
        let _viewer = started(&desktop, &rig, &words);
        wait_for_the_guest(&rig, &words);
    }
}

#[test]
#[ignore = "takes long: --all"]
fn virt_manager_lists_guests_and_shows_one() {
    let Some(desktop) = desktop() else { return };
    let Some(rig) = painted("", "<graphics type='vnc' port='-1'/>") else { return };
    let words = |more: [&'static str; 2]| {
        let manager = ["virt-manager", "--no-fork", "--debug", "--connect", "qemu:///system"];
        [&manager[..], &more[..]].concat()
    };
    let console = words(["--show-domain-console", "show"]);
    let manager = started(&desktop, &rig, &console);
    wait_for_the_guest(&rig, &console);
    drop(manager);
    let editor = words(["--show-domain-editor", "show"]);
    let manager = started(&desktop, &rig, &editor);
    wait_for("the guest's details", &rig, || {
        let log = log(&rig);
        log.contains("domain=show status=Running added") && log.contains("Showing VM details")
    });
    drop(manager);
    // By another path: with a transport in it (qemu+unix), the guest would be one of another host.
    std::fs::remove_file(rig.path(SCREEN)).unwrap();
    let uri = format!("qemu:///system?socket={}", rig.path("run/libvirt-sock").display());
    let mut words = console.clone();
    words[4] = &uri;
    let manager = started_apart(&desktop, &rig, &words);
    wait_for_the_guest(&rig, &words);
    drop(manager);
    let log = log(&rig);
    for trouble in ["Traceback", "libvirtError", "unknown procedure"] {
        assert!(!log.contains(trouble), "{trouble}: {log}");
    }
}
