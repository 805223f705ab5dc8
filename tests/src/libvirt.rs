//! libvirt's own clients as Debian 12 ships them: virsh, python3-libvirt, and virt-install with its
//! sisters. Nothing of them is installed; they run from an unpacked tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::Apt;
use crate::paths;
use crate::tree::Program;

const PACKAGES: [&str; 3] = ["libvirt-clients", "python3-libvirt", "virtinst"];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The unpacked tree.
#[derive(Debug, Clone)]
pub struct Clients {
    tree: PathBuf,
}

impl Clients {
    /// Fetched when the first asks.
    pub fn fetched() -> anyhow::Result<Clients> {
        let tree = paths::made_once("libvirt-clients", |tree| {
            Apt::open()?.unpack_closure(&PACKAGES, None, tree)
        })?;
        let clients = Clients { tree };
        let ran = clients.virsh(Path::new("/")).arg("--version").output();
        anyhow::ensure!(
            ran.is_ok_and(|output| output.status.success()),
            "the unpacked virsh does not run"
        );
        Ok(clients)
    }

    /// virsh, with `home` for what it keeps.
    pub fn virsh(&self, home: &Path) -> Command {
        self.command("usr/bin/virsh", home)
    }

    /// Python with its libvirt module.
    pub fn python(&self, home: &Path) -> Command {
        self.command("usr/bin/python3.11", home)
    }

    /// `virt-install`, `virt-clone` or `virt-xml`.
    pub fn virtinst(&self, tool: &str, home: &Path) -> Command {
        let mut command = self.python(home);
        command.arg(self.tree.join("usr/bin").join(tool));
        command
    }

    /// SASL's mechanisms for one of these programs, which brings the library alone.
    pub fn with_sasl(command: &mut Command) -> anyhow::Result<()> {
        let tree = paths::made_once("libsasl2-modules", |tree| {
            Apt::open()?.unpack(&["libsasl2-modules"], tree)
        })?;
        command.env("SASL_PATH", tree.join(LIBRARIES).join("sasl2"));
        Ok(())
    }

    fn command(&self, program: &str, home: &Path) -> Command {
        let below = |part: &str| self.tree.join(part);
        let modules = ["usr/lib/python3/dist-packages", "usr/share/virt-manager"].map(below);
        let modules = modules.map(|path| path.display().to_string()).join(":");
        let mut command = Program::in_tree(&self.tree, program).command();
        command
            .env("HOME", home)
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("PYTHONHOME", below("usr"))
            .env("PYTHONPATH", modules)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GI_TYPELIB_PATH", below(LIBRARIES).join("girepository-1.0"))
            .env("OSINFO_SYSTEM_DIR", below("usr/share/osinfo"))
            // What is said is compared.
            .env("LC_ALL", "C.UTF-8")
            .env("PYTHONIOENCODING", "utf-8");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_run_from_their_tree() {
        let clients = Clients::fetched().unwrap();
        let home = tempfile::tempdir().unwrap();
        let said = |mut command: Command| {
            let output = command.output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{error}");
            String::from_utf8(output.stdout).unwrap()
        };
        let mut python = clients.python(home.path());
        python.args(["-c", "import libvirt; print(libvirt.getVersion())"]);
        assert_eq!(said(python), "9000000\n");
        let mut install = clients.virtinst("virt-install", home.path());
        install.arg("--version");
        assert_eq!(said(install), "4.1.0\n");
    }
}
