//! One command: streams both ways, a time limit, and an end that is reported exactly once.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use testbed_agent::wire::{self, Exec, Kind, Outcome};

/// How long output is awaited after the command ended. A daemon it left behind may hold the
/// pipes open for ever; what the command itself wrote is in the pipe already.
const DRAIN: Duration = Duration::from_secs(1);

pub(crate) fn run(request: &Exec, stream: &TcpStream) -> io::Result<()> {
    let (program, arguments) =
        request.argv.split_first().ok_or_else(|| io::Error::other("no command given"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("TERM", "linux"),
        ])
        .envs(request.env.iter().map(|(name, value)| (name, value)))
        .current_dir(request.cwd.as_deref().unwrap_or("/root"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that a timeout or a client that left ends the whole family.
        .process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return refuse(program, &error, stream),
    };

    let output = Arc::new(Mutex::new(stream.try_clone()?));
    let (drained, drains) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        forward(pipe, Kind::Stdout, &output, &drained);
    }
    if let Some(pipe) = child.stderr.take() {
        forward(pipe, Kind::Stderr, &output, &drained);
    }
    let group = Pid::from_child(&child);
    let ended = Arc::new(AtomicBool::new(false));
    if let Some(stdin) = child.stdin.take() {
        let input = stream.try_clone()?;
        let ended = Arc::clone(&ended);
        thread::spawn(move || feed(input, stdin, group, &ended));
    }

    let outcome = wait(&mut child, group, request.timeout_ms)?;
    // From here on the group's number may belong to others, or to a daemon meant to stay.
    ended.store(true, Ordering::Release);
    for _ in 0..2 {
        let _ = drains.recv_timeout(DRAIN);
    }
    let mut to = output.lock().unwrap_or_else(PoisonError::into_inner);
    wire::send_value(&mut *to, Kind::Exited, &outcome)?;
    // Also ends the stdin thread, which blocks on this socket.
    to.shutdown(Shutdown::Both)
}

/// As a shell answers: 127 for a command that is not there, 126 for one that cannot run.
fn refuse(program: &str, error: &io::Error, mut stream: &TcpStream) -> io::Result<()> {
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    wire::send(&mut stream, Kind::Stderr, format!("{program}: {error}\n").as_bytes())?;
    wire::send_value(&mut stream, Kind::Exited, &Outcome::Code(code))
}

fn forward(
    mut pipe: impl Read + Send + 'static,
    kind: Kind,
    output: &Arc<Mutex<TcpStream>>,
    drained: &Sender<()>,
) {
    let (output, drained) = (Arc::clone(output), drained.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let mut to = output.lock().unwrap_or_else(PoisonError::into_inner);
            if wire::send(&mut *to, kind, &buffer[..length]).is_err() {
                break;
            }
        }
        let _ = drained.send(());
    });
}

/// Passes the client's input on. A client that vanished takes its command with it.
fn feed(mut from: TcpStream, stdin: ChildStdin, group: Pid, ended: &AtomicBool) {
    let mut stdin = Some(stdin);
    loop {
        match wire::receive(&mut from) {
            Ok(Some(frame)) if frame.kind == Kind::Stdin => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&frame.payload).is_err()
                {
                    stdin = None; // the command closed its input; that is its right
                }
            }
            Ok(Some(frame)) if frame.kind == Kind::StdinEnd => stdin = None,
            _ => {
                if !ended.load(Ordering::Acquire) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                return;
            }
        }
    }
}

fn wait(child: &mut Child, group: Pid, timeout_ms: Option<u64>) -> io::Result<Outcome> {
    let ended = pidfd_open(group, PidfdFlags::empty())?;
    let limit = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    });
    let in_time = poll(&mut [PollFd::new(&ended, PollFlags::IN)], limit.as_ref())? > 0;
    if !in_time {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    Ok(match (in_time, status.code(), status.signal()) {
        (false, ..) => Outcome::TimedOut,
        (true, Some(code), _) => Outcome::Code(code),
        (true, None, signal) => Outcome::Signal(signal.unwrap_or(0)),
    })
}
