//! Landlock: no path and no port, whatever else should fail. It needs no privilege.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, RestrictionStatus,
    Ruleset, RulesetAttr as _, RulesetStatus, Scope,
};

/// The newest that is asked for; an older kernel does what it knows.
const NEWEST: ABI = ABI::V6;

pub(super) fn forbid_all() -> io::Result<String> {
    let status = restrict().map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {
            Ok("paths, ports and foreign processes are closed".to_owned())
        }
        RulesetStatus::PartiallyEnforced => Ok("in part: the host's kernel is older".to_owned()),
        RulesetStatus::NotEnforced => Err(io::Error::other("the host's kernel has no Landlock")),
    }
}

fn restrict() -> Result<RestrictionStatus, landlock::RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()
}
