//! QEMU: the installed one where it is new enough, else Debian's backport unpacked beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::apt::{Apt, BACKPORTS};
use crate::paths;

/// TCG of 7.2 crashes the emulated host's kernel now and then under life-cycle work.
const OLDEST: u32 = 10;

const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const DATA: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// Something that runs like a program: the installed binary, or one in an unpacked tree.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Qemu {
    pub fn find() -> anyhow::Result<Qemu> {
        let installed = Qemu { program: "qemu-system-x86_64".into(), arguments: Vec::new() };
        if installed.version().is_ok_and(|version| version >= OLDEST) {
            return Ok(installed);
        }
        let tree = paths::made_once("qemu", |tree| {
            Apt::open()?.unpack_closure(&["qemu-system-x86"], Some(BACKPORTS), tree)
        })?;
        let unpacked = Qemu::in_tree(&tree);
        let version = unpacked.version().context("the unpacked QEMU does not run")?;
        if version < OLDEST {
            bail!("Debian offered QEMU {version}, and the testbed needs {OLDEST}");
        }
        Ok(unpacked)
    }

    /// The tree's own loader and libraries run it: the machine's may be older or missing.
    pub fn in_tree(tree: &Path) -> Qemu {
        let below = |part: &&str| tree.join(part).display().to_string();
        let mut arguments = vec![
            "--library-path".to_owned(),
            LIBRARIES.iter().map(below).collect::<Vec<_>>().join(":"),
            below(&"usr/bin/qemu-system-x86_64"),
        ];
        for dir in &DATA {
            arguments.extend(["-L".to_owned(), below(dir)]);
        }
        Qemu { program: tree.join(LIBRARIES[0]).join("ld-linux-x86-64.so.2"), arguments }
    }

    pub fn command_line(&self) -> Vec<String> {
        let mut line = vec![self.program.display().to_string()];
        line.extend(self.arguments.iter().cloned());
        line
    }

    fn version(&self) -> anyhow::Result<u32> {
        let output = Command::new(&self.program).args(&self.arguments).arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_once("version ")
            .and_then(|(_, rest)| rest.split('.').next()?.parse().ok())
            .with_context(|| {
                format!("no version in {text:?} {}", String::from_utf8_lossy(&output.stderr))
            })
    }
}
