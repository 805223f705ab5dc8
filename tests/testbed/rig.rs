//! What the suites about guests share: a daemon, and a shell on a guest's console.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub(crate) use manor_tests::Xml;
use manor_tests::http::Console;
use manor_tests::{Api, Testbed, guest};

/// The emulated host is slow, and slower while something compiles beside it.
pub(crate) const LONG: Duration = Duration::from_secs(300);
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// The shared host with the stock guest's parts in /guest.
pub(crate) fn host() -> Result<Testbed> {
    let host = Testbed::get()?;
    host.put(&guest::kernel()?, "/guest/vmlinuz")?;
    host.put(&guest::vmlinux()?, "/guest/vmlinux")?;
    host.put(&guest::initrd()?, "/guest/initrd")?;
    Ok(host)
}

/// One port leads inside, so one daemon at a time listens there.
static PORT: Mutex<()> = Mutex::new(());

/// A daemon with directories of its own; dropping it ends it and its guests.
pub(crate) struct Daemon {
    pub(crate) host: Testbed,
    pub(crate) api: Api,
    pub(crate) dir: String,
    _port: MutexGuard<'static, ()>,
}

impl Daemon {
    pub(crate) fn start(name: &str) -> Result<Daemon> {
        host()?.sh(&format!("rm -rf /run/e2e/{name}"))?;
        Daemon::start_kept(name)
    }

    /// In directories that may exist.
    pub(crate) fn start_kept(name: &str) -> Result<Daemon> {
        Daemon::start_on(host()?, name)
    }

    /// On another host than the shared one, in directories that may exist.
    pub(crate) fn start_on(host: Testbed, name: &str) -> Result<Daemon> {
        let port = PORT.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = format!("/run/e2e/{name}");
        // The root of an initramfs is anybody's, and a broker trusts no path through such a directory.
        host.sh(&format!("chmod 755 /; mkdir -p {dir}"))?;
        let config = format!(
            "state_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nlog_dir = \"{dir}/log\"\nuser = \"nobody\"\n\
             [api]\nsocket = \"{dir}/api.sock\"\nsocket_group = \"\"\nread_only_socket = \"\"\n\
             listen = \"127.0.0.1:7000\"\nlisten_access = \"admin\"\n\
             [files]\nallow = [\"/run/e2e\", \"/run/state-images\"]\n"
        );
        host.write(&format!("{dir}/manor.toml"), config.as_bytes())?;
        let daemon = Daemon { api: host.api(), host, dir, _port: port };
        daemon.launch()?;
        daemon.api.await_ready(SHORT)?;
        Ok(daemon)
    }

    pub(crate) fn launch(&self) -> Result<()> {
        let dir = &self.dir;
        self.host.sh(&format!(
            "manor daemon --config {dir}/manor.toml >>{dir}/daemon.log 2>&1 </dev/null &
             echo $! >{dir}/pid"
        ))?;
        Ok(())
    }

    /// As a power failure of the daemon alone.
    pub(crate) fn kill_9(&self) -> Result<()> {
        let dir = &self.dir;
        self.host.sh(&format!(
            "pid=$(cat {dir}/pid); kill -9 $pid; while test -e /proc/$pid; do usleep 10000; done"
        ))?;
        Ok(())
    }

    /// The command line with this daemon; an error shows what it printed.
    pub(crate) fn manor(&self, words: &str) -> Result<String> {
        self.host.sh(&format!("manor --connect {}/api.sock {words}", self.dir))
    }

    /// What the command line says of a mistake.
    pub(crate) fn refused(&self, words: &str) -> Result<String> {
        let command = format!("manor --connect {}/api.sock {words}", self.dir);
        refused(&self.host, &command)
    }

    pub(crate) fn define(&self, xml: &Xml) -> Result<()> {
        self.define_text(&xml.text())
    }

    pub(crate) fn define_text(&self, xml: &str) -> Result<()> {
        self.api.post_xml("/v1/domains", xml)?.success()?;
        Ok(())
    }

    pub(crate) fn post(&self, domain: &str, what: &str) -> Result<()> {
        self.api.post(&format!("/v1/domains/{domain}/{what}"))?.success()?;
        Ok(())
    }

    pub(crate) fn define_and_start(&self, xml: &Xml) -> Result<()> {
        self.define(xml)?;
        self.post(&xml.name, "start")
    }

