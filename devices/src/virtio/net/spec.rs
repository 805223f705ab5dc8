//! Numbers of the network device (virtio 1.2 §5.1).

/// `struct virtio_net_hdr` as version 1 has it, `num_buffers` included.
pub(super) const HEADER: usize = 12;
/// Offset of `num_buffers` in it.
pub(super) const NUM_BUFFERS: u64 = 10;
/// The longest packet behind a header: what segmentation offload makes (§5.1.6.3.1), and its
/// Ethernet header.
pub(super) const MAX_PACKET: usize = 65_550;
/// Ethernet header with one VLAN tag.
pub(super) const FRAME: usize = 18;

pub mod feature {
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const GUEST_ECN: u64 = 1 << 9;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const HOST_ECN: u64 = 1 << 13;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const CTRL_RX: u64 = 1 << 18;
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub const MQ: u64 = 1 << 22;
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;

    pub(in crate::virtio::net) const GUEST_OFFLOADS: u64 =
        GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN;
    pub(in crate::virtio::net) const BIG_PACKETS: u64 = GUEST_TSO4 | GUEST_TSO6;
}

pub(super) const STATUS_LINK_UP: u16 = 1;
pub(super) const STATUS_ANNOUNCE: u16 = 2;

/// Control commands, `(class, command)`.
pub(super) mod command {
    pub(in crate::virtio::net) const RX: u8 = 0;
    pub(in crate::virtio::net) const MAC: u8 = 1;
    pub(in crate::virtio::net) const ANNOUNCE: u8 = 3;
    pub(in crate::virtio::net) const MQ: u8 = 4;
    pub(in crate::virtio::net) const GUEST_OFFLOADS: u8 = 5;
}

pub(super) const CONTROL_OK: u8 = 0;
pub(super) const CONTROL_ERROR: u8 = 1;
