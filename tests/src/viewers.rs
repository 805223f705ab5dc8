//! A VNC viewer of Debian that needs no screen: gvnccapture, on the library (gtk-vnc) that virt-viewer and
//! GNOME's programs see guests with.

use anyhow::ensure;

use crate::apt::Apt;
use crate::paths;
use crate::tree::Program;

/// What the machine has in any case; with another loader than its own the library's plug-ins would not be found.
const PRESENT: [&str; 1] = ["libc6"];

/// `gvnccapture HOST:DISPLAY FILE.png`
pub fn gvnccapture() -> anyhow::Result<Program> {
    let installed = Program::installed("gvnccapture");
    if runs(&installed) {
        return Ok(installed);
    }
    // The package's other program would bring all of GTK.
    let tree = paths::made_once("gvnccapture", |tree| {
        let apt = Apt::open()?;
        apt.unpack_closure_without(&["libgvnc-1.0-0"], &PRESENT, tree)?;
        apt.unpack(&["gvncviewer"], tree)
    })?;
    let pulse = ["usr/lib/x86_64-linux-gnu/pulseaudio"];
    let unpacked = Program::beside(&tree, "usr/bin/gvnccapture", &pulse);
    ensure!(runs(&unpacked), "the unpacked gvnccapture does not run");
    Ok(unpacked)
}

fn runs(program: &Program) -> bool {
    program.command().arg("--help").output().is_ok_and(|output| output.status.success())
}
