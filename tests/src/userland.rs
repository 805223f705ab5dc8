//! [`Userland`]: packages of Debian unpacked into a root of their own, where programs run that look for their parts by
//! absolute paths (libosinfo's data, GTK's modules, Pacemaker's agents). Nothing is installed, and what a program
//! writes outside its home is forgotten with it. Needs root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::apt::{Apt, Release, run};
use crate::paths;

/// What no package depends on, for every Debian has it.
const ESSENTIAL: [&str; 15] = [
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "mawk",
    "procps",
    "sed",
    "tar",
    "util-linux",
];

/// The tree is shared and stays as it is: changes go to memory. The home appears at its own path.
const ENTER: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
tree=$1 home=$2
shift 2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root /mnt/changes /mnt/work
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/changes,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mkdir -p proc sys dev run tmp root ".$home"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount --bind "$home" ".$home"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$home" XDG_CACHE_HOME="$home/cache" LC_ALL=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 "$(command -v chroot)" . sh -c 'cd "$HOME"; exec "$@"' sh "$@"
"#;

/// What maintainer scripts and triggers would have made, where its package is there.
const SETTLE: &str = r"
set -e
ln -sf mawk /usr/bin/awk
ln -sf which.debianutils /usr/bin/which
rm -rf /var/run
ln -s /run /var/run
libraries=/usr/lib/x86_64-linux-gnu
run() { if test -x $1; then $*; fi; }
run $libraries/glib-2.0/glib-compile-schemas /usr/share/glib-2.0/schemas
run /usr/bin/update-mime-database /usr/share/mime
run $libraries/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders --update-cache
";

#[derive(Debug, Clone)]
pub struct Userland {
    tree: PathBuf,
}

impl Userland {
    /// Of these packages and what they need, fetched when the first asks.
    pub fn of(release: Release, name: &str, packages: &[&str]) -> anyhow::Result<Userland> {
        Self::with_part(release, name, packages, None)
    }

    /// And with what a package that is not needed as a whole has below a directory.
    pub fn with_part(
        release: Release,
        name: &str,
        packages: &[&str],
        part: Option<(&str, &str)>,
    ) -> anyhow::Result<Userland> {
        if !rustix::process::geteuid().is_root() {
            bail!("a root of its own needs root");
        }
        let tree = paths::made_once(name, |tree| {
            let all: Vec<_> = ESSENTIAL.iter().chain(packages).copied().collect();
            let apt = Apt::of(release)?;
            apt.unpack_closure(&all, None, tree)?;
            if let Some((package, below)) = part {
                apt.unpack_part(package, below, tree)?;
            }
            settle(tree)
        })?;
        Ok(Userland { tree })
    }

    /// A program and its arguments, in `home`. All that it starts ends with it.
    pub fn command(&self, home: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"])
            .args([&self.tree, home])
            .args(words);
        command
    }

    /// Where a file of a package lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }
}

fn settle(tree: &Path) -> anyhow::Result<()> {
    let write = |name: &str, text: &str| {
        fs::write(tree.join("etc").join(name), text).with_context(|| format!("cannot write {name}"))
    };
    write("passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")?;
    write("group", "root:x:0:\nnogroup:x:65534:\n")?;
    write("hosts", "127.0.0.1 localhost\n")?;
    write("machine-id", "0123456789abcdef0123456789abcdef\n")?;
    if !tree.join("bin/sh").exists() {
        symlink("dash", tree.join("bin/sh"))?;
    }
    run(Command::new("chroot").arg(tree).args(["/bin/sh", "-c", SETTLE]).env("LC_ALL", "C"))
}
