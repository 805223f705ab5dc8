//! Where the demo runs: on this host as root, or in an emulated one.

use std::cell::RefCell;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use manor_tests::Testbed;
use manor_tests::testbed::Options;
use testbed_agent::HTTP_PORT;

const NAME: &str = "demo";
const MEMORY_MIB: u32 = 2048;

pub(super) enum Place {
    Here {
        port: u16,
        sudo: bool,
    },
    /// Empty while it is down.
    Emulated(RefCell<Option<Testbed>>),
}

/// Where another's guests may be: a second daemon would take the rules of their networks for its own, and
/// the subnet of `default` is given once.
const OTHERS: [&str; 2] = ["/run/manor/api.sock", "/sys/class/net/virbr0"];

impl Place {
    pub(super) fn emulated() -> Place {
        Place::Emulated(RefCell::default())
    }

    /// And why.
    pub(super) fn choose(manor: &Path) -> anyhow::Result<(Place, String)> {
        let emulated = Place::emulated();
        if let Some(other) = OTHERS.iter().find(|path| Path::new(path).exists()) {
            return Ok((emulated, format!("{other} is there, so this host may serve guests")));
        }
        let Some(sudo) = privilege() else {
            return Ok((emulated, "neither root nor sudo, which taps and bridges need".into()));
        };
        let mut check = if sudo { Command::new("sudo") } else { Command::new(manor) };
        if sudo {
            check.arg(manor);
        }
        let output = check.args(["host-check", "--json"]).output();
        let output = output.context("cannot run manor host-check")?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
            .context("manor host-check --json printed no report")?;
        if report["level"] == "linux" {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            return Ok((Place::Here { port, sudo }, "its KVM runs ordinary guests".into()));
        }
        let failed = report["checks"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|check| check["result"] == "fail");
        let why = failed.map_or_else(
            || "host-check says so".to_owned(),
            |check| {
                let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
                format!(
                    "this host's KVM does not run ordinary guests ({}: {})",
                    text("name"),
                    text("detail")
                )
            },
        );
        Ok((emulated, why))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Place::Here { .. } => "on this host",
            Place::Emulated(_) => "in the testbed, an emulated host",
        }
    }

    pub(super) fn begin(&self) -> anyhow::Result<()> {
        if let Place::Emulated(testbed) = self {
            // One that an interrupted run left may be in any state.
            Testbed::down(NAME)?;
            let options = Options { memory_mib: MEMORY_MIB, ..Options::named(NAME) };
            *testbed.borrow_mut() = Some(Testbed::up(&options)?);
        }
        Ok(())
    }

    pub(super) fn end(&self) -> anyhow::Result<()> {
        match self {
            Place::Here { .. } => Ok(()),
            Place::Emulated(_) => Testbed::down(NAME),
        }
    }

    /// Where the daemon shall listen.
    pub(super) fn daemon_port(&self) -> u16 {
        match self {
            Place::Here { port, .. } => *port,
            Place::Emulated(_) => HTTP_PORT,
        }
    }

    /// Where it is found.
    pub(super) fn port_here(&self) -> u16 {
        match self {
            Place::Here { port, .. } => *port,
            Place::Emulated(testbed) => testbed.borrow().as_ref().map_or(0, Testbed::http_port),
        }
    }

    pub(super) fn put(&self, local: &Path, remote: &str) -> anyhow::Result<()> {
        match self {
            Place::Here { .. } => {
                self.sh(&format!("cp --sparse=auto '{}' '{remote}'", local.display())).map(drop)
            }
            Place::Emulated(_) => self.testbed()?.put(local, remote),
        }
    }

    pub(super) fn write(&self, remote: &str, contents: &str) -> anyhow::Result<()> {
        match self {
            Place::Here { .. } => {
                self.here(&format!("cat >'{remote}'"), contents.as_bytes()).map(drop)
            }
            Place::Emulated(_) => self.testbed()?.write(remote, contents.as_bytes()),
        }
    }

    /// A shell script as root; what it printed. Any status but 0 is an error.
    pub(super) fn sh(&self, script: &str) -> anyhow::Result<String> {
        match self {
            Place::Here { .. } => self.here(script, b""),
            Place::Emulated(_) => self.testbed()?.sh(script),
        }
    }

    fn testbed(&self) -> anyhow::Result<Testbed> {
        match self {
            Place::Emulated(testbed) => testbed.borrow().clone().context("the testbed is down"),
            Place::Here { .. } => bail!("this is not the testbed"),
        }
    }

    fn here(&self, script: &str, input: &[u8]) -> anyhow::Result<String> {
        let mut command = if matches!(self, Place::Here { sudo: true, .. }) {
            let mut command = Command::new("sudo");
            command.arg("/bin/sh");
            command
        } else {
            Command::new("/bin/sh")
        };
        let mut child = command
            .args(["-euc", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run a shell")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input)?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let wrong = String::from_utf8_lossy(&output.stderr);
            bail!("{}\nstdout: {text}\nstderr: {wrong}", output.status);
        }
        Ok(text)
    }
}

/// Whether sudo is needed; `None` if there is no way to become root.
fn privilege() -> Option<bool> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout == b"0\n" {
        return Some(false);
    }
    // It may ask for a password, on the terminal.
    Command::new("sudo").arg("true").status().ok()?.success().then_some(true)
}
