//! What the filters do to a thread that steps outside: it takes the process with it, at once.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use vmm::sandbox::{Kind, Sandbox};

/// Tells this program to confine itself as a kind of thread, and to do something there.
const KIND: &str = "MANOR_TEST_KIND";
const ACT: &str = "MANOR_TEST_ACT";

/// By name: what it is, and whether a filter lets it pass.
const ACTS: [(&str, bool, fn()); 9] = [
    ("tell the time and allocate", true, || {
        assert!(std::time::SystemTime::now() > std::time::UNIX_EPOCH);
        drop(vec![1u8; 4 << 20]);
    }),
    ("write to stderr", true, || eprintln!("allowed")),
    ("open a file", false, || drop(fs::File::open("/dev/null"))),
    ("start a program", false, || drop(Command::new("/bin/true").status())),
    ("start a thread", false, || drop(thread::spawn(|| ()).join())),
    ("connect", false, || drop(std::net::TcpStream::connect("127.0.0.1:9"))),
    ("send a signal", false, || {
        let parent = rustix::process::getppid().unwrap();
        let _ = rustix::process::test_kill_process(parent);
    }),
    ("map executable memory", false, crate::sys::map_executable),
    ("use an ioctl of its own", false, || {
        let _ = rustix::termios::tcgetwinsize(std::io::stderr());
    }),
];

/// Not a test: the confined child of [`every_filter_lets_pass_and_kills`].
#[test]
fn the_confined_thread_itself() {
    let (Ok(kind), Ok(act)) = (env::var(KIND), env::var(ACT)) else { return };
    let kind = Kind::ALL.into_iter().find(|it| format!("{it:?}") == kind).unwrap();
    let (_, _, act) = ACTS.into_iter().find(|(name, _, _)| *name == act).unwrap();
    let sandbox = Sandbox::on().unwrap();
    // The main thread of a test program may do what it likes; the filter is the new thread's own.
    let confined = thread::spawn(move || {
        sandbox.enter(kind).unwrap();
        act();
    });
    confined.join().unwrap();
}

#[test]
fn every_filter_lets_pass_and_kills() {
    for kind in Kind::ALL {
        for (act, allowed, _) in ACTS {
            let output = Command::new(env::current_exe().unwrap())
                .args(["--exact", "sandbox::the_confined_thread_itself", "--nocapture"])
                .env(KIND, format!("{kind:?}"))
                .env(ACT, act)
                .env_remove("MANOR_SECCOMP")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let died = output.status.signal() == Some(libc::SIGSYS);
            assert_eq!(died, !allowed, "{kind:?}: {act}: {output:?}");
            assert!(died || output.status.success(), "{kind:?}: {act}: {output:?}");
        }
    }
}
