//! [`Surface`]: the picture as it was drawn last, and which parts of it changed when.
//!
//! A card draws all rows of a frame; the surface finds out what is new by comparing, tile by tile.
//! Every tile remembers the frame it last changed in, so any number of viewers, each as slow as it
//! likes, learns what it has not seen yet, and none of them costs memory.

/// Width and height of a tile, pixels.
pub const TILE: u32 = 64;
/// A picture has no more pixels than this: 4096 × 2048, 32 MiB.
pub(crate) const MAX_PIXELS: u64 = 8 << 20;
/// RFB and PNG could take more; no monitor does.
pub(crate) const MAX_SIDE: u32 = 8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// A picture of 24-bit colours, `0x00RRGGBB`.
pub struct Surface {
    width: u32,
    height: u32,
    pixels: Vec<u32>,
    /// For each tile, the frame in which it changed last.
    changed: Vec<u64>,
    /// Counts frames; 0 is before the first.
    frame: u64,
    /// The frame in which the size changed last.
    resized: u64,
}

impl Default for Surface {
    fn default() -> Self {
        Self::new()
    }
}

impl Surface {
    /// A black picture of the size that a PC shows at power-on.
    #[must_use]
    pub fn new() -> Self {
        let mut surface = Self {
            width: 0,
            height: 0,
            pixels: Vec::new(),
            changed: Vec::new(),
            frame: 0,
            resized: 0,
        };
        surface.begin(720, 400);
        surface
    }

    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    #[must_use]
    pub fn bounds(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// The frame drawn last.
    #[must_use]
    pub fn frame(&self) -> u64 {
        self.frame
    }

    /// The frame in which the size changed last.
    #[must_use]
    pub fn resized(&self) -> u64 {
        self.resized
    }

    /// Begin a frame of this size. Too large a picture, or none, is a black one of 640 × 480, and
    /// false: there is nothing to draw.
    pub fn begin(&mut self, width: u32, height: u32) -> bool {
        let fits = (1..=MAX_SIDE).contains(&width)
            && (1..=MAX_SIDE).contains(&height)
            && u64::from(width) * u64::from(height) <= MAX_PIXELS;
        let (width, height) = if fits { (width, height) } else { (640, 480) };
        self.frame += 1;
        if (self.width, self.height) != (width, height) {
            (self.width, self.height) = (width, height);
            self.pixels = vec![0; width as usize * height as usize];
            let tiles = self.columns() * height.div_ceil(TILE) as usize;
            self.changed = vec![self.frame; tiles];
            self.resized = self.frame;
        }
        if !fits {
            self.fill(0);
        }
        fits
    }

    /// Draw a whole row. What is missing of it is black, what is too much is left out.
    pub fn put_row(&mut self, y: u32, row: &[u32]) {
        if y >= self.height {
            return;
        }
        let start = y as usize * self.width as usize;
        let old = &mut self.pixels[start..start + self.width as usize];
        let first_tile = (y / TILE) as usize * self.width.div_ceil(TILE) as usize;
        let tiles = self.changed[first_tile..].iter_mut();
        for ((old, changed), at) in
            old.chunks_mut(TILE as usize).zip(tiles).zip((0..).step_by(TILE as usize))
        {
            let new = row.get(at..).unwrap_or_default();
            let new = &new[..new.len().min(old.len())];
            let (drawn, missing) = old.split_at_mut(new.len());
            if *drawn != *new || missing.iter().any(|pixel| *pixel != 0) {
                drawn.copy_from_slice(new);
                missing.fill(0);
                *changed = self.frame;
            }
        }
    }

    /// Draw every row in one colour.
    pub fn fill(&mut self, colour: u32) {
        let row = vec![colour; self.width as usize];
        for y in 0..self.height {
            self.put_row(y, &row);
        }
    }

    /// A row of the picture; black outside of it.
    #[must_use]
    pub fn row(&self, y: u32) -> &[u32] {
        let start = y as usize * self.width as usize;
        self.pixels.get(start..start + self.width as usize).unwrap_or_default()
    }

    /// What changed after frame `seen`, as rectangles that don't overlap: in each row of tiles,
    /// neighbours are joined.
    #[must_use]
    pub fn changes_since(&self, seen: u64) -> Vec<Rect> {
        let columns = self.columns();
        let mut found: Vec<Rect> = Vec::new();
        for (tile_row, tiles) in (0u32..).zip(self.changed.chunks(columns.max(1))) {
            let y = tile_row * TILE;
            let height = TILE.min(self.height - y);
            for (column, _) in (0u32..).zip(tiles).filter(|(_, changed)| **changed > seen) {
                let x = column * TILE;
                let width = TILE.min(self.width - x);
                match found.last_mut() {
                    Some(last) if last.y == y && last.x + last.width == x => last.width += width,
                    _ => found.push(Rect { x, y, width, height }),
                }
            }
        }
        found
    }

    fn columns(&self) -> usize {
        self.width.div_ceil(TILE) as usize
    }
}

impl Rect {
    /// What both cover.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let right = self.right().min(other.right());
        let bottom = self.bottom().min(other.bottom());
        (x < right && y < bottom).then(|| Self { x, y, width: right - x, height: bottom - y })
    }

