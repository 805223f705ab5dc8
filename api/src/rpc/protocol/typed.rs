//! Typed parameters: a name, a type and a value.

use std::borrow::Cow;

use super::xdr::{Decode, Decoder, Encode, XdrError};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Int(i32),
    Uint(u32),
    Llong(i64),
    Ullong(u64),
    Double(f64),
    Boolean(bool),
    String(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// Mostly a name that every answer has: thousands of them are not copied.
    pub(crate) field: Cow<'static, str>,
    pub(crate) value: Value,
}

/// Parameters in the order in which clients shall see them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parameters(pub(crate) Vec<Parameter>);

impl Parameters {
    pub(crate) fn add(&mut self, field: impl Into<Cow<'static, str>>, value: Value) {
        self.0.push(Parameter { field: field.into(), value });
    }

    pub(crate) fn int(&mut self, field: impl Into<Cow<'static, str>>, value: i32) {
        self.add(field, Value::Int(value));
    }

    pub(crate) fn uint(&mut self, field: impl Into<Cow<'static, str>>, value: u32) {
        self.add(field, Value::Uint(value));
    }

    pub(crate) fn llong(&mut self, field: impl Into<Cow<'static, str>>, value: i64) {
        self.add(field, Value::Llong(value));
    }

    pub(crate) fn ullong(&mut self, field: impl Into<Cow<'static, str>>, value: u64) {
        self.add(field, Value::Ullong(value));
    }

    pub(crate) fn string(&mut self, field: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.add(field, Value::String(value.into()));
    }

    /// The answer to a call that comes twice: first without room, to learn how many there are.
    pub(crate) fn within(self, room: i32) -> (Self, i32) {
        let count = i32::try_from(self.0.len()).unwrap_or(i32::MAX);
        match usize::try_from(room) {
            Ok(room) if room > 0 => {
                let fitting = Self(self.0.into_iter().take(room).collect());
                let count = i32::try_from(fitting.0.len()).unwrap_or(i32::MAX);
                (fitting, count)
            }
            _ => (Self::default(), count),
        }
    }
}

impl Encode for Parameters {
    fn encode(&self, to: &mut Vec<u8>) {
        self.0.encode(to);
    }
}

impl Encode for Parameter {
    fn encode(&self, to: &mut Vec<u8>) {
        self.field.as_ref().encode(to);
        match &self.value {
            Value::Int(value) => (1, *value).encode(to),
            Value::Uint(value) => (2, *value).encode(to),
            Value::Llong(value) => (3, *value).encode(to),
            Value::Ullong(value) => (4, *value).encode(to),
            Value::Double(value) => (5, *value).encode(to),
            Value::Boolean(value) => (6, *value).encode(to),
            Value::String(value) => (7, value.as_str()).encode(to),
        }
    }
}

impl Decode for Parameter {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let (field, kind) = <(String, i32)>::decode(from)?;
        let value = match kind {
            1 => Value::Int(Decode::decode(from)?),
            2 => Value::Uint(Decode::decode(from)?),
            3 => Value::Llong(Decode::decode(from)?),
            4 => Value::Ullong(Decode::decode(from)?),
            5 => Value::Double(Decode::decode(from)?),
            6 => Value::Boolean(i32::decode(from)? != 0),
            7 => Value::String(Decode::decode(from)?),
            other => return Err(XdrError::NoType(other)),
        };
        Ok(Self { field: field.into(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_back_as_they_went() {
        let mut parameters = Parameters::default();
        parameters.int("a", -1);
        parameters.uint("b", 2);
        parameters.llong("c", -3);
        parameters.ullong("d", 4);
        parameters.add("e", Value::Double(0.5));
        parameters.add("f", Value::Boolean(true));
        parameters.string("g", "text");
        let mut bytes = Vec::new();
        parameters.encode(&mut bytes);
        let back = Vec::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(Parameters(back), parameters);
        let wrong = b"\0\0\0\0\0\0\0\x08";
        assert_eq!(Parameter::decode(&mut Decoder::new(wrong)), Err(XdrError::NoType(8)));
        assert_eq!(parameters.clone().within(0), (Parameters::default(), 7));
        assert_eq!(parameters.within(2).0.0.len(), 2);
    }
}
