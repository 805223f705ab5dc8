//! [`Users`]: who may come in by a password, in libvirt's protocol.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use super::scram::{Exchange, First, ITERATIONS, Keys};
use super::{Role, Scope, ScramError, tokens};
use crate::error::{Code, Error};
use crate::store::{Contents, Store, StoredUser, Vfs};

/// More than anybody looks after.
const MOST: usize = 1000;
const SALT: usize = 16;
const NONCE: usize = 18;
const LONGEST_PASSWORD: usize = 256;

/// A user as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    pub name: String,
    pub role: Role,
    /// The domains that it is confined to; none: it is not.
    pub domains: Option<Vec<String>>,
    /// When it was made, or its password set.
    pub changed: Timestamp,
}

/// Who proved to know a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub role: Role,
    pub scope: Option<Scope>,
    /// This user with this password: ends when either changes.
    pub login: (Uuid, u64),
}

/// What a user is to be.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: String,
    pub role: Role,
    pub domains: Option<Vec<String>>,
    pub password: String,
}

pub(crate) struct Users {
    store: Store<StoredUser>,
    table: Mutex<HashMap<String, StoredUser>>,
    /// Held by the one thread that changes what is stored.
    changing: Mutex<()>,
    changed: watch::Sender<()>,
    /// Salts of users that there are not come from it: nobody learns who there is.
    mask: [u8; 32],
}

/// Half of a login: what was asked of a client, who answers next.
pub struct Login {
    exchange: Exchange,
    /// None: there is no such user, and no answer is right.
    user: Option<User>,
}

impl Login {
    /// Who it is, and what to tell it.
    ///
    /// # Errors
    /// When it does not know the password.
    pub fn finish(self, message: &[u8]) -> Result<(User, Vec<u8>), ScramError> {
        let answer = self.exchange.finish(message)?;
        let user = self.user.ok_or(ScramError::Wrong)?;
        Ok((user, answer))
    }
}

