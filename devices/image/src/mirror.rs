//! [`Mirror`]: an image in use whose data is copied meanwhile, and [`Copier`], which copies it.
//!
//! ```text
//!            done         claimed             size
//!   │  copied  │ being copied │  not yet        │     a cursor goes over the image once
//! writes go to both    wait     to the source only
//! ```
//! What was copied stays the same on both sides, whatever the guest writes: the copy comes to an end
//! however fast the guest is, and needs no list of what it wrote.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::view::{Extent, ExtentKind, Image};

/// Bytes that are copied at a time, while writes to them wait.
pub const PIECE: u64 = 1 << 20;

pub struct Mirror {
    source: Arc<dyn Image>,
    /// None: what is copied goes into the source itself, from what lies below it.
    target: Option<Arc<dyn Image>>,
    state: Mutex<State>,
    changed: Condvar,
    /// Told when the target fails.
    hear: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// Everything below is the same on both sides.
    done: u64,
    /// What the copier is busy with.
    claimed: Option<Range<u64>>,
    /// Requests that change something, and are under way.
    writing: Vec<Range<u64>>,
    /// The target refused a write, and has fallen behind since.
    broken: bool,
    /// Why, until somebody took it.
    failed: Option<io::Error>,
}

impl Mirror {
    /// `hear` is called, on any thread, when the target fails.
    #[must_use]
    pub fn new(
        source: Arc<dyn Image>,
        target: Option<Arc<dyn Image>>,
        hear: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (state, changed) = Default::default();
        Self { source, target, state, changed, hear: Box::new(hear) }
    }

