//! The ssh keys that let people in as a user of the guest, through its agent.

use serde::Deserialize;
use serde_json::json;

use crate::agent::replies::{MOST_ROWS, Nothing};
use crate::agent::{Agent, Ask};
use crate::auth::{Access, Subject};
use crate::domain::DomainRef;
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// As libvirt's protocol has it.
const MOST_KEYS: usize = 2048;
const LONGEST_KEY: usize = 16 << 10;

/// Those of a user (virDomainAuthorizedSSHKeysGet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetSshKeys {
    pub domain: DomainRef,
    pub user: String,
}

impl Operation for GetSshKeys {
    type Output = Vec<String>;
    const NAME: &'static str = "domain.ssh-keys";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let ask = Ask::new("guest-ssh-get-authorized-keys").with(json!({ "username": self.user }));
        let Keys { keys } = agent.ask(ask).await?;
        Ok(keys.iter().take(MOST_ROWS).map(|key| line(key)).collect())
    }
}

/// The guest's word on its way to people.
fn line(key: &str) -> String {
    let show = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    key.chars().take(LONGEST_KEY).map(show).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshKeyChange {
    /// They take the place of all that are there.
    Replace,
    Append,
    Remove,
}

/// Change them (virDomainAuthorizedSSHKeysSet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSshKeys {
    pub domain: DomainRef,
    pub user: String,
    pub keys: Vec<String>,
    pub change: SshKeyChange,
}

impl Operation for SetSshKeys {
    type Output = ();
    const NAME: &'static str = "domain.set-ssh-keys";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let is_line = |key: &String| key.len() <= LONGEST_KEY && !key.contains(['\n', '\r']);
        if self.keys.len() > MOST_KEYS || !self.keys.iter().all(is_line) {
            let text = format!(
                "ssh keys are up to {MOST_KEYS} lines of up to {LONGEST_KEY} bytes each, as in \
                 authorized_keys"
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let (user, keys) = (self.user, self.keys);
        let ask = match self.change {
            SshKeyChange::Remove => Ask::new("guest-ssh-remove-authorized-keys")
                .with(json!({ "username": user, "keys": keys })),
            SshKeyChange::Replace | SshKeyChange::Append => {
                let reset = self.change == SshKeyChange::Replace;
                Ask::new("guest-ssh-add-authorized-keys")
                    .with(json!({ "username": user, "keys": keys, "reset": reset }))
            }
        };
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let Nothing {} = agent.ask(ask).await?;
        Ok(())
    }
}