    fn right(self) -> u32 {
        self.x.saturating_add(self.width)
    }

    fn bottom(self) -> u32 {
        self.y.saturating_add(self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn only_what_differs_counts_as_changed() {
        let mut surface = Surface::new();
        surface.begin(200, 100);
        let seen = surface.frame();
        surface.begin(200, 100);
        surface.fill(0);
        assert_eq!(surface.changes_since(seen), []);
        let mut row = vec![0; 200];
        row[70] = 0xff;
        row[195] = 0xff;
        surface.put_row(80, &row);
        assert_eq!(surface.changes_since(seen), [rect(64, 64, 64, 36), rect(192, 64, 8, 36)]);
        assert_eq!(surface.changes_since(surface.frame()), []);
    }

    #[test]
    fn another_size_is_all_new_and_neighbours_are_joined() {
        let mut surface = Surface::new();
        let seen = surface.frame();
        surface.begin(130, 70);
        assert_eq!(surface.resized(), surface.frame());
        assert_eq!(surface.changes_since(seen), [rect(0, 0, 130, 64), rect(0, 64, 130, 6)]);
    }

    #[test]
    fn sizes_that_no_monitor_has_are_a_black_picture() {
        let mut surface = Surface::new();
        for (width, height) in [(0, 5), (5, 0), (8193, 1), (8192, 8192), (u32::MAX, u32::MAX)] {
            assert!(!surface.begin(width, height));
            assert_eq!((surface.width(), surface.height()), (640, 480));
        }
        assert!(surface.begin(8192, 1024));
    }

    #[test]
    fn short_rows_are_black_at_the_end_and_rows_below_are_left_out() {
        let mut surface = Surface::new();
        surface.begin(4, 2);
        surface.put_row(0, &[1, 2, 3, 4, 5]);
        surface.put_row(0, &[7]);
        surface.put_row(2, &[9; 4]);
        assert_eq!(surface.row(0), [7, 0, 0, 0]);
        assert_eq!(surface.row(1), [0; 4]);
        assert_eq!(surface.row(7), [0u32; 0]);
    }

    #[test]
    fn rectangles_are_cut_to_what_both_cover() {
        let screen = rect(0, 0, 100, 100);
        assert_eq!(rect(90, 90, 50, 5).intersection(screen), Some(rect(90, 90, 10, 5)));
        assert_eq!(rect(100, 0, 5, 5).intersection(screen), None);
        assert_eq!(rect(u32::MAX, 0, u32::MAX, 5).intersection(screen), None);
    }
}
