use std::sync::Arc;

use image::{MemoryStorage, Raw};

use super::*;
use crate::backend::nbd::spec::{REQUEST_MAGIC, option, reply};

const SIZE: u64 = 300 << 10;

fn exports() -> Arc<[Export]> {
    let mut bytes = vec![0; SIZE as usize];
    bytes[..100].fill(7);
    let disk = Arc::new(Raw::open(Arc::new(MemoryStorage::new(bytes)), true).unwrap());
    let scratch = Arc::new(MemoryStorage::default());
    let moment = Arc::new(Moment::new(disk, scratch, Box::new(|_| {})));
    let marked = Arc::new(Marked::new(vec![0b10], 64 << 10));
    let marked = Some(("backup-vda".to_owned(), marked));
    vec![Export { name: "vda".into(), description: String::new(), moment, marked }].into()
}

struct Client(Connection);

impl Client {
    fn new() -> Self {
        let mut client = Self(Connection::new(exports()));
        let greeting = client.say(&3_u32.to_be_bytes());
        assert_eq!(greeting, b"NBDMAGICIHAVEOPT\0\x03");
        client
    }

    /// What is answered, all of it.
    fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.take(bytes);
        let mut heard = Vec::new();
        loop {
            let more = self.0.work();
            while self.0.has_output() {
                let part = self.0.output().to_vec();
                self.0.sent(part.len());
                heard.extend(part);
            }
            if !more {
                return heard;
            }
        }
    }

    fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let header = [&b"IHAVEOPT"[..], &option.to_be_bytes(), &(data.len() as u32).to_be_bytes()];
        let heard = self.say(&[&header.concat(), data].concat());
        let mut rest = &heard[..];
        let mut answers = Vec::new();
        while let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, after @ ..] = rest {
            let (kind, len) = (u32::from_be_bytes([*a, *b, *c, *d]), [*e, *f, *g, *h]);
            let (data, next) = after.split_at(u32::from_be_bytes(len) as usize);
            answers.push((kind, data.to_vec()));
            rest = next;
        }
        answers
    }

    fn ready(contexts: &[&str]) -> Self {
        let mut client = Self::new();
        let ack = vec![(reply::ACK, Vec::new())];
        assert_eq!(client.option(option::STRUCTURED_REPLY, &[]), ack);
        let answers = client.option(option::SET_META_CONTEXT, &queries(contexts));
        assert_eq!(answers.len(), contexts.len() + 1);
        let answers = client.option(option::GO, b"\0\0\0\x03vda\0\0");
        assert_eq!(answers.last(), Some(&(reply::ACK, Vec::new())));
        client
    }

    fn request(&mut self, command: u16, offset: u64, len: u32) -> Vec<u8> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(command.to_be_bytes());
        bytes.extend(77_u64.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        self.say(&bytes)
    }
}

fn queries(contexts: &[&str]) -> Vec<u8> {
    let mut data = b"\0\0\0\x03vda".to_vec();
    data.extend((contexts.len() as u32).to_be_bytes());
    for context in contexts {
        data.extend((context.len() as u32).to_be_bytes());
        data.extend(context.as_bytes());
    }
    data
}

#[test]
fn exports_and_contexts_are_listed_and_unknown_names_refused() {
    let mut client = Client::new();
    let list = client.option(option::LIST, &[]);
    assert_eq!(list[0], (reply::SERVER, b"\0\0\0\x03vda".to_vec()));
    let refused = client.option(option::GO, b"\0\0\0\x03vdb\0\0");
    assert_eq!(refused[0].0, reply::UNKNOWN);
    let refused = client.option(option::LIST_META_CONTEXT, &queries(&[]));
    assert_eq!(refused[0].0, reply::INVALID, "without structured replies");
    client.option(option::STRUCTURED_REPLY, &[]);
    let all = client.option(option::LIST_META_CONTEXT, &queries(&[]));
    assert_eq!(all.len(), 3);
    assert!(all[1].1.ends_with(b"qemu:dirty-bitmap:backup-vda"));
    let qemu = client.option(option::LIST_META_CONTEXT, &queries(&["qemu:"]));
    assert_eq!(qemu.len(), 2);
    let none = client.option(option::SET_META_CONTEXT, &queries(&["qemu:dirty-bitmap:other"]));
    assert_eq!(none.len(), 1);
    // Lengths that lead outside.
    let refused = client.option(option::GO, b"\xff\xff\xff\xffvda\0\0");
    assert_eq!(refused[0].0, reply::INVALID);
    let refused = client.option(option::SET_META_CONTEXT, b"\0\0\0\x03vda\xff\xff\xff\xff");
    assert_eq!(refused[0].0, reply::INVALID);
}

