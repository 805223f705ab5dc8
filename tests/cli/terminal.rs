//! `manor console` as people use it: on a terminal, which is a pty here.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, tcgetattr};

use super::guests::{converse, defined, ok, state};
use super::rig::{MANOR, PATIENCE, Rig, wait_for};

/// A terminal with a command on it, and the side where the keyboard and the screen are.
pub(crate) struct Terminal {
    user: OwnedFd,
    line: OwnedFd,
    pub(crate) screen: String,
    /// The settings it had before the command.
    before: String,
    child: Child,
}

impl Terminal {
    fn with(rig: &Rig, args: &[&str]) -> Self {
        let mut command = rig.command(Path::new(MANOR));
        command.args(args);
        Self::on(command)
    }

    pub(crate) fn on(mut command: Command) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = open(path.as_c_str(), flags, Mode::empty()).unwrap();
        let before = settings(&line);
        let end = || Stdio::from(line.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { user, line, screen: String::new(), before, child }
    }

    pub(crate) fn type_in(&self, keys: &[u8]) {
        assert_eq!(rustix::io::write(&self.user, keys).unwrap(), keys.len());
    }

    /// Read what is on the screen until this is.
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.wait_for_either(text, text);
    }

    /// Whether the first of the two texts is there.
    pub(crate) fn wait_for_either(&mut self, text: &str, other: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen.contains(text) && !self.screen.contains(other) {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(&self.user, PollFlags::IN)];
            let timeout = Timespec::try_from(left).unwrap();
            assert_ne!(poll(&mut ready, Some(&timeout)).unwrap(), 0, "{:?}", self.screen);
            let mut buffer = [0; 256];
            let len = rustix::io::read(&self.user, &mut buffer).unwrap();
            self.screen.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        }
        self.screen.contains(text)
    }

    pub(crate) fn wait_for_the_end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the console to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Programs that ask for a password forget what was typed before they hid it.
    pub(crate) fn type_hidden(&self, keys: &[u8]) {
        let hidden = || !tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO);
        wait_for("the terminal to hide what is typed", hidden);
        self.type_in(keys);
    }

    fn is_as_before(&self) -> bool {
        settings(&self.line) == self.before
    }

    fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.line).unwrap();
        let cooked = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        !now.local_modes.intersects(cooked) && !now.output_modes.contains(OutputModes::OPOST)
    }
}

/// All that `stty` could tell.
fn settings(line: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(line).unwrap())
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_console_passes_every_key_but_its_escape_and_leaves_the_terminal_as_it_was() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    let mut terminal = Terminal::with(&rig, &["console", "echo"]);
    // The guest's output comes through raw mode: its line ends stay its own.
    terminal.wait_for("ready\n");
    let greeting = "Connected to domain 'echo'\r\nEscape character is ^] (Ctrl + ])\r\n";
    assert!(terminal.screen.starts_with(greeting), "{:?}", terminal.screen);
    assert!(terminal.is_raw() && !terminal.is_as_before());
    // An interrupt, an end of file and a suspension are for the guest; nothing is echoed here.
    terminal.type_in(b"one\x03\x04\x1atwo\r");
    terminal.wait_for("one\x03\x04\x1atwo\r");
    assert_eq!(terminal.screen.matches("one").count(), 1, "{:?}", terminal.screen);

    terminal.type_in(b"last\x1dlost");
    assert_eq!(terminal.wait_for_the_end().code(), Some(0));
    assert!(terminal.is_as_before());
    assert_eq!(state(&rig), "running (booted)");
    let seen = converse(&rig, "again", "again");
    assert!(seen.contains("last") && !seen.contains("lost"), "{seen:?}");
}

#[test]
fn another_escape_can_be_chosen_and_a_guest_that_goes_gives_the_terminal_back() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    let mut terminal = Terminal::with(&rig, &["--escape", "^a", "console", "echo"]);
    terminal.wait_for("Escape character is ^A (Ctrl + A)\r\n");
    terminal.wait_for("ready\n");
    terminal.type_in(b"\x1dstays");
    terminal.wait_for("\x1dstays");
    terminal.type_in(b"\x01");
    assert_eq!(terminal.wait_for_the_end().code(), Some(0));
    assert_eq!(state(&rig), "running (booted)");

    // Who has left is gone: the next one needs no force.
    let mut terminal = Terminal::with(&rig, &["console", "echo"]);
    terminal.wait_for("stays");
    terminal.type_in(b"q");
    terminal.wait_for("bye\n");
    assert_eq!(terminal.wait_for_the_end().code(), Some(0));
    assert!(terminal.is_as_before());
    wait_for("the guest to go", || state(&rig) == "shut off (shutdown)");
}
