//! Secrets: passwords and keys that definitions name and do not hold.

use xml::SecretDef;

use crate::auth::{Access, Defines, Subject};
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::manager::{Context, Operation};
use crate::secrets::{SecretRef, SecretView};
use crate::translate::invalid;

/// Store the definition of a secret (virSecretDefineXML).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineSecret {
    /// libvirt secret XML.
    pub xml: String,
}

impl Operation for DefineSecret {
    type Output = SecretView;
    const NAME: &'static str = "secret.define";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Definition(Defines::Secret, &self.xml)
    }

    async fn run(self, cx: &Context) -> Result<SecretView, Error> {
        let def = SecretDef::parse(&self.xml).map_err(invalid)?.value;
        let secrets = cx.secrets.clone();
        blocking(move || secrets.define(def)).await
    }
}

/// What is known of a secret, without it (virSecretLookupByUUID).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeSecret {
    pub secret: SecretRef,
}

impl Operation for DescribeSecret {
    type Output = SecretView;
    const NAME: &'static str = "secret.describe";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.secret)
    }

    async fn run(self, cx: &Context) -> Result<SecretView, Error> {
        cx.secrets.view(&self.secret)
    }
}

/// Its definition (virSecretGetXMLDesc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSecretXml {
    pub secret: SecretRef,
}

impl Operation for DumpSecretXml {
    type Output = String;
    const NAME: &'static str = "secret.dump-xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.secret)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        cx.secrets.xml(&self.secret)
    }
}

/// The secret itself (virSecretGetValue). A private one is told to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetSecretValue {
    pub secret: SecretRef,
}

impl Operation for GetSecretValue {
    type Output = Vec<u8>;
    const NAME: &'static str = "secret.get-value";
    // As a definition with its passwords.
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.secret)
    }

    async fn run(self, cx: &Context) -> Result<Vec<u8>, Error> {
        cx.secrets.value(&self.secret)
    }
}

/// All secrets by UUID, without their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSecrets;

impl Operation for ListSecrets {
    type Output = Vec<SecretView>;
    const NAME: &'static str = "secret.list";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<SecretView>, Error> {
        Ok(cx.secrets.views())
    }
}

/// Tell a secret (virSecretSetValue).
#[derive(Clone, PartialEq, Eq)]
pub struct SetSecretValue {
    pub secret: SecretRef,
    pub value: Vec<u8>,
}

impl Operation for SetSecretValue {
    type Output = ();
    const NAME: &'static str = "secret.set-value";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.secret)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let secrets = cx.secrets.clone();
        blocking(move || secrets.set_value(&self.secret, self.value)).await
    }
}

/// Forget a secret and its value (virSecretUndefine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndefineSecret {
    pub secret: SecretRef,
}

impl Operation for UndefineSecret {
    type Output = ();
    const NAME: &'static str = "secret.undefine";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.secret)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let secrets = cx.secrets.clone();
        blocking(move || secrets.undefine(&self.secret)).await
    }
}

fn about(secret: &SecretRef) -> Subject<'_> {
    Subject::Other("secret", secret.to_string().into())
}