#[test]
fn a_structured_read_comes_in_pieces_and_a_simple_one_in_one() {
    let mut client = Client::ready(&[]);
    let heard = client.request(0, 0, SIZE as u32);
    assert_eq!(heard[..8], [0x66, 0x8e, 0x33, 0xef, 0, 0, 0, 1]);
    // Two pieces: 256 KiB and the rest, the last one marked.
    assert_eq!(heard.len(), 2 * 28 + SIZE as usize);
    assert_eq!(heard[28], 7);
    let mut simple = Client::new();
    simple.option(option::GO, b"\0\0\0\x03vda\0\0");
    let heard = simple.request(0, 0, SIZE as u32);
    assert_eq!(heard.len(), 16 + SIZE as usize);
    assert_eq!((heard[16], heard[115], heard[116]), (7, 7, 0));
}

#[test]
fn what_is_outside_or_would_write_is_refused_and_the_connection_goes_on() {
    let mut client = Client::new();
    client.option(option::GO, b"\0\0\0\x03vda\0\0");
    let error = |heard: &[u8]| u32::from_be_bytes(heard[4..8].try_into().unwrap());
    assert_eq!(error(&client.request(0, SIZE, 1)), 22);
    assert_eq!(error(&client.request(0, u64::MAX, 2)), 22);
    assert_eq!(error(&client.request(4, 0, 512)), 1);
    assert_eq!(error(&client.request(7, 0, 512)), 22, "no context was chosen");
    // A write's data is skipped.
    let refused = client.request(1, 0, 512);
    assert_eq!(error(&refused), 1);
    assert!(client.say(&[0; 512]).is_empty());
    assert_eq!(client.request(0, 0, 100).len(), 116);
    assert_eq!(client.request(3, 0, 0).len(), 16);
    client.request(2, 0, 0);
    assert!(client.0.is_over());
}

#[test]
fn block_status_tells_what_was_marked() {
    let mut client = Client::ready(&["qemu:dirty-bitmap:backup-vda"]);
    let heard = client.request(7, 0, SIZE as u32);
    let step = 64_u32 << 10;
    let mut expected = 1_u32.to_be_bytes().to_vec();
    for (len, flags) in [(step, 0), (step, 1), (SIZE as u32 - 2 * step, 0)] {
        expected.extend([len, flags].map(u32::to_be_bytes).concat());
    }
    assert_eq!(heard[20..], expected);
}

#[test]
fn nonsense_ends_the_connection_and_takes_no_memory() {
    let mut client = Client::new();
    client.say(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff");
    assert!(client.0.is_over());
    let mut client = Client::new();
    client.option(option::GO, b"\0\0\0\x03vda\0\0");
    client.say(&[0x55; 28]);
    assert!(client.0.is_over());
}

#[test]
fn runs_of_a_bitmap_go_over_words() {
    let marked = Marked::new(vec![u64::MAX << 60, u64::MAX, 0b1], 512);
    assert_eq!(marked.run(0, 1 << 20), (false, 60 * 512));
    assert_eq!(marked.run(60 * 512, 1 << 20), (true, 69 * 512));
    assert_eq!(marked.run(129 * 512, 4096), (false, 4096));
    assert_eq!(marked.run(61 * 512 + 5, 100), (true, 100));
}
