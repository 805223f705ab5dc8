use memory::Backing;

use super::*;

const END: u64 = 1 << 20;
const AT: u64 = 0x1000;

fn rig() -> (Arc<Ramfb>, GuestRam) {
    let ram = GuestRam::new(&[(0, END)], &Backing::Anonymous).unwrap();
    (Ramfb::new("video0", ram.clone()), ram)
}

fn told(address: u64, format: &[u8; 4], size: (u32, u32), stride: u32) -> Vec<u8> {
    let mut bytes = address.to_be_bytes().to_vec();
    let numbers = [u32::from_le_bytes(*format), 0, size.0, size.1, stride];
    bytes.extend(numbers.map(u32::to_be_bytes).concat());
    bytes
}

fn drawn(ramfb: &Ramfb) -> Surface {
    let mut surface = Surface::new();
    ramfb.draw(&mut surface, true);
    surface
}

#[test]
fn every_format_shows_the_same_colours() {
    let (red, green) = (0xff_0000, 0x00_ff00);
    for (format, pixels) in [
        (b"XR24", &[0, 0, 0xff, 9, 0, 0xff, 0, 9][..]),
        (b"AR24", &[0, 0, 0xff, 9, 0, 0xff, 0, 9]),
        (b"XB24", &[0xff, 0, 0, 9, 0, 0xff, 0, 9]),
        (b"AB24", &[0xff, 0, 0, 9, 0, 0xff, 0, 9]),
        (b"RG24", &[0, 0, 0xff, 0, 0xff, 0]),
        (b"BG24", &[0xff, 0, 0, 0, 0xff, 0]),
        (b"RG16", &[0, 0xf8, 0xe0, 0x07]),
        (b"XR15", &[0, 0xfc, 0xe0, 0x83]),
    ] {
        let (ramfb, ram) = rig();
        ram.write_slice(AT, pixels).unwrap();
        ramfb.write(0, &told(AT, format, (2, 1), 0));
        assert_eq!(drawn(&ramfb).row(0), [red, green], "{}", String::from_utf8_lossy(format));
    }
}

#[test]
fn rows_lie_a_stride_apart_up_to_the_last_byte_of_memory() {
    let (ramfb, ram) = rig();
    let stride = 4096;
    let address = END - 2 * stride - 8;
    for row in 0..3 {
        ram.write_slice(address + row * stride, &[row as u8; 8]).unwrap();
    }
    ramfb.write(0, &told(address, b"XR24", (2, 3), stride as u32));
    let surface = drawn(&ramfb);
    assert_eq!((surface.width(), surface.height()), (2, 3));
    assert_eq!([0, 1, 2].map(|y| surface.row(y)[1]), [0, 0x01_0101, 0x02_0202]);
}

#[test]
fn what_cannot_be_shown_is_a_dark_screen() {
    let (ramfb, ram) = rig();
    ram.write_slice(0, &vec![0xff; END as usize]).unwrap();
    for bytes in [
        told(0, b"none", (64, 64), 0),
        told(0, &[0; 4], (64, 64), 0),
        told(0, b"XR24", (0, 64), 0),
        told(0, b"XR24", (64, 0), 0),
        told(0, b"XR24", (8193, 1), 0),
        told(0, b"RG16", (8192, 8192), 1),
        told(0, b"XR24", (u32::MAX, u32::MAX), u32::MAX),
        told(END, b"XR24", (1, 1), 0),
        told(END - 3, b"XR24", (1, 1), 0),
        told(u64::MAX, b"XR24", (1, 1), 0),
        told(u64::MAX - 3, b"XR24", (1, 1), 0),
        told(0, b"XR24", (1, 2), END as u32),
        told(0, b"XR24", (1, 8192), u32::MAX),
        vec![0; LEN],
    ] {
        ramfb.write(0, &bytes);
        let surface = drawn(&ramfb);
        assert_eq!((surface.width(), surface.height()), DARK, "{bytes:x?}");
        assert!((0..DARK.1).all(|y| surface.row(y).iter().all(|pixel| *pixel == 0)));
    }
    // Rows may overlap, which shows only what is there.
    ramfb.write(0, &told(0, b"XR24", (8192, 1024), 1));
    assert_eq!(drawn(&ramfb).row(1023)[8191], 0xff_ffff);
    // Beyond the file there is nothing.
    ramfb.write(LEN, &[1]);
    ramfb.write(usize::MAX, &[1]);
    assert_eq!(ramfb.content(), told(0, b"XR24", (8192, 1024), 1));
}

#[test]
fn it_is_saved_restored_and_reset() {
    let (ramfb, ram) = rig();
    ram.write_slice(AT, &[1, 2, 3, 0]).unwrap();
    ramfb.write(0, &told(AT, b"XR24", (1, 1), 0));
    let state = ramfb.save().unwrap();
    let other = Ramfb::new("video0", ram);
    other.restore(&state).unwrap();
    assert_eq!(drawn(&other).row(0), [0x03_0201]);
    other.reset();
    assert_eq!(drawn(&other).width(), DARK.0);
    let short = DeviceState::encode("ramfb", 1, &Saved { told: vec![0; LEN - 1] }).unwrap();
    assert!(other.restore(&short).is_err());
}
