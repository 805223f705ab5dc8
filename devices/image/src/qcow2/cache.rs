//! [`TableCache`]: pieces of tables, bounded in number, written back in order.

use std::collections::HashMap;
use std::io;

use crate::bytes::{be64, put};
use crate::storage::Storage;

/// Bytes of a piece: what the host writes as a whole.
const PIECE: u64 = 4096;

#[derive(Debug)]
pub(super) struct TableCache {
    piece: u64,
    most: usize,
    pieces: HashMap<u64, Piece>,
    dirty: usize,
    clock: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    dirty: bool,
    used: u64,
}

impl TableCache {
    /// A cache of at most `bytes`, for tables in clusters of `cluster` bytes.
    pub(super) fn new(cluster: u64, bytes: u64) -> Self {
        let piece = PIECE.min(cluster);
        let most = usize::try_from(bytes / piece).unwrap_or(usize::MAX).max(16);
        Self { piece, most, pieces: HashMap::new(), dirty: 0, clock: 0 }
    }

    pub(super) fn piece_size(&self) -> u64 {
        self.piece
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty > 0
    }

    /// There is no room for one more piece without giving up others.
    pub(super) fn is_full(&self) -> bool {
        self.pieces.len() >= self.most
    }

    /// Forget the half that was not used for longest, of what is not dirty.
    pub(super) fn shrink(&mut self) {
        let mut times: Vec<u64> = self.pieces.values().map(|piece| piece.used).collect();
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied().unwrap_or(0);
        self.pieces.retain(|_, piece| piece.dirty || piece.used >= middle);
    }

    /// The piece that holds the byte at `offset` of the file.
    pub(super) fn piece(&mut self, file: &dyn Storage, offset: u64) -> io::Result<&[u8]> {
        Ok(&self.load(file, offset)?.bytes)
    }

    fn load(&mut self, file: &dyn Storage, offset: u64) -> io::Result<&mut Piece> {
        self.clock += 1;
        let start = offset - offset % self.piece;
        let piece = match self.pieces.entry(start) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let mut bytes = vec![0; self.piece as usize].into_boxed_slice();
                if file.read(&mut bytes, start)? < bytes.len() {
                    let text = "the image's file was cut off: a table of it lies beyond its end";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                place.insert(Piece { bytes, dirty: false, used: 0 })
            }
        };
        piece.used = self.clock;
        Ok(piece)
    }

    /// The entry of eight bytes at `offset`.
    pub(super) fn entry(&mut self, file: &dyn Storage, offset: u64) -> io::Result<u64> {
        let at = (offset % self.piece) as usize;
        Ok(be64(self.piece(file, offset)?, at))
    }

    pub(super) fn set(&mut self, file: &dyn Storage, offset: u64, value: u64) -> io::Result<()> {
        self.change(file, offset, |bytes, at| put(bytes, at, &value.to_be_bytes()))
    }

    /// Change the piece that holds the byte at `offset`; `change` gets it and the byte's place in it.
    pub(super) fn change(
        &mut self,
        file: &dyn Storage,
        offset: u64,
        change: impl FnOnce(&mut [u8], usize),
    ) -> io::Result<()> {
        let at = (offset % self.piece) as usize;
        let piece = self.load(file, offset)?;
        change(&mut piece.bytes, at);
        if !std::mem::replace(&mut piece.dirty, true) {
            self.dirty += 1;
        }
        Ok(())
    }

    /// A cluster of zeros takes the place of whatever was there.
    pub(super) fn forget(&mut self, offset: u64, len: u64) {
        let mut at = offset;
        while at < offset + len {
            if self.pieces.remove(&at).is_some_and(|piece| piece.dirty) {
                self.dirty -= 1;
            }
            at += self.piece;
        }
    }

    /// Write what is dirty, in the file's order.
    pub(super) fn write_back(&mut self, file: &dyn Storage) -> io::Result<()> {
        if self.dirty == 0 {
            return Ok(());
        }
        let mut dirty: Vec<_> = self.pieces.iter_mut().filter(|(_, piece)| piece.dirty).collect();
        dirty.sort_unstable_by_key(|(offset, _)| **offset);
        for (offset, piece) in dirty {
            file.write(&piece.bytes, *offset)?;
            piece.dirty = false;
            self.dirty -= 1;
        }
        Ok(())
    }
}
