use std::os::unix::fs::FileExt;

use super::*;

const RAM: u64 = 3 << 20;

/// A guest of 3 MiB with something in the second.
fn image() -> File {
    let file = tempfile::tempfile().unwrap();
    let body = Body::new(b"sections", RAM);
    body.begin(&file, b"sections").unwrap();
    let mut chunk = vec![0; CHUNK as usize];
    let zeros = sum(&chunk);
    chunk[7] = 1;
    file.write_all_at(&chunk[..4096], body.ram() + CHUNK).unwrap();
    body.finish(&file, &[zeros, sum(&chunk), zeros]).unwrap();
    write_description(&file, "a guest").unwrap();
    file
}

fn all(file: &File) -> Result<(), SavedError> {
    description(file)?;
    let body = Body::read(file)?;
    body.sections(file)?;
    body.sums(file)?;
    check_ram(file, |_, _| Ok(()))
}

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[test]
fn what_was_written_comes_back() {
    let file = image();
    all(&file).unwrap();
    assert_eq!(description(&file).unwrap(), "a guest");
    assert_eq!(Body::read(&file).unwrap().sections(&file).unwrap(), b"sections");
}

#[test]
fn every_flipped_byte_is_noticed_and_the_headers_name_their_part() {
    let file = image();
    let body = Body::read(&file).unwrap();
    let headers = (0..32).chain(BODY..BODY + 64);
    let parts = (4096..4103).chain(BODY + 4096..BODY + 4096 + 8 + 12);
    for at in headers.chain(parts).chain([body.ram() + 5, body.ram() + CHUNK + 7]) {
        flip(&file, at);
        assert!(all(&file).is_err(), "byte {at:#x}");
        flip(&file, at);
    }
    all(&file).unwrap();
    for (at, word) in [
        (4096, "description"),
        (BODY + 4096, "machine state"),
        (BODY + 4096 + 8, "sums"),
        (body.ram() + CHUNK, "memory at 0x100000"),
    ] {
        flip(&file, at);
        let error = all(&file).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        flip(&file, at);
    }
}

#[test]
fn a_shortened_file_is_refused_whatever_its_length() {
    let file = image();
    let len = file.metadata().unwrap().len();
    for cut in [0, 10, 4096, BODY, BODY + 64, len / 2, len - 1] {
        file.set_len(cut).unwrap();
        assert!(Body::read(&file).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_save_that_broke_off_is_none() {
    let file = tempfile::tempfile().unwrap();
    let body = Body::new(b"sections", RAM);
    body.begin(&file, b"sections").unwrap();
    assert!(matches!(Body::read(&file), Err(SavedError::NotOne)));
    body.finish(&file, &[0, 0, 0]).unwrap();
    assert!(Body::read(&file).is_ok());
    assert!(!is_complete(&file), "management has not said what it is");
}

#[test]
fn the_old_description_holds_until_the_new_one_is_written() {
    let file = image();
    // As if the daemon had died before the front was written.
    file.write_all_at(b"half of another", 2 << 20).unwrap();
    assert_eq!(description(&file).unwrap(), "a guest");
    for text in ["another guest", "a third", "a fourth"] {
        write_description(&file, text).unwrap();
        assert_eq!(description(&file).unwrap(), text);
    }
    let error = write_description(&file, &"x".repeat(3 << 20)).unwrap_err();
    assert!(matches!(error, SavedError::Description { .. }), "{error}");
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(sum(b"123456789"), 0xcbf4_3926);
}

/// The same guest, packed.
fn packed_image() -> File {
    let file = tempfile::tempfile().unwrap();
    let body = Body::packed(b"sections", RAM);
    body.begin(&file, b"sections").unwrap();
    let mut chunk = vec![0; CHUNK as usize];
    let mut table = vec![pack(&chunk).0];
    chunk[7] = 1;
    chunk[5000..9000].fill(9);
    let (second, bytes) = pack(&chunk);
    table.extend([second, table[0]]);
    file.write_all_at(&bytes, body.ram()).unwrap();
    body.finish_packed(&file, &table).unwrap();
    write_description(&file, "a guest").unwrap();
    file
}

#[test]
fn packed_ram_comes_back_and_is_small() {
    let file = packed_image();
    let body = Body::read(&file).unwrap();
    assert!(body.is_packed() && body.end() - body.ram() < CHUNK / 4);
    assert_eq!(body.sections(&file).unwrap(), b"sections");
    check_ram(&file, |_, _| Ok(())).unwrap();
    let chunks = body.chunks(&file).unwrap();
    let mut chunk = vec![0; CHUNK as usize];
    assert!(!chunks.read(&file, 0, &mut chunk).unwrap());
    assert!(chunks.read(&file, 1, &mut chunk).unwrap());
    assert_eq!((chunk[7], chunk[4999], chunk[5000], chunk[8999]), (1, 0, 9, 9));
    assert_eq!((chunks.count(), chunks.place(2)), (3, (2 * CHUNK, CHUNK as usize)));
}

#[test]
fn every_flipped_bit_of_a_packed_guest_is_noticed_or_changes_no_memory() {
    let file = packed_image();
    let body = Body::read(&file).unwrap();
    let whole = |file: &File| {
        let body = Body::read(file)?;
        body.sections(file)?;
        body.check_table(file)?;
        check_ram(file, |_, _| Ok(()))
    };
    let memory = |file: &File| {
        let mut chunk = vec![0; CHUNK as usize];
        body.chunks(file).unwrap().read(file, 1, &mut chunk).unwrap();
        chunk
    };
    let before = memory(&file);
    for at in (BODY..BODY + 64).chain(BODY + 4096..BODY + 4096 + 8 + 24) {
        flip(&file, at);
        assert!(whole(&file).is_err(), "byte {at:#x}");
        flip(&file, at);
    }
    // A frame says some things that only a decoder's buffers depend on.
    let mut harmless = 0;
    let (begin, end) = (body.ram(), body.end());
    // Its header, and samples of the rest: each costs a chunk that is unpacked.
    let sampled = ((end - begin) / 64).max(1) as usize;
    let flipped: Vec<u64> = (begin..begin + 16).chain((begin + 16..end).step_by(sampled)).collect();
    for at in flipped.iter().copied() {
        flip(&file, at);
        if whole(&file).is_ok() {
            harmless += 1;
            assert!(memory(&file) == before, "byte {at:#x}");
        }
        flip(&file, at);
    }
    assert!(harmless < flipped.len() / 4, "{harmless} of {}", flipped.len());
    whole(&file).unwrap();
    file.set_len(body.end() - 1).unwrap();
    assert!(Body::read(&file).is_err(), "shortened");
}
