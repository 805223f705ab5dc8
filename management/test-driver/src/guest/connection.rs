//! One connection to the control socket, from its first request to its end.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use vmm_protocol::control::{
    Call, ControlError, ControlErrorCode as Code, MAX_FILES, Message, Reply, Request,
};
use vmm_protocol::wire;

use super::control::{self, refusal};
use super::machine::Machine;
use super::{agent, console, disks, saved, screen};

/// Keeps the files that come beside what is read.
struct WithFiles<'a> {
    stream: &'a UnixStream,
    files: Vec<OwnedFd>,
}

impl Read for WithFiles<'_> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(data)];
        let received = recvmsg(self.stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        Ok(received.bytes)
    }
}

/// The daemon may go at any time; nothing is to be done about that.
pub(super) fn serve(machine: &Arc<Machine>, stream: UnixStream) {
    let _ = converse(machine, stream);
}

fn converse(machine: &Arc<Machine>, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let copy = stream.try_clone()?;
        let mut reader = WithFiles { stream: &copy, files: Vec::new() };
        let Some(Call { id, request }) = receive(&mut reader)? else { return Ok(()) };
        let mut files = reader.files;
        match request {
            // It is so small that all of it is the rest.
            Request::CopyMemory => {
                machine.inner().copied = files.pop().map(File::from);
                answer(&copy, id, Ok(Reply::Done))?;
            }
            Request::Save | Request::SavePacked | Request::SaveRest | Request::Dump => {
                // The connection is served meanwhile.
                let copied = machine.inner().copied.take();
                let (machine, file) = (machine.clone(), files.pop().map(File::from).or(copied));
                let is_dump = request == Request::Dump;
                std::thread::spawn(move || {
                    let result = write(&machine, file, is_dump).map(|()| Reply::Done);
                    let _ = answer(&copy, id, result);
                });
            }
            Request::Console { id: device, replay, force } => {
                if let Some(port) = machine.channel(&device) {
                    let is_agent = port.agent;
                    answer(&copy, id, Ok(Reply::Done))?;
                    return if is_agent { agent::serve(machine, stream) } else { Ok(()) };
                }
                let taken = console::take(machine, &stream, &device, force);
                let number = taken.as_ref().ok().copied();
                // Nothing may come before the answer.
                answer(&copy, id, taken.map(|_| Reply::Done))?;
                return match number {
                    Some(number) => console::serve(machine, stream, number, replay),
                    None => Ok(()),
                };
            }
            Request::Screenshot { .. } => {
                answer(&copy, id, Ok(Reply::Done))?;
                return screen::picture(&mut stream);
            }
            Request::Events { after } => {
                answer(&copy, id, Ok(Reply::Done))?;
                machine.subscribe(stream.try_clone()?, after);
            }
            Request::PowerButton => {
                answer(&copy, id, Ok(Reply::Done))?;
                machine.event(vmm_protocol::control::EventKind::PowerButton);
                machine.power_button();
            }
            Request::SwapDisks { swaps } => {
                disks::swap(machine, swaps, files);
                answer(&copy, id, Ok(Reply::Done))?;
            }
            request => {
                let result = control::answer(machine, request);
                if result.is_ok() {
                    machine.inner().kept.append(&mut files);
                }
                answer(&copy, id, result)?;
            }
        }
    }
}

fn receive(reader: &mut WithFiles<'_>) -> io::Result<Option<Call>> {
    wire::receive(reader).map_err(io::Error::other)
}

fn answer(mut stream: &UnixStream, id: u64, result: Result<Reply, ControlError>) -> io::Result<()> {
    wire::send(&mut stream, &Message::Reply { id, result }).map_err(io::Error::other)
}

fn write(machine: &Machine, file: Option<File>, is_dump: bool) -> Result<(), ControlError> {
    let file = file.ok_or_else(|| refusal(Code::Malformed, "this comes with a file"))?;
    match is_dump {
        true => saved::dump(machine, &file),
        false => saved::save(machine, &file),
    }
}
