//! XDR (RFC 4506): big-endian words of four bytes. What is read comes from strangers: no length is
//! believed before that many bytes are there.

use uuid::Uuid;

/// Of a string.
const MAX_STRING: usize = 4 << 20;
/// Of what is written as a list of characters.
const MAX_CHARS: usize = 65536;
/// Items of a list that a client sends.
const MAX_ITEMS: usize = 16384;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XdrError {
    #[error("the message ends too early")]
    Short,
    #[error("{length} exceeds the limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("a string is not UTF-8")]
    NotText,
    #[error("there are no parameters of type {0}")]
    NoType(i32),
}

/// What is left to read of a payload.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    left: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { left: payload }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let (taken, left) = self.left.split_at_checked(length).ok_or(XdrError::Short)?;
        self.left = left;
        Ok(taken)
    }

    fn word(&mut self) -> Result<[u8; 4], XdrError> {
        self.take(4)?.try_into().map_err(|_| XdrError::Short)
    }

    fn double(&mut self) -> Result<[u8; 8], XdrError> {
        self.take(8)?.try_into().map_err(|_| XdrError::Short)
    }

    /// A length that stands before what it counts.
    fn length(&mut self, limit: usize) -> Result<usize, XdrError> {
        let length = u32::decode(self)? as usize;
        if length > limit {
            return Err(XdrError::TooLong { length, limit });
        }
        Ok(length)
    }

    /// Bytes that are filled up to a multiple of four.
    fn opaque(&mut self, limit: usize) -> Result<&'a [u8], XdrError> {
        let length = self.length(limit)?;
        let bytes = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(bytes)
    }
}

pub(crate) trait Decode: Sized {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError>;
}

pub(crate) trait Encode {
    fn encode(&self, to: &mut Vec<u8>);
}

/// Bytes that are no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opaque(pub(crate) Vec<u8>);

/// Text in a field of so many characters, each of which takes a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FixedChars<const N: usize>(pub(crate) String);

/// Text as a list of characters, each of which takes a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chars(pub(crate) String);

/// Bytes as a list of characters, each of which takes a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CharBytes(pub(crate) Vec<u8>);

macro_rules! words {
    ($($type:ty: $width:ident,)*) => {$(
        impl Decode for $type {
            fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
                from.$width().map(Self::from_be_bytes)
            }
        }
        impl Encode for $type {
            fn encode(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

words! { u32: word, i32: word, u64: double, i64: double, f64: double, }

impl Encode for u8 {
    fn encode(&self, to: &mut Vec<u8>) {
        u32::from(*self).encode(to);
    }
}

impl Encode for u16 {
    fn encode(&self, to: &mut Vec<u8>) {
        u32::from(*self).encode(to);
    }
}

impl Decode for bool {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        // As the C library has it, on which libvirt stands. DigitalOcean's go-libvirt writes `true` as a byte that is
        // filled up to a word.
        Ok(u32::decode(from)? != 0)
    }
}

impl Encode for bool {
    fn encode(&self, to: &mut Vec<u8>) {
        u32::from(*self).encode(to);
    }
}

impl Decode for String {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let bytes = from.opaque(MAX_STRING)?;
        let text = std::str::from_utf8(bytes).map_err(|_| XdrError::NotText)?;
        Ok(text.to_owned())
    }
}

fn encode_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    length(bytes.len()).encode(to);
    to.extend_from_slice(bytes);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Nothing that is sent comes near.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Encode for &str {
    fn encode(&self, to: &mut Vec<u8>) {
        // All before it is a multiple of four as well, so filling up the whole fills up the string.
        encode_bytes(self.as_bytes(), to);
    }
}

impl Encode for String {
    fn encode(&self, to: &mut Vec<u8>) {
        self.as_str().encode(to);
    }
}

impl Decode for Opaque {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(Self(from.opaque(MAX_STRING)?.to_vec()))
    }
}

impl Encode for Opaque {
    fn encode(&self, to: &mut Vec<u8>) {
        encode_bytes(&self.0, to);
    }
}

impl<const N: usize> Encode for FixedChars<N> {
    fn encode(&self, to: &mut Vec<u8>) {
        // The last one stays the end of the text.
        let text = self.0.bytes().take(N.saturating_sub(1)).chain(std::iter::repeat(0));
        text.take(N).for_each(|byte| byte.encode(to));
    }
}

impl Encode for Chars {
    fn encode(&self, to: &mut Vec<u8>) {
        length(self.0.len()).encode(to);
        self.0.bytes().for_each(|byte| byte.encode(to));
    }
}

impl Decode for CharBytes {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let count = from.length(MAX_CHARS)?;
        let byte = |_| Ok(u32::decode(from)?.to_be_bytes()[3]);
        (0..count).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

impl Encode for CharBytes {
    fn encode(&self, to: &mut Vec<u8>) {
        length(self.0.len()).encode(to);
        self.0.iter().for_each(|byte| byte.encode(to));
    }
}

impl Decode for Uuid {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let bytes = from.take(16)?.try_into().map_err(|_| XdrError::Short)?;
        Ok(Self::from_bytes(bytes))
    }
}

impl Encode for Uuid {
    fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        if bool::decode(from)? { T::decode(from).map(Some) } else { Ok(None) }
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, to: &mut Vec<u8>) {
        self.is_some().encode(to);
        if let Some(value) = self {
            value.encode(to);
        }
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let count = from.length(MAX_ITEMS)?;
        // It grows with what is really there: every item takes a word at least.
        (0..count).map(|_| T::decode(from)).collect::<Result<_, _>>()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, to: &mut Vec<u8>) {
        length(self.len()).encode(to);
        self.iter().for_each(|item| item.encode(to));
    }
}