    /// Whether it lives and its guest has come up.
    pub(crate) fn await_guest(&self, domain: &str) -> Result<()> {
        self.api.console(domain)?.expect("MANOR-GUEST-UP", LONG)?;
        Ok(())
    }

    /// On a console that is at the prompt already.
    pub(crate) fn shell_again(&self, domain: &str) -> Result<Shell> {
        let mut shell = Shell { console: self.api.console(domain)? };
        shell.run("true")?;
        Ok(shell)
    }

    /// A guest whose init ends in a shell.
    pub(crate) fn shell(&self, domain: &str) -> Result<Shell> {
        let mut shell = Shell { console: self.api.console(domain)? };
        shell.await_prompt()?;
        Ok(shell)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let dir = &self.dir;
        let _ = self.host.sh(&format!(
            "for name in $(manor --connect {dir}/api.sock list --name); do
                 manor --connect {dir}/api.sock destroy $name
             done
             kill $(cat {dir}/pid) || true"
        ));
        if std::thread::panicking()
            && let Ok(log) = self.host.sh(&format!("tail -n 40 {dir}/daemon.log"))
        {
            println!("the daemon's log ends:\n{log}");
        }
    }
}

/// A command that must fail: what it writes to stderr.
pub(crate) fn refused(host: &Testbed, command: &str) -> Result<String> {
    let output = host.exec(&["/bin/sh", "-c", command])?;
    if output.outcome == manor_tests::testbed::Outcome::Code(0) {
        bail!("{command:?} went well:\n{}", output.stdout());
    }
    Ok(output.stderr())
}

/// A shell on a guest's serial line.
pub(crate) struct Shell {
    pub(crate) console: Console,
}

impl Shell {
    /// Root's, on a system that asks for a name and no password.
    pub(crate) fn log_in(mut console: Console, within: Duration) -> Result<Shell> {
        console.expect("guest login: ", within)?;
        // A prompt of before a reboot is not the one to come: what is typed before that is lost.
        console.forget();
        console.write(b"root\n")?;
        console.expect("# ", within)?;
        let mut shell = Shell { console };
        // Marks of a terminal would stand between what a command writes.
        shell.run("export TERM=dumb; bind 'set enable-bracketed-paste off' 2>/dev/null || true")?;
        Ok(shell)
    }

    pub(crate) fn await_prompt(&mut self) -> Result<()> {
        self.console.expect("MANOR-READY", LONG)?;
        self.console.expect("# ", LONG)?;
        Ok(())
    }

    /// The end mark is computed by the guest, so that the echo of the typed line is not it, and is
    /// another each time: a console begins with what was there before.
    pub(crate) fn run(&mut self, command: &str) -> Result<String> {
        self.run_within(command, LONG)
    }

    /// For commands that take about as long as a boot.
    pub(crate) fn run_within(&mut self, command: &str, within: Duration) -> Result<String> {
        static MARK: AtomicU32 = AtomicU32::new(1000);
        let mark = MARK.fetch_add(1, Ordering::Relaxed);
        self.console.forget();
        self.console.write(format!("{command}; echo END-$?-$(({mark}+0))-\n").as_bytes())?;
        let text = self.console.expect(&format!("-{mark}-"), within)?.to_owned();
        let (output, status) = text.rsplit_once("END-").context("no end mark")?;
        if status != format!("0-{mark}-") && !status.starts_with(&format!("0-{mark}-\r")) {
            bail!("{command:?} failed in the guest:\n{text}");
        }
        Ok(output.to_owned())
    }

    /// For commands after which there is no shell.
    pub(crate) fn last(&mut self, command: &str) -> Result<()> {
        self.console.forget();
        self.console.write(format!("{command}\n").as_bytes())
    }

    /// The newest `MANOR-TICK`, after one that was not there before.
    pub(crate) fn tick(&mut self) -> Result<u64> {
        self.console.forget();
        let until = Instant::now() + SHORT;
        loop {
            if let Some(tick) = ticks(self.console.text()).last() {
                return Ok(*tick);
            }
            if Instant::now() >= until {
                bail!("no tick in {:?}", self.console.text());
            }
            self.console.read(SHORT)?;
        }
    }
}

/// All whole `MANOR-TICK n` lines.
pub(crate) fn ticks(text: &str) -> Vec<u64> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .split("MANOR-TICK ")
        .skip(1)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}
