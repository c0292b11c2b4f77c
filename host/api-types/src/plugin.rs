//! Plugins and their versions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decimal, Time};

/// The kinds of plugin; a binding's slot names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Says where a message goes.
    Selector,
    /// Says whether a group sees a message.
    Filter,
    /// Names the key under which a message is the same as another.
    Dedup,
    /// Says when to try again.
    Retry,
    /// Says what became of a transaction.
    CheckBack,
    /// Accepts, changes or refuses at publish.
    Admit,
    /// Says which member owns which queue.
    Assign,
}

/// A plugin with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// Name, `builtin/…` for a built-in.
    pub name: String,
    /// Kind of its newest version.
    pub kind: Kind,
    /// Its newest version.
    pub latest: String,
    /// All versions, the newest first.
    pub versions: Vec<PluginVersion>,
}

/// One version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginVersion {
    /// Name of the plugin, `builtin/…` for a built-in.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// `sha256:` and 64 hex digits.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub digest: String,
    /// Kind.
    pub kind: Kind,
    /// Imports by name.
    pub imports: Vec<String>,
    /// Bytes of the component.
    pub size_bytes: Decimal,
    /// How long its compilation took.
    pub compile_ms: u32,
    /// What the inspection remarked.
    pub warnings: Vec<String>,
    /// When it was uploaded; null for a built-in and for a validation.
    pub created_at: Option<Time>,
}
