//! Users of the host, read from passwd(5) itself: a static binary has no name services.

use std::path::Path;

pub const PASSWD: &str = "/etc/passwd";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The user with this name, or with this number.
#[must_use]
pub fn find(name: &str, passwd: &Path) -> Option<User> {
    let users = std::fs::read_to_string(passwd).unwrap_or_default();
    let mut users = users.lines().filter_map(entry);
    let found = users.find(|(known, user)| *known == name || name.parse() == Ok(user.uid));
    found.map(|(_, user)| user)
}

/// A line: name, password, user, group, and what does not matter here.
fn entry(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, User { uid, gid }))
}
