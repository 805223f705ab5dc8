//! Numbers and control messages of the console device (virtio 1.2 §5.3).

pub mod feature {
    pub const SIZE: u64 = 1 << 0;
    pub const MULTIPORT: u64 = 1 << 1;
}

/// Queues of the control channel; those of port 0 come before, all others after.
pub(super) const CONTROL_RX: u16 = 2;
pub(super) const CONTROL_TX: u16 = 3;

/// Index of the receive queue of a port; its transmit queue is the next one.
pub(super) fn rx_queue(port: usize) -> usize {
    if port == 0 { 0 } else { 2 + 2 * port }
}

pub(super) mod event {
    pub(in crate::virtio::console) const DEVICE_READY: u16 = 0;
    pub(in crate::virtio::console) const PORT_ADD: u16 = 1;
    pub(in crate::virtio::console) const PORT_READY: u16 = 3;
    pub(in crate::virtio::console) const CONSOLE_PORT: u16 = 4;
    pub(in crate::virtio::console) const RESIZE: u16 = 5;
    pub(in crate::virtio::console) const PORT_OPEN: u16 = 6;
    pub(in crate::virtio::console) const PORT_NAME: u16 = 7;
}

/// `struct virtio_console_control`: port, event, value, and what some events append.
pub(super) const MESSAGE: usize = 8;

pub(super) fn message(port: usize, event: u16, value: u16, more: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(MESSAGE + more.len());
    message.extend((port as u32).to_le_bytes());
    message.extend(event.to_le_bytes());
    message.extend(value.to_le_bytes());
    message.extend(more);
    message
}

/// Port, event and value of a message from the driver.
pub(super) fn parse(message: [u8; MESSAGE]) -> (u32, u16, u16) {
    let [p0, p1, p2, p3, e0, e1, v0, v1] = message;
    (
        u32::from_le_bytes([p0, p1, p2, p3]),
        u16::from_le_bytes([e0, e1]),
        u16::from_le_bytes([v0, v1]),
    )
}
