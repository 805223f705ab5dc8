//! Debian packages, fetched with the system's apt into a directory of ours: own package lists,
//! own cache, an empty dpkg status. The system's packages, lists and root are left alone; its
//! mirror, proxy and keyring are used.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::paths;

/// Of Debian. The testbed is made of one of them whatever the machine runs, so that results compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Release {
    /// 12, which the testbed is.
    #[default]
    Bookworm,
    /// 13.
    Trixie,
}

impl Release {
    pub fn name(self) -> &'static str {
        match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }

    /// For the name of what is made of it: nothing for the usual one.
    pub fn suffix(self) -> &'static str {
        match self {
            Release::Bookworm => "",
            Release::Trixie => "-trixie",
        }
    }
}

pub const BACKPORTS: &str = "bookworm-backports";

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A private view of Debian's archive.
pub struct Apt {
    release: Release,
    dir: PathBuf,
    config: PathBuf,
    archives: PathBuf,
}

impl Apt {
    /// Call it from within [`paths::made_once`], whose lock keeps two users apart.
    pub fn open() -> anyhow::Result<Apt> {
        Apt::of(Release::default())
    }

    /// The packages of another release.
    pub fn of(release: Release) -> anyhow::Result<Apt> {
        for (tool, package) in [("apt-get", "apt"), ("dpkg-deb", "dpkg")] {
            if Command::new(tool).arg("--version").output().is_err() {
                bail!(
                    "`{tool}` is missing: the testbed is made from Debian packages, so it needs \
                     Debian's {package}"
                );
            }
        }
        let root = paths::testbed().join(format!("apt{}", release.suffix()));
        let archives = root.join("cache/archives");
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::write(root.join("state/status"), "")?;
        fs::write(root.join("sources.list"), sources(release)?)?;
        let config = root.join("apt.conf");
        fs::write(&config, configuration(&root))?;
        let apt = Apt { release, dir: root.clone(), config, archives };
        if !root.join("updated").exists() {
            apt.update()?;
        }
        Ok(apt)
    }

    fn update(&self) -> anyhow::Result<()> {
        say("fetching Debian's package lists");
        self.get(&["update"])?;
        fs::write(self.config.with_file_name("updated"), "")?;
        Ok(())
    }

    /// Just these packages, unpacked into `tree`.
    pub fn unpack(&self, packages: &[&str], tree: &Path) -> anyhow::Result<()> {
        let into = self.dir.join("download");
        paths::remove(&into)?;
        self.download(packages, &into)?;
        unpack_all(&into, tree)?;
        paths::remove(&into)
    }

    /// What a large package has below one directory.
    pub fn unpack_part(&self, package: &str, below: &str, tree: &Path) -> anyhow::Result<()> {
        let into = self.dir.join("download");
        paths::remove(&into)?;
        self.download(&[package], &into)?;
        for path in debs(&into)? {
            let mut whole = Command::new("dpkg-deb")
                .arg("--fsys-tarfile")
                .arg(&path)
                .stdout(Stdio::piped())
                .spawn()?;
            let files = whole.stdout.take().context("no output of dpkg-deb")?;
            let mut take = Command::new("tar");
            take.args(["--extract", "--directory"])
                .arg(tree)
                .arg(format!("./{below}"))
                .stdin(files);
            run(&mut take)?;
            whole.wait()?;
        }
        paths::remove(&into)
    }

    /// Just these packages, as files in `into`.
    pub fn download(&self, packages: &[&str], into: &Path) -> anyhow::Result<()> {
        say(&format!("fetching {}", packages.join(" ")));
        let mut names = vec!["download"];
        names.extend(packages);
        fs::create_dir_all(into)?;
        self.refreshing(|| self.get_in(into, &names))
    }

    /// These packages with all they depend on, unpacked into `tree`: what an installation into
    /// an empty system would bring, without its maintainer scripts.
    pub fn unpack_closure(
        &self,
        packages: &[&str],
        from: Option<&str>,
        tree: &Path,
    ) -> anyhow::Result<()> {
        say(&format!("fetching {} and what it needs", packages.join(" ")));
        let mut arguments = vec!["install", "--yes", "--download-only"];
        if let Some(release) = from {
            arguments.extend(["--target-release", release]);
        }
        arguments.extend(packages);
        paths::remove(&self.archives)?;
        fs::create_dir_all(self.archives.join("partial"))?;
        self.refreshing(|| self.get(&arguments))?;
        unpack_all(&self.archives, tree)?;
        paths::remove(&self.archives)
    }

