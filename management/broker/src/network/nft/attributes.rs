//! Attributes of netlink messages: a length, a type, and bytes up to a multiple of four.

const NESTED: u16 = 1 << 15;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::network) struct Attributes(Vec<u8>);

impl Attributes {
    pub(in crate::network) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // Every value here is far below 64 KiB.
        let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(in crate::network) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(in crate::network) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(in crate::network) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// Each attribute's type and value, as far as they are well-formed.
    pub(in crate::network) fn iterate(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
        Self::iterate_nested(bytes).map(|(kind, _, value)| (kind, value))
    }

    /// The same, with whether the value is of attributes itself. The kernel does not always say so.
    pub(super) fn iterate_nested(bytes: &[u8]) -> impl Iterator<Item = (u16, bool, &[u8])> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let [l0, l1, k0, k1] = *rest.first_chunk()?;
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            let kind = u16::from_ne_bytes([k0, k1]);
            Some((kind & !NESTED, kind & NESTED != 0, value))
        })
    }

    pub(in crate::network) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
