//! [`Tokens`]: who may come in from elsewhere by a secret.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Caller, Role, Scope, Via, token};
use crate::error::{Code, Error};
use crate::store::{Contents, Store, StoredToken, Vfs};

/// More than anybody looks after.
const MOST: usize = 1000;
const MOST_DOMAINS: usize = 100;
const LONGEST_NAME: usize = 64;
/// How often somebody looks whether a token has expired.
const LOOK: Duration = Duration::from_secs(60);
/// libvirt's bound on names of domains is a file name's.
const LONGEST_DOMAIN: usize = 255;

/// A token as its administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    pub id: Uuid,
    pub name: String,
    pub role: Role,
    /// The domains that it is confined to; none: it is not.
    pub domains: Option<Vec<String>>,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
}

/// A token that was made just now: nobody ever sees its secret again.
#[derive(Clone)]
pub struct NewToken {
    pub token: TokenView,
    pub secret: String,
}

/// Who came by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub caller: Caller,
    /// Its id.
    pub token: Uuid,
}

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: String,
    pub role: Role,
    pub domains: Option<Vec<String>>,
    pub lifetime: Option<Duration>,
}

pub(crate) struct Tokens {
    store: Store<StoredToken>,
    table: Mutex<HashMap<Uuid, StoredToken>>,
    /// Held by the one thread that changes what is stored.
    changing: Mutex<()>,
    /// Tells that a token was revoked.
    revoked: watch::Sender<()>,
}

impl Tokens {
    /// With what could not be read and what does not work. A token that cannot be read lets nobody
    /// in.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
    ) -> (Self, Vec<(String, String)>, Vec<String>) {
        let (store, contents) = Store::open(vfs, dir);
        let Contents { objects, quarantined, degraded } = contents;
        let table = objects.into_iter().map(|token: StoredToken| (token.uuid, token)).collect();
        let (table, changing, revoked) =
            (Mutex::new(table), Mutex::default(), watch::Sender::new(()));
        let tokens = Self { store, table, changing, revoked };
        (tokens, quarantined, degraded)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Uuid, StoredToken>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All tokens by name.
    pub(crate) fn views(&self) -> Vec<TokenView> {
        let mut views: Vec<_> = self.table().values().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Blocks. It lets somebody in once it is stored.
    pub(crate) fn create(&self, wanted: Wanted, now: Timestamp) -> Result<NewToken, Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        check_holder("token", &wanted.name, wanted.domains.as_deref())?;
        {
            let table = self.table();
            if table.values().any(|token| token.name == wanted.name) {
                let text = format!("there is a token {:?} already; revoke it first", wanted.name);
                return Err(Error::new(Code::Exists, text));
            }
            if table.len() >= MOST {
                let text = format!("there are {MOST} tokens already; revoke some first");
                return Err(Error::new(Code::InvalidState, text));
            }
        }
        let uuid = Uuid::new_v4();
        let secret = token::secret(uuid).map_err(|error| {
            Error::new(Code::HostFailure, "the kernel gives no random numbers").with_source(error)
        })?;
        let stored = StoredToken {
            uuid,
            name: wanted.name,
            generation: 1,
            role: wanted.role,
            domains: wanted.domains,
            created: now,
            expires: wanted.lifetime.map(|lifetime| end(now, lifetime)).transpose()?,
            digest: token::digest(&secret),
        };
        self.store.put(&stored)?;
        let token = view(&stored);
        self.table().insert(uuid, stored);
        Ok(NewToken { token, secret })
    }

    /// Blocks. By name, else by id. It lets nobody in from the moment that this begins.
    pub(crate) fn revoke(&self, word: &str) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Uuid::try_parse(word).ok();
        let found = {
            let table = self.table();
            let named = table.values().find(|token| token.name == word).map(|token| token.uuid);
            named.or(id.filter(|id| table.contains_key(id)))
        };
        let Some(uuid) = found else {
            return Err(Error::new(Code::NotFound, format!("there is no token {word:?}")));
        };
        let token = self.table().remove(&uuid);
        self.store.remove(uuid).inspect_err(|_| {
            // It is stored still, and would be back after a restart: it is there.
            self.table().extend(token.map(|token| (uuid, token)));
        })?;
        self.revoked.send_replace(());
        Ok(())
    }

    /// Who has this secret; none if nobody has, or no longer.
    pub(crate) fn bearer(&self, secret: &str, from: &str, now: Timestamp) -> Option<Bearer> {
        let digest = token::digest(secret);
        let table = self.table();
        let stored = table.get(&token::id_of(secret)?)?;
        if !token::is_same(&stored.digest, &digest) || stored.expires.is_some_and(|end| end <= now)
        {
            return None;
        }
        let caller = Caller::new(format!("{} ({from})", stored.name), stored.role.access());
        let caller = caller.via(Via::Token).scoped(stored.domains.as_ref().map(Scope::new));
        Some(Bearer { caller, token: stored.uuid })
    }

    /// Returns when the token of this id was revoked or has expired.
    pub(crate) async fn ended(&self, id: Uuid) {
        let mut revoked = self.revoked.subscribe();
        loop {
            let Some(expires) = self.table().get(&id).map(|token| token.expires) else { return };
            let left = expires.map(|end| end.duration_since(Timestamp::now()));
            if left.is_some_and(|left| !left.is_positive()) {
                return;
            }
            // Not longer than timers go, nor than a clock that is set anew goes unnoticed.
            let left =
                left.and_then(|left| Duration::try_from(left).ok()).unwrap_or(LOOK).min(LOOK);
            let _ = tokio::time::timeout(left, revoked.changed()).await;
        }
    }
}

