//! Bounce buffers: for transfers that direct I/O would refuse as they are.

/// What O_DIRECT asks of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alignment {
    /// Of addresses, bytes.
    pub(super) memory: u64,
    /// Of offsets and lengths, bytes.
    pub(super) offset: u64,
}

/// The host blocks around one piece of a transfer.
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) len: usize,
    /// Bytes before the piece, and bytes of the piece.
    pub(super) skip: usize,
    pub(super) part: usize,
}

impl Span {
    pub(super) fn new(offset: u64, part: u64, align: u64) -> Self {
        let start = offset - offset % align;
        let len = (offset + part).next_multiple_of(align) - start;
        // A piece is bounded, so all of these are small.
        Self { start, len: len as usize, skip: (offset - start) as usize, part: part as usize }
    }
}

/// Zeroed memory with the alignment that O_DIRECT wants.
pub(in crate::backend) struct Bounce {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bounce {
    pub(in crate::backend) fn new(len: usize, align: u64) -> Self {
        let align = align as usize;
        let memory = vec![0; len + align];
        let start = memory.as_ptr().align_offset(align).min(align);
        Self { memory, start, len }
    }

    pub(in crate::backend) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
