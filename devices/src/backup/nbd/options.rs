//! What a client asks for before it uses an export.

use std::collections::VecDeque;

use super::Export;
use super::connection::Agreed;
use super::extents;
use crate::backend::nbd::spec::{OPTION_REPLY_MAGIC, flag, info, option, reply};

/// Bytes of one request at most, and what is good.
pub(super) const MOST_PAYLOAD: u32 = 32 << 20;
const PREFERRED_BLOCK: u32 = 64 << 10;

/// What follows an option.
pub(super) enum Outcome {
    More,
    /// Requests about this export.
    Go(usize),
    Close,
}

/// Answers to one option.
struct Answers<'a> {
    option: u32,
    output: &'a mut VecDeque<u8>,
}

impl Answers<'_> {
    fn send(&mut self, kind: u32, data: &[u8]) {
        self.output.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        self.output.extend(self.option.to_be_bytes());
        self.output.extend(kind.to_be_bytes());
        self.output.extend((data.len() as u32).to_be_bytes());
        self.output.extend(data);
    }

    fn refuse(&mut self, kind: u32, text: &str) -> Outcome {
        self.send(kind, text.as_bytes());
        Outcome::More
    }

    fn info(&mut self, kind: u16, data: &[u8]) {
        self.send(reply::INFO, &[&kind.to_be_bytes(), data].concat());
    }
}

pub(super) fn answer(
    option: u32,
    data: &[u8],
    exports: &[Export],
    agreed: &mut Agreed,
    output: &mut VecDeque<u8>,
) -> Outcome {
    let mut answers = Answers { option, output };
    match option {
        option::EXPORT_NAME => {
            let Some(at) = exports.iter().position(|it| it.name.as_bytes() == data) else {
                // There is no way to say so.
                return Outcome::Close;
            };
            let export = &exports[at];
            answers.output.extend(export.moment.size().to_be_bytes());
            answers.output.extend(flags(agreed).to_be_bytes());
            if !agreed.no_zeroes {
                answers.output.extend([0; 124]);
            }
            Outcome::Go(at)
        }
        option::ABORT => {
            answers.send(reply::ACK, &[]);
            Outcome::Close
        }
        option::LIST if data.is_empty() => {
            for export in exports {
                let len = (export.name.len() as u32).to_be_bytes();
                let text = export.description.as_bytes();
                answers.send(reply::SERVER, &[&len, export.name.as_bytes(), text].concat());
            }
            answers.send(reply::ACK, &[]);
            Outcome::More
        }
        option::STRUCTURED_REPLY if data.is_empty() => {
            agreed.structured = true;
            answers.send(reply::ACK, &[]);
            Outcome::More
        }
        option::LIST | option::STRUCTURED_REPLY => {
            answers.refuse(reply::INVALID, "this option has no data")
        }
        option::INFO | option::GO => inform(&mut answers, data, exports, agreed),
        option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
            contexts(&mut answers, data, exports, agreed)
        }
        _ => answers.refuse(reply::UNSUPPORTED, "this server does not know the option"),
    }
}

fn flags(agreed: &Agreed) -> u16 {
    let flags = flag::HAS_FLAGS | flag::READ_ONLY | flag::SEND_FLUSH | flag::MULTI_CONN;
    if agreed.structured { flags | flag::SEND_DF } else { flags }
}

fn inform(
    answers: &mut Answers<'_>,
    data: &[u8],
    exports: &[Export],
    agreed: &mut Agreed,
) -> Outcome {
    let mut rest = data;
    let asked = string(&mut rest).and_then(|name| {
        let count = number16(&mut rest)?;
        (rest.len() == usize::from(count) * 2).then_some((name, rest))
    });
    let Some((name, kinds)) = asked else {
        return answers.refuse(reply::INVALID, "the option's lengths contradict each other");
    };
    let Some(at) = exports.iter().position(|export| export.name.as_bytes() == name) else {
        return answers.refuse(reply::UNKNOWN, "there is no such export");
    };
    let export = &exports[at];
    let size = export.moment.size().to_be_bytes();
    answers.info(info::EXPORT, &[&size[..], &flags(agreed).to_be_bytes()].concat());
    for kind in kinds.chunks_exact(2).map(|kind| u16::from_be_bytes([kind[0], kind[1]])) {
        match kind {
            info::NAME => answers.info(kind, export.name.as_bytes()),
            info::DESCRIPTION => answers.info(kind, export.description.as_bytes()),
            _ => {}
        }
    }
    let blocks = [1, PREFERRED_BLOCK, MOST_PAYLOAD].map(u32::to_be_bytes).concat();
    answers.info(info::BLOCK_SIZE, &blocks);
    answers.send(reply::ACK, &[]);
    if answers.option == option::INFO {
        return Outcome::More;
    }
    // What was chosen for another export is not for this one.
    if agreed.contexts.as_ref().is_some_and(|(chosen, _)| *chosen != export.name) {
        agreed.contexts = None;
    }
    Outcome::Go(at)
}

fn contexts(
    answers: &mut Answers<'_>,
    data: &[u8],
    exports: &[Export],
    agreed: &mut Agreed,
) -> Outcome {
    let set = answers.option == option::SET_META_CONTEXT;
    if set {
        agreed.contexts = None;
    }
    if !agreed.structured {
        return answers.refuse(reply::INVALID, "contexts need structured replies");
    }
    let mut rest = data;
    let asked = string(&mut rest).and_then(|name| {
        let count = number32(&mut rest)?;
        // Each takes four bytes at least.
        let mut queries = Vec::with_capacity((count as usize).min(rest.len() / 4));
        for _ in 0..count {
            queries.push(string(&mut rest)?);
        }
        rest.is_empty().then_some((name, queries))
    });
    let Some((name, queries)) = asked else {
        return answers.refuse(reply::INVALID, "the option's lengths contradict each other");
    };
    let Some(export) = exports.iter().find(|export| export.name.as_bytes() == name) else {
        return answers.refuse(reply::UNKNOWN, "there is no such export");
    };
    let mut chosen = Vec::new();
    for (id, context) in extents::contexts(export) {
        let wanted = |query: &&[u8]| extents::asks_for(query, &context, set);
        if queries.iter().any(wanted) || (!set && queries.is_empty()) {
            // In a list the number means nothing.
            let shown = if set { id } else { 0 };
            let data = [&shown.to_be_bytes()[..], context.as_bytes()].concat();
            answers.send(reply::META_CONTEXT, &data);
            chosen.push(id);
        }
    }
    if set && !chosen.is_empty() {
        agreed.contexts = Some((export.name.clone(), chosen));
    }
    answers.send(reply::ACK, &[]);
    Outcome::More
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number32(rest)? as usize;
    let (string, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(string)
}

fn number32(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn number16(rest: &mut &[u8]) -> Option<u16> {
    let (number, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*number))
}
