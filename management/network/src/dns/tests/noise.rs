//! Bytes that are no question, or almost one.

use proptest::prelude::*;
use serde_json::json;

use super::super::answer::{Transport, relayed};
use super::super::query::Query;
use super::super::query::kind::A;
use super::super::service::Step;
use super::*;

/// Whatever comes, the reply carries the number of the query and is no larger than allowed.
fn check(shared: &Shared, bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Step::Reply(reply) = ask_bytes(shared, bytes, Transport::Udp) {
        prop_assert_eq!(&reply[..2], &bytes[..2]);
        prop_assert!(reply[2] & 0x80 != 0 && reply.len() <= 1232);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
        questions in 0u8..3,
        additional in 0u8..6,
    ) {
        let lab = network(json!({}));
        check(&lab, &bytes)?;
        if let Some(header) = bytes.first_chunk_mut::<12>() {
            header[2] &= 0x07;
            header[4..].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, additional]);
            check(&lab, &bytes)?;
        }
    }

    #[test]
    fn a_question_with_a_few_bytes_changed_is_answered_or_refused(
        changes in proptest::collection::vec((12usize..60, any::<u8>()), 0..4),
        cut in 0usize..60,
    ) {
        let lab = network(json!({ "dns": { "txt": [{ "name": "web.lab", "value": "t" }] } }));
        let mut bytes = with_edns(&question("web.some.name.below.lab", A), 1232, 0);
        for (at, to) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
        }
        check(&lab, &bytes)?;
        bytes.truncate(cut);
        check(&lab, &bytes)?;
    }

    #[test]
    fn labels_of_any_bytes_are_names(
        labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..64), 0..6),
    ) {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in &labels {
            bytes.push(label.len() as u8);
            bytes.extend(label);
        }
        bytes.extend([0, 0, 1, 0, 1]);
        let length: usize = labels.iter().map(|label| label.len() + 1).sum();
        prop_assert_eq!(Query::parse(&bytes).is_ok(), length < 255);
        check(&network(json!({})), &bytes)?;
    }

    #[test]
    fn answers_of_upstreams_are_compared_not_believed(
        reply in proptest::collection::vec(any::<u8>(), 0..3000),
        id: u16,
    ) {
        let bytes = question("some.example.org", A);
        let query = Query::parse(&bytes).unwrap();
        let _ = query.is_answered_by(id, &reply);
        let passed = relayed(&query, reply, Transport::Udp);
        prop_assert!(passed.len() <= 1232);
    }
}

#[test]
fn a_name_that_points_back_at_itself_is_malformed() {
    let mut bytes = question("web", A);
    bytes.splice(12..17, [0xc0, 12]);
    let Step::Reply(reply) = ask_bytes(&network(json!({})), &bytes, Transport::Udp) else {
        panic!()
    };
    assert_eq!(reply[3] & 0xf, 1);
}
