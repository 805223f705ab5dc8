//! How objects are named on the wire. A name in such a handle may be of yesterday: what counts is
//! the UUID.

use uuid::Uuid;

use super::xdr::{Decode, Decoder, Encode, XdrError};

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $type,)*
        }

        impl Decode for $name {
            fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
                Ok(Self { $($field: Decode::decode(from)?,)* })
            }
        }

        impl Encode for $name {
            fn encode(&self, to: &mut Vec<u8>) {
                $(self.$field.encode(to);)*
            }
        }
    )*};
}

handles! {
    Domain {
        name: String,
        uuid: Uuid,
        /// -1 of a domain that is off.
        id: i32,
    }
    Network {
        name: String,
        uuid: Uuid,
    }
    NetworkPort {
        network: Network,
        uuid: Uuid,
    }
    Pool {
        name: String,
        uuid: Uuid,
    }
    /// A volume, by the name of its pool and its own.
    Volume {
        pool: String,
        name: String,
        key: String,
    }
    Snapshot {
        name: String,
        domain: Domain,
    }
    Checkpoint {
        name: String,
        domain: Domain,
    }
    NodeDevice {
        name: String,
    }
    Secret {
        uuid: Uuid,
        usage_type: i32,
        usage_id: String,
    }
    Filter {
        name: String,
        uuid: Uuid,
    }
    /// An interface of a guest, and its filter.
    FilterBinding {
        device: String,
        filter: String,
    }
    Interface {
        name: String,
        mac: String,
    }
}
