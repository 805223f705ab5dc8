//! What fuzz targets do with an image: everything, and whatever it says, nothing but errors come
//! of it. Beside it what tests need to be hard on one: seeded numbers, a host that stops.

use std::sync::Arc;

use crate::chain::{Node, open};
use crate::describe::describe;
use crate::format::Format;
use crate::qcow2::{NewSnapshot, OpenOptions, Qcow2, Repair, SnapshotRef, check};
use crate::storage::{MemoryStorage, Storage};
use crate::view::Image;

mod power_cut;
mod random;

pub use power_cut::PowerCut;
pub use random::Random;

/// Look at any image from all sides.
fn exercise(image: &dyn Image) {
    let size = image.size();
    let mut data = [0; 3000];
    for offset in [0, 4000, 100_000, size / 2, size.saturating_sub(3000)] {
        let len = size.saturating_sub(offset).min(3000);
        let _ = image.read(&mut data[..len as usize], offset);
        let _ = image.map(offset, len);
        if !image.read_only() {
            let _ = image.write(&data[..len as usize], offset);
            let _ = image.write_zeroes(offset, len, true);
            let _ = image.discard(offset, len);
        }
    }
    let _ = image.flush();
}

/// An image of any format but qcow2, which has more to it.
pub fn any(format: Format, bytes: Vec<u8>) {
    for read_only in [true, false] {
        let file: Arc<dyn Storage> = Arc::new(MemoryStorage::new(bytes.clone()));
        let Ok(description) = describe(&*file, format) else { return };
        let mut node = Node::new(format, file.clone());
        // Whatever it names is itself.
        node.extents = description.extents.iter().take(3).map(|_| file.clone()).collect();
        if let Ok(image) = open(node, read_only) {
            exercise(&*image);
        }
    }
}

pub fn qcow2(bytes: Vec<u8>) {
    let file: Arc<dyn Storage> = Arc::new(MemoryStorage::new(bytes));
    let _ = crate::qcow2::describe(&*file);
    let _ = check(&*file, Repair::Nothing);
    for read_only in [true, false] {
        let options = OpenOptions { read_only, ..OpenOptions::default() };
        if let Ok(image) = Qcow2::open(file.clone(), options) {
            exercise(&image);
            let _ = image.create_snapshot(&NewSnapshot::now("fuzz"));
            let _ = image.apply_snapshot(SnapshotRef::IdOrName("1"));
            let _ = image.delete_snapshot(SnapshotRef::IdOrName("1"));
        }
    }
    let _ = check(&*file, Repair::All);
}

#[cfg(test)]
mod tests {
    use manor_tests::seeds::replay;

    use crate::Format;

    #[test]
    fn qcow2_images_may_say_anything() {
        replay("qcow2", 400, |bytes| super::qcow2(bytes.to_vec()));
    }

    #[test]
    fn images_of_other_programs_may_say_anything() {
        replay("vdi", 400, |bytes| super::any(Format::Vdi, bytes.to_vec()));
        replay("vhd", 400, |bytes| super::any(Format::Vpc, bytes.to_vec()));
    }
}
