//! A driver that fills its rings with anything.

use std::sync::OnceLock;

use memory::{Backing, GuestRam};

use crate::virtio::queue::{Queue, QueueConfig, QueueProgress, RingFeatures};

/// Two adjoining regions and one behind a hole, small enough to hit their edges.
const LAYOUT: [(u64, u64); 3] = [(0, 0x4000), (0x4000, 0x4000), (0x10000, 0x4000)];

fn ram() -> &'static GuestRam {
    static RAM: OnceLock<GuestRam> = OnceLock::new();
    RAM.get_or_init(|| {
        GuestRam::new(&LAYOUT, &Backing::Anonymous).expect("the host has memory for it")
    })
}

/// ```text
/// u8 exponent of the size   u8 features, and which chains are kept   u16, u16 where the rings are
/// memory from 0 on: descriptors first
/// ```
/// # Panics
/// When a chain comes out that does not lie in RAM, or the queue loses count.
pub fn virtqueue(data: &[u8]) {
    let [exponent, flags, a0, a1, u0, u1, rings @ ..] = data else { return };
    let ram = ram();
    let size = 1_u16 << (exponent % 9);
    let config = QueueConfig {
        size,
        enabled: true,
        descriptors: 0,
        available: 16 * u64::from(size) + 2 * u64::from(u16::from_le_bytes([*a0, *a1]) % 1024),
        used: 0x4000 + 4 * u64::from(u16::from_le_bytes([*u0, *u1])),
    };
    for &(gpa, len) in &LAYOUT {
        ram.write_slice(gpa, &vec![0; len as usize]).expect("inside RAM");
    }
    ram.write_slice(0, &rings[..rings.len().min(0x8000)]).expect("inside RAM");

    let features = RingFeatures { event_idx: flags & 1 != 0, indirect: flags & 2 != 0 };
    let progress = QueueProgress::default();
    let Ok(mut queue) = Queue::new(ram.clone(), &config, 256, features, progress) else { return };
    let mut held = Vec::new();
    let mut hold = *flags;
    for _ in 0..2 * usize::from(size) {
        queue.disable_kicks();
        let Some(mut chain) = queue.pop() else { break };
        let ranges = || chain.readable().iter().chain(chain.writable());
        assert!(ranges().all(|(gpa, len)| *len > 0 && ram.contains(*gpa, *len)));
        let total = u64::from(chain.readable_len()) + u64::from(chain.writable_len());
        assert_eq!(ranges().map(|(_, len)| *len).sum::<u64>(), total);
        hold = hold.rotate_left(1);
        if hold & 1 != 0 {
            held.push(chain);
        } else {
            let status = chain.split_status();
            let header: Option<[u8; 16]> = chain.read_obj();
            assert!(header.is_none() || total >= 16);
            if let Some(status) = status {
                status.set(ram, 1);
            }
            queue.complete(chain, 1);
        }
        assert_eq!(usize::from(queue.in_flight()), held.len());
        let _ = queue.should_notify();
        let _ = queue.enable_kicks();
    }
    for chain in held {
        queue.complete(chain, 0);
    }
    assert_eq!(queue.in_flight(), 0);
}
