//! What the fuzz target does with the control socket: it may carry anything, from either side.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::MachineConfig;
use crate::control::{Call, Message};
use crate::exit::ExitRecord;
pub use crate::saved::saved_state;
use crate::wire::{decode, encode, receive};

/// Read it as a VMM reads calls, as a daemon reads what a VMM says, and as what lies in files.
///
/// # Panics
/// If what was understood is not what its own text says.
pub fn control(bytes: &[u8]) {
    stream::<Call>(bytes);
    stream::<Message>(bytes);
    same::<MachineConfig>(bytes);
    same::<ExitRecord>(bytes);
}

/// Message by message, up to the first that is none.
fn stream<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(message)) = receive::<T>(&mut rest) {
        let frame = encode(&message).expect("what came in a frame fits one");
        assert_eq!(decode::<T>(&frame[4..]).expect("it can be read again"), message);
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) {
    let Ok(value) = decode::<T>(text) else { return };
    let again = serde_json::to_vec(&value).expect("it can be written");
    assert_eq!(decode::<T>(&again).expect("it can be read again"), value);
}

#[cfg(test)]
mod tests {
    #[test]
    fn peers_may_say_anything() {
        manor_tests::seeds::replay("control", 400, super::control);
    }

    #[test]
    fn saved_states_may_say_anything() {
        let file = tempfile::tempfile().unwrap();
        let feed = |data: &[u8]| super::saved_state(&file, data);
        manor_tests::seeds::replay("saved_state", 100, feed);
    }
}
