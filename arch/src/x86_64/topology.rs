//! CPU topology and APIC ids.
//!
//! An APIC id is a row of bit fields, one for each level, each as wide as its count needs: ids have
//! gaps when a count is no power of two (Intel SDM vol. 3, "Identifying Topological Relationships").

use serde::{Deserialize, Serialize};

/// Guest CPUs by level, as `<topology>` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    pub sockets: u32,
    /// Dies per socket.
    pub dies: u32,
    /// Cores per die.
    pub cores: u32,
    /// Threads per core.
    pub threads: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    #[error("a CPU topology needs at least one of each level")]
    Zero,
    #[error("CPU topology has room for {room} vCPUs, but {vcpus} are wanted")]
    TooSmall { room: u64, vcpus: u32 },
    #[error("CPU topology needs {bits}-bit APIC ids; more than {MAX_APIC_BITS} are not offered")]
    TooWide { bits: u32 },
}

/// Ids stay in what KVM accepts (`KVM_MAX_VCPU_IDS` is 4096 with its default build).
const MAX_APIC_BITS: u32 = 12;

impl Topology {
    /// All CPUs as cores of one socket.
    #[must_use]
    pub const fn one_socket(cores: u32) -> Self {
        Self { sockets: 1, dies: 1, cores, threads: 1 }
    }

    /// Check that `vcpus` fit, and that ids do.
    pub fn check(&self, vcpus: u32) -> Result<(), TopologyError> {
        let counts = [self.sockets, self.dies, self.cores, self.threads];
        if counts.contains(&0) || vcpus == 0 {
            return Err(TopologyError::Zero);
        }
        let room = counts.iter().try_fold(1u64, |room, &n| room.checked_mul(u64::from(n)));
        let room = room.unwrap_or(u64::MAX);
        if room < u64::from(vcpus) {
            return Err(TopologyError::TooSmall { room, vcpus });
        }
        let bits = counts.iter().map(|&n| width(n)).sum();
        if bits > MAX_APIC_BITS {
            return Err(TopologyError::TooWide { bits });
        }
        Ok(())
    }

    /// Bits of the id below the core field.
    #[must_use]
    pub fn core_shift(&self) -> u32 {
        width(self.threads)
    }

    /// Bits of the id below the die field.
    #[must_use]
    pub fn die_shift(&self) -> u32 {
        self.core_shift() + width(self.cores)
    }

    /// Bits of the id below the socket field.
    #[must_use]
    pub fn socket_shift(&self) -> u32 {
        self.die_shift() + width(self.dies)
    }

    #[must_use]
    pub fn threads_per_die(&self) -> u32 {
        self.cores.saturating_mul(self.threads)
    }

    #[must_use]
    pub fn threads_per_socket(&self) -> u32 {
        self.dies.saturating_mul(self.threads_per_die())
    }

    /// APIC id of vCPU `index`: threads fill a core, cores a die, dies a socket.
    ///
    /// KVM wants it as the vCPU id too (`KVM_CREATE_VCPU`), or its LAPIC answers to another.
    #[must_use]
    pub fn apic_id(&self, index: u32) -> u32 {
        let (rest, thread) = split(index, self.threads);
        let (rest, core) = split(rest, self.cores);
        let (socket, die) = split(rest, self.dies);
        socket << self.socket_shift() | die << self.die_shift() | core << self.core_shift() | thread
    }
}

fn split(n: u32, by: u32) -> (u32, u32) {
    let by = by.max(1);
    (n / by, n % by)
}

/// Bits that hold `0..count`.
fn width(count: u32) -> u32 {
    u32::BITS - count.max(1).saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(topology: Topology, vcpus: u32) -> Vec<u32> {
        topology.check(vcpus).unwrap();
        (0..vcpus).map(|index| topology.apic_id(index)).collect()
    }

    #[test]
    fn powers_of_two_leave_no_gap() {
        let topology = Topology { sockets: 2, dies: 2, cores: 8, threads: 2 };
        assert_eq!(ids(topology, 64), (0..64).collect::<Vec<_>>());
    }

    #[test]
    fn three_cores_of_two_threads_leave_gaps_between_sockets() {
        let topology = Topology { sockets: 2, dies: 1, cores: 3, threads: 2 };
        assert_eq!(ids(topology, 12), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
    }

    #[test]
    fn dies_have_their_own_field() {
        let topology = Topology { sockets: 2, dies: 3, cores: 1, threads: 1 };
        assert_eq!(ids(topology, 6), [0, 1, 2, 4, 5, 6]);
    }

    #[test]
    fn sixty_four_vcpus_of_odd_shapes_have_distinct_ids_that_decompose() {
        for (sockets, dies, cores, threads) in
            [(64, 1, 1, 1), (1, 1, 64, 1), (3, 1, 11, 2), (5, 3, 5, 1)]
        {
            let topology = Topology { sockets, dies, cores, threads };
            let ids = ids(topology, 64);
            let mut seen = ids.clone();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 64);
            for (index, id) in (0..).zip(ids) {
                assert_eq!(id >> topology.socket_shift(), index / (dies * cores * threads));
                assert_eq!(id & ((1 << topology.core_shift()) - 1), index % threads);
            }
        }
    }

    #[test]
    fn impossible_topologies_are_refused_without_overflow() {
        let zero = Topology { sockets: 1, dies: 0, cores: 1, threads: 1 };
        assert_eq!(zero.check(1), Err(TopologyError::Zero));
        assert_eq!(
            Topology::one_socket(2).check(3),
            Err(TopologyError::TooSmall { room: 2, vcpus: 3 })
        );
        let huge =
            Topology { sockets: u32::MAX, dies: u32::MAX, cores: u32::MAX, threads: u32::MAX };
        assert!(matches!(huge.check(1), Err(TopologyError::TooWide { .. })));
    }
}
