//! Talks with agents that are honest, broken, and hostile.

use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::UnixStream;

use super::replies::{HostName, NetworkInterface};
use super::session::Session;
use super::{AgentError, Ask};
use crate::tests::fake_agent;

/// A session with an agent of this manner.
async fn meet(manner: &'static str) -> Result<Session<UnixStream>, AgentError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::thread::spawn(move || fake_agent::serve(theirs, manner, |_| None));
    ours.set_nonblocking(true).unwrap();
    Session::open(UnixStream::from_std(ours).unwrap(), super::AgentTimeout::Usual).await
}

async fn refusal(manner: &'static str) -> AgentError {
    let mut session = meet(manner).await.unwrap();
    let ask = Ask::new("guest-get-host-name").within(Duration::from_millis(300));
    session.ask::<HostName>(ask).await.unwrap_err()
}

#[tokio::test]
async fn an_honest_agent_answers_one_question_after_the_other() {
    let mut session = meet("honest").await.unwrap();
    let name: HostName = session.ask(Ask::new("guest-get-host-name")).await.unwrap();
    assert_eq!(name.host_name, "web\u{1b}[2J1");
    let interfaces: Vec<NetworkInterface> =
        session.ask(Ask::new("guest-network-get-interfaces")).await.unwrap();
    assert_eq!(interfaces[1].ip_addresses[0].ip_address, "192.168.122.5");
}

#[tokio::test]
async fn what_was_said_to_others_does_not_count() {
    let mut session = meet("late").await.unwrap();
    let time: i64 = session.ask(Ask::new("guest-get-time")).await.unwrap();
    assert_eq!(time, 1_700_000_000_000_000_000);
}

#[tokio::test]
async fn an_agent_that_never_finds_its_place_costs_its_time_limit_and_no_more() {
    let begun = Instant::now();
    let endless = meet("endless").await;
    assert!(matches!(endless, Err(AgentError::Babble | AgentError::Silent(_))), "{endless:?}");
    let (silent, wrong) = tokio::join!(meet("silent"), meet("wrong-id"));
    for failed in [silent, wrong] {
        assert!(matches!(failed, Err(AgentError::Silent(_))), "{failed:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn answers_that_are_none_are_refused_and_cleaned() {
    for manner in ["garbage", "neither", "other-type", "nested", "twice"] {
        let error = refusal(manner).await;
        assert!(matches!(error, AgentError::Garbage { .. }), "{manner}: {error:?}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
    let mut session = meet("nested").await.unwrap();
    let deep = session.ask::<Value>(Ask::new("guest-ping")).await;
    assert!(matches!(deep, Err(AgentError::Garbage { .. })), "{deep:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let mut session = meet("huge").await.unwrap();
    let ask = Ask::new("guest-get-host-name");
    let error = session.ask::<HostName>(ask).await.unwrap_err();
    assert!(matches!(error, AgentError::TooLong { longest: 1_048_576, .. }), "{error:?}");
}

#[tokio::test]
async fn an_agent_that_hangs_or_hangs_up_is_told_apart() {
    let error = refusal("hangs").await;
    assert!(matches!(error, AgentError::Unanswered { .. }), "{error:?}");
    assert!(!error.is_refusal(), "it may still do it");
    assert!(matches!(refusal("hangs-up").await, AgentError::Closed));
}

#[tokio::test]
async fn a_command_that_is_unknown_or_switched_off_is_named() {
    let unknown = refusal("old").await.of("web");
    assert_eq!(unknown.code, crate::Code::Unsupported);
    let text = "domain \"web\": its guest agent does not know guest-get-host-name; a newer one may";
    assert_eq!(unknown.message, text);
    let off = refusal("forbidden").await;
    assert!(matches!(off, AgentError::SwitchedOff { .. }), "{off:?}");
    assert!(off.to_string().contains("block-rpcs"), "{off}");
}

#[tokio::test]
async fn silence_is_consent_where_only_failure_is_answered() {
    let shutdown = || Ask::new("guest-shutdown");
    for manner in ["hangs", "hangs-up"] {
        meet(manner).await.unwrap().tell(shutdown()).await.unwrap();
    }
    let refused = meet("old").await.unwrap().tell(shutdown()).await;
    assert!(matches!(refused, Err(AgentError::Unknown { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_raw_command_and_its_answer_pass_unchanged() {
    let mut session = meet("honest").await.unwrap();
    let request = "{\"execute\":\n \"guest-exec-status\", \"arguments\": {\"pid\": 1}}";
    let request = RawValue::from_string(request.to_owned()).unwrap();
    let answer = session.pass(&request, Ask::new("guest-exec-status")).await.unwrap();
    assert!(answer.get().contains("PID 1 does not exist"), "{answer}");
    let garbage = meet("garbage").await.unwrap().pass(&request, Ask::new("guest-ping")).await;
    assert!(matches!(garbage, Err(AgentError::Garbage { .. })), "{garbage:?}");
}