fn view(token: &StoredToken) -> TokenView {
    TokenView {
        id: token.uuid,
        name: token.name.clone(),
        role: token.role,
        domains: token.domains.clone(),
        created: token.created,
        expires: token.expires,
    }
}

/// What a token or a user is called, and what it is confined to.
pub(super) fn check_holder(
    kind: &str,
    name: &str,
    domains: Option<&[String]>,
) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::new(Code::InvalidArgument, text));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        return refuse(format!(
            "the name of a {kind} has 1 to {LONGEST_NAME} letters, digits and -_.@, and {:?} has not",
            crate::domain::clean(name)
        ));
    }
    let Some(domains) = domains else { return Ok(()) };
    if !(1..=MOST_DOMAINS).contains(&domains.len()) {
        return refuse(format!(
            "a {kind} is confined to 1 to {MOST_DOMAINS} domains; leave them out to confine it to none"
        ));
    }
    if domains.iter().any(|name| name.is_empty() || name.len() > LONGEST_DOMAIN) {
        return refuse(
            "the name of a domain is neither empty nor longer than 255 bytes".to_owned(),
        );
    }
    Ok(())
}

fn end(now: Timestamp, lifetime: Duration) -> Result<Timestamp, Error> {
    let end = now.checked_add(lifetime).ok().filter(|end| *end > now);
    end.ok_or_else(|| {
        Error::new(Code::InvalidArgument, "a token expires later than now, before the year 10000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Access;
    use crate::store::Disk;

    const DAY: Duration = Duration::from_secs(86_400);

    fn open(dir: &Path) -> Tokens {
        let (tokens, quarantined, degraded) = Tokens::open(Arc::new(Disk), dir);
        assert!(degraded.is_empty(), "{quarantined:?} {degraded:?}");
        tokens
    }

    fn wanted(name: &str, role: Role) -> Wanted {
        Wanted { name: name.to_owned(), role, domains: None, lifetime: None }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn a_secret_lets_its_holder_in_also_after_a_restart_until_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = open(dir.path());
        let new = tokens.create(wanted("ci", Role::Operator), now()).unwrap();
        let tokens = open(dir.path());
        let bearer = tokens.bearer(&new.secret, "203.0.113.5", now()).unwrap();
        assert_eq!(bearer.token, new.token.id);
        let caller = bearer.caller;
        assert_eq!(caller.access, Access::Control);
        assert_eq!((caller.name.as_str(), caller.via), ("ci (203.0.113.5)", Via::Token));
        assert_eq!(caller.scope, None);
        tokens.revoke("ci").unwrap();
        assert_eq!(tokens.bearer(&new.secret, "", now()), None);
        assert_eq!(open(dir.path()).bearer(&new.secret, "", now()), None);
        assert_eq!(tokens.revoke("ci").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn the_secret_is_stored_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let new = open(dir.path()).create(wanted("ci", Role::Reader), now()).unwrap();
        let random = new.secret.rsplit('_').next().unwrap();
        for entry in std::fs::read_dir(dir.path().join("tokens")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains(random), "{text}");
        }
    }

    #[test]
    fn a_wrong_secret_of_a_token_that_there_is_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = open(dir.path());
        let new = tokens.create(wanted("ci", Role::Admin), now()).unwrap();
        let other = tokens.create(wanted("other", Role::Admin), now()).unwrap();
        let mut wrong = new.secret.clone();
        let last = if wrong.pop() == Some('0') { '1' } else { '0' };
        wrong.push(last);
        let swapped = new
            .secret
            .replace(&new.token.id.simple().to_string(), &other.token.id.simple().to_string());
        for secret in [wrong, swapped, format!("{} ", new.secret), String::new()] {
            assert_eq!(tokens.bearer(&secret, "", now()), None, "{secret}");
        }
    }

    #[test]
    fn a_token_ends_when_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = open(dir.path());
        let lifetime = Some(DAY);
        let new = tokens.create(Wanted { lifetime, ..wanted("ci", Role::Reader) }, now()).unwrap();
        let almost = now() + DAY - Duration::from_secs(1);
        assert!(tokens.bearer(&new.secret, "", almost).is_some());
        assert_eq!(tokens.bearer(&new.secret, "", now() + DAY), None);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = open(dir.path());
        let long = "x".repeat(LONGEST_NAME + 1);
        for name in ["", "a b", "a\n", "ä", &long] {
            let error = tokens.create(wanted(name, Role::Reader), now()).err().unwrap();
            assert_eq!(error.code, Code::InvalidArgument, "{name}");
        }
        for domains in [vec![], vec![String::new()], vec!["x".to_owned(); MOST_DOMAINS + 1]] {
            let wanted = Wanted { domains: Some(domains), ..wanted("ci", Role::Reader) };
            assert_eq!(tokens.create(wanted, now()).err().unwrap().code, Code::InvalidArgument);
        }
        for lifetime in [Duration::ZERO, Duration::MAX] {
            let wanted = Wanted { lifetime: Some(lifetime), ..wanted("ci", Role::Reader) };
            assert_eq!(tokens.create(wanted, now()).err().unwrap().code, Code::InvalidArgument);
        }
        tokens.create(wanted("ci", Role::Reader), now()).unwrap();
        let again = tokens.create(wanted("ci", Role::Reader), now()).err().unwrap();
        assert_eq!(again.code, Code::Exists);
    }

    #[test]
    fn a_damaged_token_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let new = open(dir.path()).create(wanted("ci", Role::Reader), now()).unwrap();
        let path = dir.path().join("tokens").join(format!("{}.token", new.token.id));
        let text = std::fs::read_to_string(&path).unwrap().replace("reader", "admin");
        std::fs::write(&path, text).unwrap();
        let (tokens, quarantined, _) = Tokens::open(Arc::new(Disk), dir.path());
        assert_eq!(quarantined.len(), 1);
        assert_eq!(tokens.bearer(&new.secret, "", now()), None);
    }
}
