//! The outer end of the agent's protocol.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testbed_agent::wire::{
    self, Act, Exec, FileFollows, Frame, Kind, MAX_PAYLOAD, Outcome, Put, Request,
};

use super::heartbeat;
use super::instance::Instance;
use crate::paths;

/// A test that hangs must end by itself: no command inside takes longer unless it says so.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// A command about to run inside.
pub struct Command<'a> {
    instance: &'a Instance,
    exec: Exec,
    stdin: Box<dyn Read + Send>,
}

/// How a command ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    pub outcome: Outcome,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// What it wrote if it ended with status 0, else an error that shows everything.
    pub fn success(&self) -> anyhow::Result<String> {
        if self.outcome != Outcome::Code(0) {
            bail!("{:?}\nstdout: {}\nstderr: {}", self.outcome, self.stdout(), self.stderr());
        }
        Ok(self.stdout())
    }
}

impl<'a> Command<'a> {
    pub(super) fn new(instance: &'a Instance, argv: &[&str]) -> Command<'a> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        Command { instance, exec: Exec { argv, ..Exec::default() }, stdin: Box::new(io::empty()) }
    }

    #[must_use]
    pub fn stdin(mut self, input: impl Read + Send + 'static) -> Self {
        self.stdin = Box::new(input);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.exec.env.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn current_dir(mut self, dir: &str) -> Self {
        self.exec.cwd = Some(dir.to_owned());
        self
    }

    /// Zero is no limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.exec.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    pub fn output(self) -> anyhow::Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let outcome = self.stream(|kind, bytes| {
            if kind == Kind::Stdout { &mut stdout } else { &mut stderr }.extend_from_slice(bytes);
        })?;
        Ok(Output { outcome, stdout, stderr })
    }

    /// Runs to the end and hands output over as it comes.
    pub fn stream(mut self, mut output: impl FnMut(Kind, &[u8])) -> anyhow::Result<Outcome> {
        self.exec.timeout_ms = match self.exec.timeout_ms {
            None => Some(u64::try_from(DEFAULT_TIMEOUT.as_millis())?),
            Some(0) => None,
            limit => limit,
        };
        let instance = self.instance;
        let mut stream = request(instance, Act::Exec(self.exec))?;
        let mut input = stream.try_clone()?;
        let stdin = self.stdin;
        // Beside the output: a command may write before it has read everything.
        thread::spawn(move || feed(&mut input, stdin));
        loop {
            let frame = reply(instance, &mut stream)?;
            match frame.kind {
                Kind::Stdout | Kind::Stderr => output(frame.kind, &frame.payload),
                Kind::Exited => return Ok(frame.decode()?),
                _ => return Err(unexpected(&frame)),
            }
        }
    }

    /// Starts it and returns; without a time limit unless one was set.
    pub fn spawn(self) -> anyhow::Result<Running> {
        let instance = self.instance.clone();
        let mut stream = request(&instance, Act::Exec(self.exec))?;
        feed_part(&mut stream, self.stdin)?;
        let (sender, frames) = mpsc::channel();
        let mut from = stream.try_clone()?;
        let reader = instance.clone();
        thread::spawn(move || {
            loop {
                let frame = reply(&reader, &mut from);
                let last = !matches!(&frame, Ok(f) if f.kind != Kind::Exited);
                if sender.send(frame).is_err() || last {
                    return;
                }
            }
        });
        Ok(Running { stream, frames, outcome: None, text: String::new() })
    }
}

/// A command that runs inside; dropping it kills its process group.
pub struct Running {
    stream: TcpStream,
    frames: mpsc::Receiver<anyhow::Result<Frame>>,
    outcome: Option<Outcome>,
    text: String,
}

