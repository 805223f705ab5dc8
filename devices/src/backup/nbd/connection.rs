//! [`Connection`]: what one client said and is to hear; no sockets in here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Export;
use super::options::{self, Outcome};
use super::transmission::Transmission;
use crate::backend::nbd::spec::{FIXED_NEWSTYLE, GREETING, NO_ZEROES, OPTION_MAGIC};

/// Output that may wait before the next request is looked at.
const HIGH_WATER: usize = 1 << 20;
/// Of one option: a list of contexts is the longest there is.
const LONGEST_OPTION: u32 = 64 << 10;
/// Before it uses an export; each costs little, and none is endless.
const MOST_OPTIONS: u32 = 1000;

enum Phase {
    /// The client's flags are awaited.
    Greeted,
    Options,
    Transmission(Box<Transmission>),
    /// What is left is sent, and that is all.
    Closing,
}

/// What was agreed on before an export is used.
#[derive(Default)]
pub(super) struct Agreed {
    pub(super) no_zeroes: bool,
    pub(super) structured: bool,
    /// The export that contexts were chosen for, and which: see [`super::extents`].
    pub(super) contexts: Option<(String, Vec<u32>)>,
}

pub struct Connection {
    exports: Arc<[Export]>,
    phase: Phase,
    agreed: Agreed,
    options: u32,
    input: VecDeque<u8>,
    output: VecDeque<u8>,
}

impl Connection {
    /// A new client, whom the greeting waits for.
    #[must_use]
    pub fn new(exports: Arc<[Export]>) -> Self {
        let mut output = VecDeque::new();
        output.extend(GREETING);
        output.extend(OPTION_MAGIC);
        output.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
        Self {
            exports,
            phase: Phase::Greeted,
            agreed: Agreed::default(),
            options: 0,
            input: VecDeque::new(),
            output,
        }
    }

    /// Whether more from the client can be taken.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !matches!(self.phase, Phase::Closing)
            && self.output.len() < HIGH_WATER
            && self.input.len() < 2 * LONGEST_OPTION as usize
    }

    /// The client is to hear nothing more, once it has what is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing) && self.output.is_empty()
    }

    pub fn take(&mut self, said: &[u8]) {
        self.input.extend(said);
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.output.as_slices().0
    }

    /// Bytes that are to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.output.len()
    }

    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// So much of it was sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// Nothing more comes from the client.
    pub fn ended(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Go on with what the client said, as far as there is room for answers. True: there is more to
    /// do as soon as what waits is sent.
    pub fn work(&mut self) -> bool {
        while self.output.len() < HIGH_WATER {
            if !self.step() {
                return false;
            }
        }
        true
    }

    /// One thing; false: nothing can be done without more input.
    fn step(&mut self) -> bool {
        match &mut self.phase {
            Phase::Closing => false,
            Phase::Greeted => {
                let Some(flags) = take::<4>(&mut self.input) else { return false };
                let flags = u32::from_be_bytes(flags);
                let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
                self.agreed.no_zeroes = flags & u32::from(NO_ZEROES) != 0;
                let good = flags & !known == 0 && flags & u32::from(FIXED_NEWSTYLE) != 0;
                self.phase = if good { Phase::Options } else { Phase::Closing };
                true
            }
            Phase::Options => self.option(),
            Phase::Transmission(transmission) => {
                match transmission.step(&mut self.input, &mut self.output) {
                    super::transmission::Step::More => true,
                    super::transmission::Step::Wait => false,
                    super::transmission::Step::End => {
                        self.phase = Phase::Closing;
                        false
                    }
                }
            }
        }
    }

    fn option(&mut self) -> bool {
        let header: Vec<u8> = self.input.iter().take(16).copied().collect();
        let Some((magic, rest)) = header.split_first_chunk::<8>().filter(|_| header.len() == 16)
        else {
            return false;
        };
        let number = |at: usize| {
            rest.iter().skip(at).take(4).fold(0, |all, byte| all << 8 | u32::from(*byte))
        };
        let (option, len) = (number(0), number(4));
        self.options += 1;
        if magic != OPTION_MAGIC || len > LONGEST_OPTION || self.options > MOST_OPTIONS {
            self.phase = Phase::Closing;
            return false;
        }
        if self.input.len() < 16 + len as usize {
            self.options -= 1;
            return false;
        }
        self.input.drain(..16);
        let data: Vec<u8> = self.input.drain(..len as usize).collect();
        match options::answer(option, &data, &self.exports, &mut self.agreed, &mut self.output) {
            Outcome::Go(export) => {
                let agreed = std::mem::take(&mut self.agreed);
                let exports = self.exports.clone();
                let transmission = Transmission::new(exports, export, &agreed);
                self.phase = Phase::Transmission(Box::new(transmission));
            }
            Outcome::More => {}
            Outcome::Close => self.phase = Phase::Closing,
        }
        true
    }
}

/// The next bytes, if they are all there.
pub(super) fn take<const N: usize>(input: &mut VecDeque<u8>) -> Option<[u8; N]> {
    if input.len() < N {
        return None;
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().zip(input.drain(..N)) {
        *place = byte;
    }
    Some(bytes)
}
