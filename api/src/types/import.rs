//! Moving in from another libvirt.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Mistake;

/// All that another libvirt has defined on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Import {
    /// Where that host's files lie on this one; absolute.
    #[schema(example = "/")]
    pub root: String,
    pub documents: Vec<ImportDocument>,
}

/// One definition, and what its host keeps beside it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportDocument {
    pub kind: ImportKind,
    /// By its file's name.
    #[schema(example = "web")]
    pub name: String,
    /// Where it was read; it is said again in the answer.
    #[schema(example = "/etc/libvirt/qemu/web.xml")]
    pub file: String,
    pub xml: String,
    /// It starts with its host.
    #[serde(default)]
    pub autostart: bool,
    /// A domain runs under the other libvirt now.
    #[serde(default)]
    pub runs: bool,
    /// A domain has a saved state for its next start.
    #[serde(default)]
    pub managed_save: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<String>,
    /// Of a secret, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Without the secret.
impl std::fmt::Debug for ImportDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportDocument")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImportKind {
    Secret,
    Filter,
    Network,
    Pool,
    Domain,
}

/// What would become of each document, in the order in which they are taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportPlan {
    pub objects: Vec<ImportedObject>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedObject {
    pub kind: ImportKind,
    #[schema(example = "web")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    pub file: String,
    pub verdict: ImportVerdict,
    /// It will start with the host.
    pub autostart: bool,
    /// Of a refusal: why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What will be otherwise than it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What does not work yet, or stays behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Of a refusal: the document's mistakes; else what of it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Mistake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImportVerdict {
    AsItIs,
    Changed,
    /// It was taken over before, or is the same.
    Present,
    Refused,
}