    /// Whether the target has fallen behind.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state().broken
    }

    fn fail(&self, error: io::Error) {
        {
            let mut state = self.state();
            state.broken = true;
            state.failed.get_or_insert(error);
        }
        (self.hear)();
    }

    /// Why the target is not what it should be.
    pub fn take_failure(&self) -> Option<io::Error> {
        self.state().failed.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Have `act` change a range of the source, and of the target what was copied of it.
    fn change(
        &self,
        offset: u64,
        len: u64,
        act: impl Fn(&dyn Image) -> io::Result<()>,
    ) -> io::Result<()> {
        let range = offset..offset.saturating_add(len);
        let mut state = self.state();
        // Such that overlap would reach the two sides in different orders.
        while state.claimed.iter().chain(&state.writing).any(|other| overlap(other, &range)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let both = offset < state.done && !state.broken;
        state.writing.push(range.clone());
        drop(state);
        let result = act(&*self.source);
        let mirrored = match &self.target {
            Some(target) if both && result.is_ok() => act(&**target),
            _ => Ok(()),
        };
        let mut state = self.state();
        if let Some(at) = state.writing.iter().position(|other| *other == range) {
            state.writing.swap_remove(at);
        }
        drop(state);
        self.changed.notify_all();
        if let Err(error) = mirrored {
            self.fail(error);
        }
        result
    }

    /// Wait until nobody changes the range, and keep them out of it.
    fn claim(&self, range: &Range<u64>) {
        let mut state = self.state();
        while state.writing.iter().any(|other| overlap(other, range)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.claimed = Some(range.clone());
    }

    fn release(&self, done: Option<u64>) {
        let mut state = self.state();
        state.claimed = None;
        state.done = done.unwrap_or(state.done);
        drop(state);
        self.changed.notify_all();
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl Image for Mirror {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_only(&self) -> bool {
        self.source.read_only()
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read(data, offset)
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(offset, data.len() as u64, |image| image.write(data, offset))
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.change(offset, len, |image| image.write_zeroes(offset, len, unmap))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(offset, len, |image| image.discard(offset, len))
    }

    /// Either side may be all that is left after a power cut.
    fn flush(&self) -> io::Result<()> {
        self.source.flush()?;
        let Some(target) = &self.target else { return Ok(()) };
        if let Err(error) = target.flush() {
            self.fail(error);
        }
        Ok(())
    }

    fn grow(&self, _size: u64) -> io::Result<()> {
        let text = "the disk has a block job; wait for its end, or abort it";
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.source.map(offset, len)
    }
}

/// What is copied: by how deep it lies in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub depths: Range<u32>,
    /// The target reads as zeros: they need not be written.
    pub blank: bool,
}

impl Wanted {
    fn covers(&self, extent: &Extent) -> bool {
        // A hole without a depth lies where an image ends before the one above: that reads as zeros
        // whatever is below.
        let nowhere = extent.kind == ExtentKind::Hole && extent.depth == 0;
        nowhere || self.depths.contains(&extent.depth)
    }
}

/// A copy on its way from the beginning to the end.
pub struct Copier {
    from: Arc<dyn Image>,
    into: Arc<dyn Image>,
    /// Where somebody uses the source meanwhile.
    mirror: Option<Arc<Mirror>>,
    wanted: Wanted,
    buffer: Vec<u8>,
    at: u64,
}

impl Copier {
    #[must_use]
    pub fn new(
        from: Arc<dyn Image>,
        into: Arc<dyn Image>,
        mirror: Option<Arc<Mirror>>,
        wanted: Wanted,
    ) -> Self {
        Self { from, into, mirror, wanted, buffer: Vec::new(), at: 0 }
    }

    /// How far it is, and how far it goes; bytes.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.at, self.from.size())
    }

    /// Copy the next piece; bytes that were moved, none at the end.
    ///
    /// # Errors
    /// What either image says.
    pub fn step(&mut self) -> io::Result<Option<u64>> {
        let (at, size) = self.progress();
        if at >= size {
            return Ok(None);
        }
        let piece = at..size.min((at + PIECE) / PIECE * PIECE);
        let mirror = self.mirror.clone();
        if let Some(mirror) = &mirror {
            if let Some(error) = mirror.take_failure() {
                return Err(error);
            }
            mirror.claim(&piece);
        }
        let moved = self.copy(&piece);
        if let Some(mirror) = &mirror {
            mirror.release(moved.is_ok().then_some(piece.end));
        }
        self.at = piece.end;
        moved.map(Some)
    }

    fn copy(&mut self, piece: &Range<u64>) -> io::Result<u64> {
        let (mut at, mut moved) = (piece.start, 0);
        while at < piece.end {
            let extent = self.from.map(at, piece.end - at)?;
            let len = extent.len.clamp(1, piece.end - at);
            if self.wanted.covers(&extent) {
                if !extent.is_zero() {
                    // At most a piece, which is small.
                    self.buffer.resize(len as usize, 0);
                    self.from.read(&mut self.buffer, at)?;
                    self.into.write(&self.buffer, at)?;
                    moved += len;
                } else if !self.wanted.blank {
                    self.into.write_zeroes(at, len, true)?;
                }
            }
            at += len;
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;
    use crate::qcow2::{CreateOptions, OpenOptions, Qcow2, create};
    use crate::storage::{MemoryStorage, Storage as _};
    use crate::{Raw, Reference};

    const SIZE: u64 = 8 << 20;

    fn raw(fill: u8) -> Arc<Raw> {
        let file = Arc::new(MemoryStorage::new(vec![fill; SIZE as usize]));
        Arc::new(Raw::open(file, false).unwrap())
    }

    fn over(backing: Arc<dyn Image>) -> Arc<Qcow2> {
        let file = Arc::new(MemoryStorage::default());
        let name = Reference { name: "below".to_owned(), format: Some("raw".to_owned()) };
        create(&*file, &CreateOptions { backing: Some(name), ..CreateOptions::new(SIZE) }).unwrap();
        assert!(file.size().unwrap() > 0);
        let options = OpenOptions { backing: Some(backing), ..OpenOptions::default() };
        Arc::new(Qcow2::open(file, options).unwrap())
    }

    fn all(image: &dyn Image) -> Vec<u8> {
        let mut data = vec![0; SIZE as usize];
        image.read(&mut data, 0).unwrap();
        data
    }

    /// Writers are at it on every side of the cursor, all the time.
    #[test]
    fn both_sides_are_the_same_at_the_end_whatever_is_written_meanwhile() {
        let (source, target) = (raw(1), raw(2));
        let mirror = Arc::new(Mirror::new(source.clone(), Some(target.clone()), || ()));
        let wanted = Wanted { depths: 0..u32::MAX, blank: false };
        let mut copier = Copier::new(source.clone(), target.clone(), Some(mirror.clone()), wanted);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..3_u64 {
                let (mirror, stop) = (&mirror, &stop);
                scope.spawn(move || {
                    let mut n = writer;
                    while !stop.load(SeqCst) {
                        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(writer | 1);
                        let (at, len) = ((n >> 33) % (SIZE - 70_000), (n >> 20) % 70_000);
                        match n >> 61 {
                            0 => mirror.write_zeroes(at, len, true).unwrap(),
                            fill => mirror.write(&vec![fill as u8; len as usize], at).unwrap(),
                        }
                    }
                });
            }
            while copier.step().unwrap().is_some() {}
            stop.store(true, SeqCst);
        });
        assert_eq!(copier.progress(), (SIZE, SIZE));
        assert!(all(&*source) == all(&*target));
        mirror.write(&[9; 10], 12_345).unwrap();
        assert!(all(&*source) == all(&*target));
    }

    #[test]
    fn only_what_lies_deep_enough_is_pulled_up() {
        let (base, middle) = (raw(1), over(raw(1)));
        middle.write(&[2; 65536], 65536).unwrap();
        middle.write_zeroes(3 * 65536, 65536, true).unwrap();
        let top = over(middle);
        top.write(&[3; 65536], 2 * 65536).unwrap();
        let before = all(&*top);
        let mirror = Arc::new(Mirror::new(top.clone(), None, || ()));
        let wanted = Wanted { depths: 1..2, blank: false };
        let mut copier = Copier::new(top.clone(), top.clone(), Some(mirror), wanted);
        let mut moved = 0;
        while let Some(bytes) = copier.step().unwrap() {
            moved += bytes;
        }
        assert_eq!(moved, 65536, "what the image in between has, and nothing of the base");
        assert_eq!(top.map(3 * 65536, 65536).unwrap().kind, ExtentKind::Zero);
        assert_eq!(top.map(0, 65536).unwrap().depth, 2);
        assert!(all(&*top) == before);
        drop(base);
    }

    #[test]
    fn a_target_that_fails_is_the_copiers_trouble_and_not_the_guests() {
        let source = raw(1);
        let file = Arc::new(MemoryStorage::new(vec![0; SIZE as usize]));
        let target: Arc<dyn Image> = Arc::new(Raw::open(file, true).unwrap());
        let mirror = Arc::new(Mirror::new(source.clone(), Some(target.clone()), || ()));
        mirror.release(Some(SIZE / 2));
        mirror.write(&[7; 512], 0).unwrap();
        let mut data = [0; 512];
        source.read(&mut data, 0).unwrap();
        assert_eq!(data, [7; 512]);
        let wanted = Wanted { depths: 0..1, blank: true };
        let mut copier = Copier::new(source, target, Some(mirror.clone()), wanted);
        assert_eq!(copier.step().unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        mirror.write(&[8; 512], 0).unwrap();
    }
}
