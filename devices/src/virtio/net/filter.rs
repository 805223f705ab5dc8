//! [`Filter`]: which received packets the driver wants (virtio 1.2 §5.1.6.5.1 and .2).

use serde::{Deserialize, Serialize};

pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const MULTICAST: u8 = 1;

/// Longest table of either kind; a longer one is taken as "all of them".
pub(super) const TABLE: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filter {
    pub(super) mac: Mac,
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) all_unicast: bool,
    pub(super) no_multicast: bool,
    pub(super) no_unicast: bool,
    pub(super) no_broadcast: bool,
    /// `None`: the table was too long to keep.
    pub(super) unicast: Option<Vec<Mac>>,
    pub(super) multicast: Option<Vec<Mac>>,
}

impl Filter {
    /// Everything passes until the driver says otherwise, as drivers without filtering expect.
    pub(super) fn new(mac: Mac) -> Self {
        Self {
            mac,
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Some(Vec::new()),
            multicast: Some(Vec::new()),
        }
    }

    /// Whether a packet to `destination` passes.
    pub(super) fn passes(&self, destination: Mac) -> bool {
        let listed = |table: &Option<Vec<Mac>>| {
            table.as_ref().is_none_or(|table| table.contains(&destination))
        };
        if self.promiscuous {
            true
        } else if destination == BROADCAST {
            !self.no_broadcast
        } else if destination[0] & MULTICAST != 0 {
            !self.no_multicast && (self.all_multicast || listed(&self.multicast))
        } else {
            !self.no_unicast
                && (self.all_unicast || destination == self.mac || listed(&self.unicast))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [0x52, 0x54, 0, 0, 0, 1];
    const THEIRS: Mac = [0x52, 0x54, 0, 0, 0, 2];
    const GROUP: Mac = [0x33, 0x33, 0, 0, 0, 1];

    fn filter() -> Filter {
        Filter { promiscuous: false, ..Filter::new(OURS) }
    }

    #[test]
    fn a_fresh_filter_passes_everything() {
        assert!([OURS, THEIRS, GROUP, BROADCAST].iter().all(|mac| Filter::new(OURS).passes(*mac)));
    }

    #[test]
    fn without_promiscuous_mode_only_ours_and_what_is_listed_passes() {
        let mut filter = filter();
        let verdict =
            |filter: &Filter| [OURS, THEIRS, GROUP, BROADCAST].map(|it| filter.passes(it));
        assert_eq!(verdict(&filter), [true, false, false, true]);
        filter.multicast = Some(vec![GROUP]);
        filter.unicast = None;
        assert_eq!(verdict(&filter), [true, true, true, true]);
        filter.no_broadcast = true;
        filter.no_multicast = true;
        filter.no_unicast = true;
        assert_eq!(verdict(&filter), [false; 4]);
    }
}
