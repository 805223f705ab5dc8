//! [`Flight`]: a request of the guest, and the commands by which a server carries it out, one after
//! the other. What was commanded and not answered is commanded again after the connection was lost:
//! every command can be carried out twice.

use std::io;
use std::sync::Arc;

use super::export::Export;
use super::spec::command;
use crate::backend::answers::Answers;
use crate::backend::disk::{Action, Finished, Request};

/// Data that one command moves.
const MOST_DATA: u64 = 1 << 20;
/// What one command without data is about.
const MOST_RANGE: u64 = 1 << 30;

/// What the server can, and what is made use of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub(super) export: Export,
    pub(super) discard: bool,
    pub(super) ignore_flush: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) offset: u64,
    pub(super) len: u32,
}

impl Command {
    /// Bytes that follow its reply.
    pub(super) fn answer_len(self) -> usize {
        if self.kind == command::READ { self.len as usize } else { 0 }
    }
}

pub(super) struct Flight {
    token: u16,
    request: Request,
    answers: Arc<Answers>,
    /// Not yet carried out.
    offset: u64,
    left: u64,
    flushed: bool,
}

impl Flight {
    pub(super) fn new(token: u16, request: Request, answers: Arc<Answers>) -> Self {
        let left = match request.action {
            Action::Read | Action::Write { .. } => request.buffers.len(),
            Action::Discard { len } | Action::Zero { len, .. } => len,
            Action::Flush => 0,
        };
        Self { token, offset: request.offset, left, flushed: false, request, answers }
    }

    /// None: all is done.
    pub(super) fn command(&self, server: &Abilities) -> Option<Command> {
        let export = &server.export;
        let force = |durable| if durable && export.can_force() { command::FUA } else { 0 };
        let (kind, flags, most) = match self.request.action {
            Action::Read => (command::READ, 0, self.most_data(export)),
            Action::Write { durable } => (command::WRITE, force(durable), self.most_data(export)),
            Action::Zero { unmap, durable, .. } if export.can_zero() => {
                let keep = if unmap && server.discard { 0 } else { command::NO_HOLE };
                (command::WRITE_ZEROES, keep | force(durable), MOST_RANGE)
            }
            Action::Zero { durable, .. } => {
                (command::WRITE, force(durable), self.most_data(export))
            }
            Action::Discard { .. } if server.discard && export.can_trim() => {
                (command::TRIM, 0, MOST_RANGE)
            }
            Action::Discard { .. } => return None,
            Action::Flush => (command::FLUSH, 0, 0),
        };
        if self.left > 0 {
            let len = self.left.min(most) as u32;
            return Some(Command { kind, flags, offset: self.offset, len });
        }
        let flush = match self.request.action {
            Action::Flush => true,
            Action::Write { durable } | Action::Zero { durable, .. } => {
                durable && !export.can_force()
            }
            Action::Read | Action::Discard { .. } => false,
        };
        let flush = flush && !self.flushed && export.can_flush() && !server.ignore_flush;
        flush.then_some(Command { kind: command::FLUSH, flags: 0, offset: 0, len: 0 })
    }

    fn most_data(&self, export: &Export) -> u64 {
        let most = u64::from(export.most_payload).min(MOST_DATA);
        (most - most % u64::from(export.minimum_block)).max(export.minimum_block.into())
    }

    /// Append the data of `command`, a write.
    pub(super) fn data(&self, command: Command, to: &mut Vec<u8>) {
        let start = to.len();
        to.resize(start + command.len as usize, 0);
        if let Action::Write { .. } = self.request.action {
            self.request.buffers.peek(&mut to[start..]);
        }
    }

    /// The server has carried out `command`; `data` is what was read.
    pub(super) fn done(&mut self, command: Command, data: &[u8]) {
        let len = u64::from(command.len);
        match command.kind {
            command::FLUSH => self.flushed = true,
            command::READ => _ = self.request.buffers.copy_from(data),
            _ => self.request.buffers.advance(len),
        }
        self.offset += len;
        self.left -= len.min(self.left);
    }

    pub(super) fn finish(self, result: io::Result<()>) {
        let Self { token, request, answers, .. } = self;
        answers.give(Finished { token, result, buffers: request.buffers });
    }
}