impl Decode for () {
    fn decode(_: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(())
    }
}

impl Encode for () {
    fn encode(&self, _: &mut Vec<u8>) {}
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => {$(
        impl<$($name: Decode),*> Decode for ($($name,)*) {
            fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
                Ok(($($name::decode(from)?,)*))
            }
        }
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            #[allow(non_snake_case, reason = "the names are those of the types")]
            fn encode(&self, to: &mut Vec<u8>) {
                let ($($name,)*) = self;
                $($name.encode(to);)*
            }
        }
    )*};
}

tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H)
    (A B C D E F G H I) (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K L)
}

#[cfg(test)]
mod properties {
    use scope::every;

    use super::*;

    #[cfg_attr(kani, kani::proof, kani::unwind(18))]
    #[cfg_attr(not(kani), test)]
    fn bytes_take_their_length_and_their_filling_and_not_a_byte_of_what_follows() {
        every(|any| {
            let length = any.of(&[0, 1, 2, 3, 4, 5, 8, 9, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
            let have = any.up_to(16) as usize;
            let bytes = [&length.to_be_bytes()[..], &[7; 16][..have]].concat();
            let mut from = Decoder::new(&bytes);
            let padded = (length as usize).checked_next_multiple_of(4);
            let is_there = length <= 9 && padded.is_some_and(|padded| padded <= have);
            match Opaque::decode(&mut from) {
                Ok(Opaque(taken)) => {
                    assert!(is_there);
                    assert_eq!(taken.len(), length as usize);
                    assert_eq!(from.left.len(), have - padded.unwrap_or(0));
                }
                Err(_) => assert!(!is_there),
            }
        });
    }

    #[cfg_attr(kani, kani::proof, kani::unwind(8))]
    #[cfg_attr(not(kani), test)]
    fn a_list_holds_what_is_there_and_not_what_is_claimed() {
        every(|any| {
            let count = any.of(&[0, 1, 2, 4, 5, 0x7fff_ffff, 0xffff_ffff]);
            let words = any.up_to(4) as usize;
            let bytes = [&u32::to_be_bytes(count)[..], &[0; 16][..4 * words]].concat();
            let decoded = Vec::<u32>::decode(&mut Decoder::new(&bytes));
            let is_there = count as usize <= words;
            assert_eq!(decoded.map(|list| list.len()).ok(), is_there.then_some(count as usize));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &impl Encode) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        bytes
    }

    fn decoded<T: Decode>(bytes: &[u8]) -> Result<T, XdrError> {
        T::decode(&mut Decoder::new(bytes))
    }

    #[test]
    fn values_come_back_as_they_went() {
        type All = (u32, i32, u64, i64, String, Option<String>, Uuid, Vec<(String, u64)>, Opaque);
        let all: All = (
            7,
            -1,
            1 << 40,
            -5,
            "five!".to_owned(),
            None,
            Uuid::from_u128(9),
            vec![("a".to_owned(), 1), (String::new(), 2)],
            Opaque(vec![1, 2, 3]),
        );
        let bytes = encoded(&all);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(decoded::<All>(&bytes), Ok(all));
    }

    #[test]
    fn strings_are_filled_up_and_characters_take_words() {
        assert_eq!(encoded(&"abcde"), b"\0\0\0\x05abcde\0\0\0");
        assert_eq!(encoded(&Chars("a".to_owned())), b"\0\0\0\x01\0\0\0a");
        assert_eq!(encoded(&FixedChars::<3>("abcd".to_owned())), b"\0\0\0a\0\0\0b\0\0\0\0");
    }

    #[test]
    fn lying_lengths_are_refused_before_memory_is_taken() {
        let short = Err(XdrError::Short);
        assert_eq!(decoded::<String>(b"\0\x3f\xff\xff"), short);
        assert_eq!(decoded::<Vec<u32>>(b"\0\0\x40\0\0\0\0\x01"), Err(XdrError::Short));
        let limit = MAX_STRING;
        let length = u32::MAX as usize;
        let too_long = XdrError::TooLong { length, limit };
        assert_eq!(decoded::<String>(b"\xff\xff\xff\xff"), Err(too_long));
        let too_many = XdrError::TooLong { length: 0x4001, limit: MAX_ITEMS };
        assert_eq!(decoded::<Vec<u32>>(b"\0\0\x40\x01"), Err(too_many));
        assert_eq!(decoded::<Option<u32>>(b"\0\0\0\x02"), Err(XdrError::Short));
        assert_eq!(decoded::<Option<u32>>(b"\x01\0\0\0\0\0\0\x07"), Ok(Some(7)));
        assert_eq!(decoded::<String>(b"\0\0\0\x01\xff\0\0\0"), Err(XdrError::NotText));
        // The filling counts as well.
        assert_eq!(decoded::<String>(b"\0\0\0\x01a"), Err(XdrError::Short));
    }
}
