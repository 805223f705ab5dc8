//! [`Warden`]: what was started for a test ends with it, however the test ends, also by SIGKILL.
//!
//! Guests outlive their daemon, and so they would outlive the test. What belongs to it is known by where it
//! writes what goes wrong: into a file below the test's directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A shell that waits until nobody can write to it any more.
pub struct Warden(Child);

/// `$1` is the directory. Each process that is killed may have started another just before.
const SCRIPT: &str = r#"
exec 2>/dev/null
cat
inmates() { find /proc/[0-9]*/fd/2 -maxdepth 0 -lname "$directory/*" | cut -d / -f 3; }
directory=$1
shift
tries=0
while pids=$(inmates); test -n "$pids" -a $tries -lt 500; do
    kill -s KILL $pids
    sleep 0.02
    tries=$((tries + 1))
done
"#;

impl Warden {
    /// Over the processes that have their stderr below `directory`, which goes with them. `afterwards` is done
    /// then, by the shell, with `words` as `$1` and on.
    ///
    /// # Errors
    /// Where there is no shell.
    pub fn over(directory: &Path, afterwards: &str, words: &[&OsStr]) -> io::Result<Self> {
        let script = format!("{SCRIPT}{afterwards}\nrm -rf \"$directory\"");
        let mut shell = Command::new("/bin/sh");
        // Of another group than the test's, so that what is typed at the terminal does not end it first.
        shell.args(["-c", &script, "warden"]).arg(directory).args(words).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().map(Self)
    }
}

impl Drop for Warden {
    /// Returns when all of them are gone.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The processes that have their stderr below `directory`, with their names.
#[must_use]
pub fn inmates(directory: &Path) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stderr = std::fs::read_link(format!("/proc/{pid}/fd/2")).ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        stderr
            .starts_with(directory)
            .then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    })
    .collect()
}