impl Running {
    /// Waits until its output (both streams as they came) contains `text`; returns all so far.
    pub fn expect(&mut self, text: &str, limit: Duration) -> anyhow::Result<&str> {
        let until = Instant::now() + limit;
        while !self.text.contains(text) {
            if let Some(outcome) = self.outcome {
                bail!("ended with {outcome:?} before it wrote {text:?}:\n{}", self.text);
            }
            self.step(until).with_context(|| format!("no {text:?} in:\n{}", self.text))?;
        }
        Ok(&self.text)
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<Outcome> {
        let until = Instant::now() + limit;
        loop {
            if let Some(outcome) = self.outcome {
                return Ok(outcome);
            }
            self.step(until).with_context(|| format!("still running; wrote:\n{}", self.text))?;
        }
    }

    /// Writes to its standard input.
    pub fn input(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(feed_part(&mut self.stream, bytes)?)
    }

    /// What it wrote so far.
    pub fn text(&mut self) -> &str {
        while self.outcome.is_none() && self.step(Instant::now()).is_ok() {}
        &self.text
    }

    fn step(&mut self, until: Instant) -> anyhow::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let frame = self.frames.recv_timeout(left).context("time is up")??;
        match frame.kind {
            Kind::Stdout | Kind::Stderr => {
                self.text.push_str(&String::from_utf8_lossy(&frame.payload));
            }
            Kind::Exited => self.outcome = Some(frame.decode()?),
            _ => return Err(unexpected(&frame)),
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

pub(super) fn put(instance: &Instance, local: &Path, remote: &str) -> anyhow::Result<()> {
    let contents = std::fs::read(local).with_context(|| format!("cannot read {local:?}"))?;
    let mode = File::open(local)?.metadata()?.permissions().mode() & 0o7777;
    put_bytes(instance, &contents, mode, remote)
}

pub(super) fn put_bytes(
    instance: &Instance,
    contents: &[u8],
    mode: u32,
    remote: &str,
) -> anyhow::Result<()> {
    let put = Put {
        path: remote.to_owned(),
        mode,
        size: contents.len() as u64,
        hash: paths::hash(contents),
    };
    let mut stream = request(instance, Act::Put(put))?;
    let mut frame = reply(instance, &mut stream)?;
    if frame.kind == Kind::WantContents {
        for part in contents.chunks(MAX_PAYLOAD) {
            wire::send(&mut stream, Kind::Contents, part)?;
        }
        frame = reply(instance, &mut stream)?;
    }
    if frame.kind == Kind::Done { Ok(()) } else { Err(unexpected(&frame)) }
}

pub(super) fn get(instance: &Instance, remote: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = request(instance, Act::Get { path: remote.to_owned() })?;
    let head = reply(instance, &mut stream)?;
    let head: FileFollows = head.decode()?;
    let mut contents = Vec::with_capacity(usize::try_from(head.size)?);
    loop {
        let frame = reply(instance, &mut stream)?;
        match frame.kind {
            Kind::Contents => contents.extend_from_slice(&frame.payload),
            Kind::Done => return Ok(contents),
            _ => return Err(unexpected(&frame)),
        }
    }
}

/// One question without parameters; used to learn whether the agent is there.
pub(super) fn ask(instance: &Instance, act: Act, limit: Duration) -> io::Result<()> {
    let mut stream = connect(instance)?;
    stream.set_read_timeout(Some(limit))?;
    let request = Request { token: instance.token.clone(), act };
    wire::send_value(&mut stream, Kind::Request, &request)?;
    match wire::receive(&mut stream)? {
        Some(frame) if frame.kind == Kind::Done => Ok(()),
        Some(frame) => Err(io::Error::other(String::from_utf8_lossy(&frame.payload).into_owned())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn connect(instance: &Instance) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", instance.agent_port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(instance: &Instance, act: Act) -> anyhow::Result<TcpStream> {
    heartbeat::keep(instance);
    let request = Request { token: instance.token.clone(), act };
    let send = || -> io::Result<TcpStream> {
        let mut stream = connect(instance)?;
        wire::send_value(&mut stream, Kind::Request, &request)?;
        Ok(stream)
    };
    send().map_err(|error| instance.explain(error))
}

fn reply(instance: &Instance, stream: &mut TcpStream) -> anyhow::Result<Frame> {
    let frame = wire::receive(stream)
        .and_then(|frame| frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        .map_err(|error| instance.explain(error))?;
    if frame.kind == Kind::Failed {
        bail!("the testbed's agent: {}", String::from_utf8_lossy(&frame.payload));
    }
    Ok(frame)
}

fn unexpected(frame: &Frame) -> anyhow::Error {
    anyhow::anyhow!("unexpected {:?} from the testbed's agent", frame.kind)
}

fn feed(to: &mut TcpStream, input: impl Read) {
    // An error is a command that ended before it read all; the reader of its output knows.
    let _ = feed_part(to, input).and_then(|()| wire::send(to, Kind::StdinEnd, b""));
}

fn feed_part(to: &mut TcpStream, mut input: impl Read) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            length => wire::send(to, Kind::Stdin, &buffer[..length])?,
        }
    }
}