impl Users {
    /// With what could not be read and what does not work, as [`tokens`] has it.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
    ) -> (Self, Vec<(String, String)>, Vec<String>) {
        let (store, contents) = Store::open(vfs, dir);
        let Contents { objects, quarantined, mut degraded } = contents;
        let named = |user: StoredUser| (user.name.clone(), user);
        let table = Mutex::new(objects.into_iter().map(named).collect());
        let mut mask = [0; 32];
        if let Err(error) = random(&mut mask) {
            degraded.push(error.chain());
        }
        let changed = watch::Sender::new(());
        let users = Self { store, table, changing: Mutex::default(), changed, mask };
        (users, quarantined, degraded)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, StoredUser>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All users by name.
    pub(crate) fn views(&self) -> Vec<UserView> {
        let view = |user: &StoredUser| UserView {
            name: user.name.clone(),
            role: user.role,
            domains: user.domains.clone(),
            changed: user.changed,
        };
        let mut views: Vec<_> = self.table().values().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Blocks. Make a user, or change all of one that there is.
    pub(crate) fn set(&self, wanted: Wanted, now: Timestamp) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        check(&wanted)?;
        let before = {
            let table = self.table();
            let before = table.get(&wanted.name).map(|user| (user.uuid, user.generation));
            if before.is_none() && table.len() >= MOST {
                let text = format!("there are {MOST} users already; remove some first");
                return Err(Error::new(Code::InvalidState, text));
            }
            before
        };
        let mut salt = [0; SALT];
        random(&mut salt)?;
        let keys = Keys::of(&wanted.password, salt.to_vec(), ITERATIONS);
        let (uuid, generation) = before.unwrap_or_else(|| (Uuid::new_v4(), 0));
        let stored = StoredUser {
            uuid,
            name: wanted.name,
            generation: generation + 1,
            role: wanted.role,
            domains: wanted.domains,
            changed: now,
            salt: STANDARD.encode(&keys.salt),
            iterations: keys.iterations,
            stored_key: STANDARD.encode(keys.stored),
            server_key: STANDARD.encode(keys.server),
        };
        self.store.put(&stored)?;
        self.table().insert(stored.name.clone(), stored);
        self.changed.send_replace(());
        Ok(())
    }

    /// Blocks. It lets nobody in from the moment that this begins.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(user) = self.table().remove(name) else {
            return Err(Error::new(Code::NotFound, format!("there is no user {name:?}")));
        };
        let uuid = user.uuid;
        self.store.remove(uuid).inspect_err(|_| {
            // It is stored still, and would be back after a restart: it is there.
            self.table().insert(user.name.clone(), user);
        })?;
        self.changed.send_replace(());
        Ok(())
    }

    /// What to ask a client whose first message this is. Whether there is such a user is told at the
    /// end, in the words for a wrong password.
    pub(crate) fn login(&self, message: &[u8]) -> Result<(Login, Vec<u8>), ScramError> {
        let first = First::read(message)?;
        let known =
            self.table().get(&first.user).and_then(|user| Some((user.clone(), keys(user)?)));
        let (user, keys) = match known {
            Some((user, keys)) => (Some(as_user(&user)), keys),
            None => (None, self.nobody(&first.user)),
        };
        let mut nonce = [0; NONCE];
        random(&mut nonce).map_err(|_| ScramError::Wrong)?;
        let nonce = STANDARD_NO_PAD.encode(nonce);
        let (exchange, answer) = Exchange::begin(first, keys, &nonce);
        Ok((Login { exchange, user }, answer))
    }

    /// The same for the same name, and no password fits.
    fn nobody(&self, name: &str) -> Keys {
        let digest = |what: &[u8]| -> [u8; 32] {
            Sha256::new()
                .chain_update(self.mask)
                .chain_update(what)
                .chain_update(name)
                .finalize()
                .into()
        };
        let salt = digest(b"salt")[..SALT].to_vec();
        Keys { salt, iterations: ITERATIONS, stored: digest(b"stored"), server: digest(b"server") }
    }

    /// Returns when this login lets nobody in any more.
    pub(crate) async fn ended(&self, (uuid, generation): (Uuid, u64)) {
        let mut changed = self.changed.subscribe();
        loop {
            let is_there = |user: &StoredUser| (user.uuid, user.generation) == (uuid, generation);
            if !self.table().values().any(is_there) || changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn as_user(user: &StoredUser) -> User {
    User {
        name: user.name.clone(),
        role: user.role,
        scope: user.domains.as_ref().map(Scope::new),
        login: (user.uuid, user.generation),
    }
}

/// None of a user that was damaged: no password is right.
fn keys(user: &StoredUser) -> Option<Keys> {
    let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
    Some(Keys {
        salt: STANDARD.decode(&user.salt).ok()?,
        iterations: user.iterations,
        stored: key(&user.stored_key)?,
        server: key(&user.server_key)?,
    })
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    let failed = || Error::new(Code::HostFailure, "the kernel gives no random numbers");
    // Up to 256 bytes come in one call (getrandom(2)).
    match getrandom(&mut *bytes, GetRandomFlags::empty()) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(failed()),
        Err(error) => Err(failed().with_source(std::io::Error::from(error))),
    }
}

fn check(wanted: &Wanted) -> Result<(), Error> {
    tokens::check_holder("user", &wanted.name, wanted.domains.as_deref())?;
    // Other characters would have to be prepared (RFC 4013) alike at both ends.
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
    let password = &wanted.password;
    if password.is_empty() || password.len() > LONGEST_PASSWORD || !password.chars().all(is_plain) {
        let text = format!("a password has 1 to {LONGEST_PASSWORD} printable ASCII characters");
        return Err(Error::new(Code::InvalidArgument, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Disk;

    fn open(dir: &Path) -> Users {
        let (users, quarantined, degraded) = Users::open(Arc::new(Disk), dir);
        assert!(degraded.is_empty() && quarantined.is_empty(), "{quarantined:?} {degraded:?}");
        users
    }

    fn wanted(name: &str, password: &str) -> Wanted {
        let (name, password) = (name.to_owned(), password.to_owned());
        Wanted { name, role: Role::Operator, domains: Some(vec!["web".to_owned()]), password }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// As far as a client gets that knows a name.
    fn asked(users: &Users, name: &str) -> String {
        let (_, answer) = users.login(format!("n,,n={name},r=x").as_bytes()).unwrap();
        String::from_utf8(answer).unwrap().split_once(",s=").unwrap().1.to_owned()
    }

    #[test]
    fn users_are_kept_without_their_passwords() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).set(wanted("alice", "a secret"), NOW).unwrap();
        for entry in std::fs::read_dir(dir.path().join("users")).unwrap() {
            assert!(!std::fs::read_to_string(entry.unwrap().path()).unwrap().contains("secret"));
        }
        let users = open(dir.path());
        let views = users.views();
        assert_eq!(
            (views.len(), views[0].name.as_str(), views[0].role),
            (1, "alice", Role::Operator)
        );
        users.remove("alice").unwrap();
        assert_eq!(users.remove("alice").unwrap_err().code, Code::NotFound);
        assert!(open(dir.path()).views().is_empty());
    }

    #[test]
    fn who_asks_does_not_learn_which_users_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let users = open(dir.path());
        users.set(wanted("alice", "x"), NOW).unwrap();
        let (alice, nobody) = (asked(&users, "alice"), asked(&users, "nobody"));
        assert_eq!(alice.len(), nobody.len());
        assert_eq!(asked(&users, "nobody"), nobody);
        assert_ne!(asked(&users, "nobody2"), nobody);
    }

    #[tokio::test]
    async fn a_login_ends_when_the_password_changes_or_the_user_goes() {
        let dir = tempfile::tempdir().unwrap();
        let users = open(dir.path());
        users.set(wanted("alice", "x"), NOW).unwrap();
        let login = |users: &Users| users.login(b"n,,n=alice,r=x").unwrap().0.user.unwrap().login;
        let first = login(&users);
        let wait = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, users.ended(first)).await.is_err());
        users.set(wanted("alice", "y"), NOW).unwrap();
        users.ended(first).await;
        let second = login(&users);
        users.remove("alice").unwrap();
        users.ended(second).await;
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let users = open(dir.path());
        for (name, password) in [("", "x"), ("a,b", "x"), ("a", ""), ("a", "ä"), ("a", "\n")] {
            let error = users.set(wanted(name, password), NOW).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{name} {password}");
        }
    }
}
