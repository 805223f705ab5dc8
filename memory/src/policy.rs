//! [`Policy`]: which of the host's NUMA nodes give the pages of guest RAM (`mbind(2)`).

use std::io;

/// Nodes that the call can name: the kernel's own limit on x86 (`MAX_NUMNODES`).
const MOST_NODES: usize = 1024;
const WORD: usize = u64::BITS as usize;

/// From the kernel's `linux/mempolicy.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Placement {
    /// Elsewhere if they have none left. Kernels before 5.15 take one node here.
    Preferred = 1,
    /// There, or the guest waits for memory there.
    Strict = 2,
    /// On one after the other.
    Interleave = 3,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    placement: Placement,
    nodes: [u64; MOST_NODES / WORD],
}

impl Policy {
    /// None where a number is beyond what any host has, or there is none.
    #[must_use]
    pub fn new(placement: Placement, nodes: &[u16]) -> Option<Self> {
        let mut mask = [0; MOST_NODES / WORD];
        for node in nodes {
            let node = usize::from(*node);
            *mask.get_mut(node / WORD)? |= 1 << (node % WORD);
        }
        (!nodes.is_empty()).then_some(Self { placement, nodes: mask })
    }

    /// Of pages that the host has not given yet.
    pub(crate) fn apply(&self, start: *mut u8, len: usize) -> io::Result<()> {
        // The kernel reads one bit less than it is told there are.
        // SAFETY: the policy of a range changes no byte in it, whatever it is, and the kernel reads
        // the `MOST_NODES` bits of the mask.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                start,
                len,
                self.placement as i32,
                self.nodes.as_ptr(),
                MOST_NODES + 1,
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_bits_and_what_no_host_has_is_no_policy() {
        let policy = Policy::new(Placement::Strict, &[0, 3, 64]).unwrap();
        assert_eq!(policy.nodes[..2], [0b1001, 1]);
        assert_eq!(Policy::new(Placement::Strict, &[]), None);
        assert_eq!(Policy::new(Placement::Strict, &[1024]), None);
    }
}
