//! The KVM requests a thread may make, as the numbers the kernel sees (`linux/kvm.h`).

use kvm_bindings as kvm;

const KVMIO: u32 = 0xae;
const WRITE: u32 = 1;
const READ: u32 = 2;

const fn plain(nr: u32) -> u32 {
    KVMIO << 8 | nr
}

const fn sized<T>(direction: u32, nr: u32) -> u32 {
    direction << 30 | (size_of::<T>() as u32) << 16 | plain(nr)
}

const fn write<T>(nr: u32) -> u32 {
    sized::<T>(WRITE, nr)
}

const fn read<T>(nr: u32) -> u32 {
    sized::<T>(READ, nr)
}

const fn both<T>(nr: u32) -> u32 {
    sized::<T>(READ | WRITE, nr)
}

/// Interrupts, doorbells and memslots: what device models lead to, on any thread.
pub(super) const DEVICES: &[u32] = &[
    write::<kvm::kvm_irq_level>(0x61),               // IRQ_LINE
    write::<kvm::kvm_irq_routing>(0x6a),             // SET_GSI_ROUTING
    write::<kvm::kvm_irqfd>(0x76),                   // IRQFD
    write::<kvm::kvm_ioeventfd>(0x79),               // IOEVENTFD
    write::<kvm::kvm_userspace_memory_region>(0x46), // SET_USER_MEMORY_REGION
];

/// A keyboard's interrupt.
pub(super) const INTERRUPTS: &[u32] = &[write::<kvm::kvm_irq_level>(0x61)];

/// Of a block device that comes as a medium while the guest runs (`linux/fs.h`).
pub(super) const BLOCK_SIZES: &[u32] = &[
    0x1268, // BLKSSZGET
    0x127b, // BLKPBSZGET
];

/// What a driver's choice of features and queues means for a tap (`linux/if_tun.h`).
pub(super) const TAP: &[u32] = &[
    0x4004_54d0, // TUNSETOFFLOAD
    0x4004_54d9, // TUNSETQUEUE
];

/// A tap that comes while the guest runs.
pub(super) const NEW_TAP: &[u32] = &[
    0x8004_54d2, // TUNGETIFF
    0x4004_54d8, // TUNSETVNETHDRSZ
    0x4004_54dc, // TUNSETVNETLE
];

/// A device of the host's kernel that comes with an interface, or as a vsock device, while the guest runs
/// (`linux/vhost.h`).
pub(super) const NEW_VHOST: &[u32] = &[
    0x8008_af00, // GET_FEATURES
    0xaf01,      // SET_OWNER
    0x4008_af03, // SET_MEM_TABLE
    0x4008_af60, // VSOCK_SET_GUEST_CID
];

/// Queues on their way into the host's kernel and back (`linux/vhost.h`).
pub(super) const VHOST: &[u32] = &[
    0x4008_af00, // SET_FEATURES
    0x4008_af04, // SET_LOG_BASE
    0x4008_af10, // SET_VRING_NUM
    0x4028_af11, // SET_VRING_ADDR
    0x4008_af12, // SET_VRING_BASE
    0xc008_af12, // GET_VRING_BASE
    0x4008_af20, // SET_VRING_KICK
    0x4008_af21, // SET_VRING_CALL
    0x4008_af30, // NET_SET_BACKEND
    0x4004_af61, // VSOCK_SET_RUNNING
];

/// A vCPU's own descriptor.
pub(super) const VCPU: &[u32] = &[
    plain(0x80),                         // RUN
    read::<kvm::kvm_regs>(0x81),         // GET_REGS
    write::<kvm::kvm_regs>(0x82),        // SET_REGS
    read::<kvm::kvm_sregs>(0x83),        // GET_SREGS
    write::<kvm::kvm_sregs>(0x84),       // SET_SREGS
    both::<kvm::kvm_translation>(0x85),  // TRANSLATE
    both::<kvm::kvm_msrs>(0x88),         // GET_MSRS
    write::<kvm::kvm_msrs>(0x89),        // SET_MSRS
    read::<kvm::kvm_lapic_state>(0x8e),  // GET_LAPIC
    write::<kvm::kvm_lapic_state>(0x8f), // SET_LAPIC
    write::<kvm::kvm_cpuid2>(0x90),      // SET_CPUID2
    both::<kvm::kvm_cpuid2>(0x91),       // GET_CPUID2
    plain(0x9a),                         // NMI
    read::<kvm::kvm_mp_state>(0x98),     // GET_MP_STATE
    write::<kvm::kvm_mp_state>(0x99),    // SET_MP_STATE
    read::<kvm::kvm_vcpu_events>(0x9f),  // GET_VCPU_EVENTS
    write::<kvm::kvm_vcpu_events>(0xa0), // SET_VCPU_EVENTS
    read::<kvm::kvm_debugregs>(0xa1),    // GET_DEBUGREGS
    write::<kvm::kvm_debugregs>(0xa2),   // SET_DEBUGREGS
    plain(0xa2),                         // SET_TSC_KHZ
    plain(0xa3),                         // GET_TSC_KHZ
    read::<kvm::kvm_xsave>(0xa4),        // GET_XSAVE
    write::<kvm::kvm_xsave>(0xa5),       // SET_XSAVE
    read::<kvm::kvm_xcrs>(0xa6),         // GET_XCRS
    write::<kvm::kvm_xcrs>(0xa7),        // SET_XCRS
    plain(0xad),                         // KVMCLOCK_CTRL
    read::<kvm::kvm_xsave>(0xcf),        // GET_XSAVE2
];

/// The machine's chips, clock and written pages: pause, reset, save.
pub(super) const CHIPS: &[u32] = &[
    both::<kvm::kvm_irqchip>(0x62),     // GET_IRQCHIP
    read::<kvm::kvm_irqchip>(0x63),     // SET_IRQCHIP, a read by its number
    write::<kvm::kvm_clock_data>(0x7b), // SET_CLOCK
    read::<kvm::kvm_clock_data>(0x7c),  // GET_CLOCK
    read::<kvm::kvm_pit_state2>(0x9f),  // GET_PIT2
    write::<kvm::kvm_pit_state2>(0xa0), // SET_PIT2
    write::<kvm::kvm_dirty_log>(0x42),  // GET_DIRTY_LOG
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        assert_eq!(plain(0x80), 0xae80);
        assert_eq!(read::<kvm::kvm_regs>(0x81), 0x8090_ae81);
        assert_eq!(write::<kvm::kvm_irq_level>(0x61), 0x4008_ae61);
        assert_eq!(write::<kvm::kvm_irqfd>(0x76), 0x4020_ae76);
        assert_eq!(both::<kvm::kvm_msrs>(0x88), 0xc008_ae88);
        assert_eq!(write::<kvm::kvm_userspace_memory_region>(0x46), 0x4020_ae46);
    }
}
