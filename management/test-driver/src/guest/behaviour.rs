//! What a guest does that an ordinary one does not, as its definition says:
//!
//! ```xml
//! <metadata>
//!   <test:guest xmlns:test='urn:manor:test' start-ms='500' save-ms='2000'
//!               start='no such machine' power-button='ignored' then='crash' after-ms='100'/>
//! </metadata>
//! ```
//! | attribute | |
//! |---|---|
//! | `start-ms`, `save-ms` | how long a start, a save or a dump takes |
//! | `start` | starts fail, with this reason |
//! | `power-button` | `ignored`: the guest does not shut down |
//! | `unplug` | `ignored`: the guest lets go of no device |
//! | `then`, `after-ms` | so long after its start it does `crash`, `poweroff` or `reset` |

use std::time::Duration;

use serde_json::Value;

const NAMESPACE: &str = "urn:manor:test";
/// Nobody waits longer for a test.
const LONGEST: Duration = Duration::from_secs(600);

/// What a guest does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Crash,
    PowerOff,
    Reset,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Behaviour {
    start: Duration,
    save: Duration,
    failure: Option<String>,
    ignores_power_button: bool,
    ignores_unplug: bool,
    then: Option<(Duration, Deed)>,
}

impl Behaviour {
    /// Of the domain whose live record this is; what cannot be read makes no difference.
    pub(super) fn of(live_record: &str) -> Self {
        let record: Value = serde_json::from_str(live_record).unwrap_or_default();
        record["definition"].as_str().map(Self::of_definition).unwrap_or_default()
    }

    fn of_definition(xml: &str) -> Self {
        let Ok(document) = roxmltree::Document::parse(xml) else { return Self::default() };
        let mut all = document.descendants();
        let Some(said) = all.find(|node| node.has_tag_name((NAMESPACE, "guest"))) else {
            return Self::default();
        };
        let time = |name: &str| {
            let ms = said.attribute(name).and_then(|ms| ms.parse().ok()).unwrap_or(0);
            Duration::from_millis(ms).min(LONGEST)
        };
        let ignores = |name: &str| said.attribute(name) == Some("ignored");
        let deed = match said.attribute("then") {
            Some("crash") => Some(Deed::Crash),
            Some("poweroff") => Some(Deed::PowerOff),
            Some("reset") => Some(Deed::Reset),
            _ => None,
        };
        Self {
            start: time("start-ms"),
            save: time("save-ms"),
            failure: said.attribute("start").map(str::to_owned),
            ignores_power_button: ignores("power-button"),
            ignores_unplug: ignores("unplug"),
            then: deed.map(|deed| (time("after-ms"), deed)),
        }
    }

    pub(super) fn wait_to_start(&self) {
        std::thread::sleep(self.start);
    }

    pub(super) fn start_fails(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn save_takes(&self) -> Duration {
        self.save
    }

    pub(super) fn ignores_power_button(&self) -> bool {
        self.ignores_power_button
    }

    pub(super) fn ignores_unplug(&self) -> bool {
        self.ignores_unplug
    }

    pub(super) fn then(&self) -> Option<(Duration, Deed)> {
        self.then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(attributes: &str) -> Behaviour {
        let xml = format!(
            "<domain><metadata><t:guest xmlns:t='urn:manor:test' {attributes}/></metadata></domain>"
        );
        Behaviour::of(&serde_json::json!({ "definition": xml }).to_string())
    }

    #[test]
    fn a_definition_says_what_its_guest_does() {
        let guest = said("start-ms='20' start='broken' power-button='ignored'");
        assert_eq!(guest.start, Duration::from_millis(20));
        assert_eq!(guest.start_fails(), Some("broken"));
        assert!(guest.ignores_power_button() && !guest.ignores_unplug());
        let guest = said("then='crash' after-ms='5'");
        assert_eq!(guest.then(), Some((Duration::from_millis(5), Deed::Crash)));
    }

    #[test]
    fn what_makes_no_sense_makes_no_difference() {
        assert_eq!(said("start-ms='soon' then='fly' power-button='?'"), Behaviour::default());
        assert_eq!(said("save-ms='99999999999'").save_takes(), LONGEST);
        for record in ["", "{}", "{\"definition\":\"<\"}", "[]"] {
            assert_eq!(Behaviour::of(record), Behaviour::default(), "{record}");
        }
    }
}
