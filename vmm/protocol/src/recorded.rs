//! What daemons and VMMs of earlier versions said to each other, in `recorded/`: this version goes on
//! understanding it, in both directions. A recording is never changed; a new version gets one of its own.

use crate::Version;
use crate::control::{Call, Message, Reply, Request};

const RECORDINGS: [&str; 1] = [include_str!("recorded/control-1.0.txt")];

#[test]
fn what_earlier_versions_said_is_understood() {
    for recording in RECORDINGS {
        let (mut calls, mut messages) = (0, 0);
        for line in recording.lines() {
            let text = &line[2..];
            if line.starts_with("> ") {
                let call: Call =
                    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
                if let Request::Hello { version } = call.request {
                    assert!(Version::CURRENT.understands(version), "an old daemon: {version}");
                }
                calls += 1;
            } else {
                let heard: Message =
                    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
                if let Message::Reply { result: Ok(Reply::Hello(hello)), .. } = heard {
                    assert!(Version::CURRENT.understands(hello.version), "an old VMM");
                    assert!(!hello.live_record.is_empty());
                }
                messages += 1;
            }
        }
        assert!(calls > 10 && messages > 15, "{calls} calls, {messages} messages");
    }
}
