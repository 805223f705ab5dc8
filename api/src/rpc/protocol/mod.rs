//! libvirt's wire format, and nothing of Manor: XDR (RFC 4506), packets, typed parameters.

pub(super) mod object;
pub(super) mod packet;
pub(super) mod torture;
pub(super) mod typed;
pub(super) mod xdr;