    /// The same, but for what is taken to be there: the machine's libc, with which the programs will run, and what
    /// is large and not needed.
    pub fn unpack_closure_without(
        &self,
        packages: &[&str],
        without: &[&str],
        tree: &Path,
    ) -> anyhow::Result<()> {
        let status = self.dir.join("state/status");
        let mut text = String::new();
        for package in without {
            let _ = write!(
                text,
                "Package: {package}\nStatus: install ok installed\nVersion: 99:0\n\
                 Architecture: amd64\nMaintainer: nobody\nDescription: taken to be there\n\n"
            );
        }
        fs::write(&status, text)?;
        let unpacked = self.unpack_closure(packages, None, tree);
        fs::write(&status, "")?;
        unpacked
    }

    /// A system with these packages installed, maintainer scripts and all: what an installer
    /// leaves on a root file system. Needs root, for the scripts run in the new root.
    pub fn install(&self, packages: &[&str], root: &Path) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("installing Debian into a directory needs root: run this with sudo");
        }
        let tools = self.dir.join("mmdebstrap");
        if !tools.exists() {
            self.unpack(&["mmdebstrap"], &tools)?;
        }
        say(&format!("installing Debian with {}", packages.join(" ")));
        let options = self.dir.join("acquire.conf");
        fs::write(&options, acquire_options()?)?;
        let mut command = Command::new("perl");
        command
            .arg(tools.join("usr/bin/mmdebstrap"))
            .args(["--mode=root", "--variant=minbase", "--format=directory", "--quiet"])
            .arg(format!("--aptopt={}", options.display()))
            .arg(format!("--include={}", packages.join(",")))
            .arg(self.release.name())
            .args([root, &self.dir.join("sources.list")]);
        run(&mut command)
    }

    /// The newest version's dependencies of a metapackage, by name.
    pub fn depends(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let output = Command::new("apt-cache")
            .arg("--config-file")
            .arg(&self.config)
            .args(["depends", "--important", package])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .collect();
        if names.is_empty() {
            bail!(
                "{package} is not in Debian's lists: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(names)
    }

    /// A mirror drops superseded versions, so lists of last week name files that are gone.
    fn refreshing(&self, fetch: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        if fetch().is_ok() {
            return Ok(());
        }
        self.update()?;
        fetch()
    }

    fn get(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.get_in(Path::new("/"), arguments)
    }

    fn get_in(&self, dir: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("apt-get");
        command.arg("--config-file").arg(&self.config).arg("--quiet=2").args(arguments);
        command.current_dir(dir).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    }
}

/// Mirrors of the machine's own configuration where it has Debian's, else the public ones.
fn sources(release: Release) -> anyhow::Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
        .output()?;
    let configured = String::from_utf8_lossy(&output.stdout).into_owned();
    let mirror = |security: bool, default: &str| {
        configured
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(uri, release)| {
                uri.trim_end_matches('/').ends_with(if security { "-security" } else { "/debian" })
                    && release.ends_with("-security") == security
            })
            .map_or(default, |(uri, _)| uri)
            .to_owned()
    };
    let main = mirror(false, DEFAULT_MIRROR);
    let security = mirror(true, DEFAULT_SECURITY_MIRROR);
    let keyring =
        if Path::new(KEYRING).exists() { format!("signed-by={KEYRING}") } else { String::new() };
    let mut text = String::new();
    let name = release.name();
    let mut suites = vec![
        (&main, name.to_owned()),
        (&main, format!("{name}-updates")),
        (&security, format!("{name}-security")),
    ];
    if release == Release::Bookworm {
        suites.push((&main, BACKPORTS.to_owned()));
    }
    for (uri, suite) in suites {
        writeln!(text, "deb [arch=amd64 {keyring}] {uri} {suite} main")?;
    }
    Ok(text)
}

/// Read after the system's own configuration, whose proxies and credentials stay in force.
fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        r#"// Hooks of the system's apt act on the system's cache.
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Log "{root}/log";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
"#
    )
}

/// How the machine's apt reaches its mirror, for an apt that reads no other configuration of it.
fn acquire_options() -> anyhow::Result<String> {
    let output = Command::new("apt-config").args(["dump", "Acquire"]).output()?;
    let dump = String::from_utf8(output.stdout)?;
    let set = |line: &&str| !line.contains(r#" "";"#);
    let mut text: String = dump.lines().filter(set).flat_map(|line| [line, "\n"]).collect();
    text.push_str("Acquire::Languages \"none\";\n");
    Ok(text)
}

fn unpack_all(from: &Path, tree: &Path) -> anyhow::Result<()> {
    for path in debs(from)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(tree))?;
    }
    Ok(())
}

fn debs(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths: Result<Vec<_>, _> =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_deb = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    Ok(paths?.into_iter().filter(is_deb).collect())
}

/// Runs to the end; the error carries the command and what it wrote.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Progress for whoever waits for a download.
#[expect(clippy::print_stderr, reason = "the harness speaks to a developer's terminal")]
pub(crate) fn say(text: &str) {
    eprintln!("testbed: {text}");
}
