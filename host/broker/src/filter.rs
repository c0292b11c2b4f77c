//! Filters as groups and streams write them: resolved to a plugin version and tried.

use pointsman_model::judge::{CallLimits, Kind, OnFailure};
use pointsman_model::limits;

use crate::broker::Home;
use crate::judging::{Resolved, Trial};
use crate::view::FilterSpec;
use crate::{Broker, Error};

/// The built-in that judges tag expressions.
const TAGS: &str = "builtin/tags";

/// A filter whose plugin has seen its config.
pub(crate) struct Filter {
    /// Name of the plugin.
    pub(crate) plugin: String,
    pub(crate) resolved: Resolved,
    /// The config as `init` gets it.
    pub(crate) config: Vec<u8>,
}

impl Filter {
    /// As it is tried, and as a stream binds it.
    pub(crate) fn trial<'a>(&'a self, name: &'a str) -> Trial<'a> {
        Trial {
            name,
            resolved: &self.resolved,
            config: &self.config,
            limits: CallLimits::default(),
            on_failure: OnFailure::Deliver,
        }
    }
}

impl Broker {
    /// Resolves a filter and lets its plugin see the config.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`], or [`Error::InvalidFilter`] with the plugin's words.
    pub(crate) async fn try_filter(
        &self,
        home: &Home,
        name: &str,
        pointer: &str,
        spec: &FilterSpec,
    ) -> Result<Filter, Error> {
        let invalid =
            |detail: String| Error::InvalidFilter { pointer: pointer.into(), position: position(&detail), detail };
        let (plugin, version, config) = match spec {
            FilterSpec::Tags(expression) => {
                (TAGS.to_owned(), None, serde_json::json!({ "expression": expression }).to_string().into_bytes())
            }
            FilterSpec::Plugin { plugin, version, config } => (plugin.clone(), version.as_deref(), config.to_vec()),
        };
        if config.len() > limits::PLUGIN_CONFIG_BYTES_MAX {
            return Err(invalid(format!("the config is longer than {} bytes", limits::PLUGIN_CONFIG_BYTES_MAX)));
        }
        let resolved = self.inner.bench.resolve(&*home.shard.port, home.tenant, &plugin, version)?;
        if resolved.kind != Kind::Filter {
            return Err(invalid(format!("`{plugin}` is a {}", resolved.kind)));
        }
        let filter = Filter { plugin, resolved, config };
        self.inner.bench.try_init(home.tenant, &filter.trial(name)).await.map_err(invalid)?;
        Ok(filter)
    }
}

/// The place in the expression, where the plugin's words name one: `… at 17 …`, `… position 17 …`.
fn position(words: &str) -> Option<u64> {
    let mut words = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if matches!(word, "at" | "position" | "character" | "offset")
            && let Some(position) = words.clone().next().and_then(|next| next.parse().ok())
        {
            return Some(position);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::position;

    fn check(words: &str, expected: Option<u64>) {
        assert_eq!(position(words), expected, "{words}");
    }

    #[test]
    fn a_position_is_found_in_the_words() {
        check("an operand is missing at 5", Some(5));
        check("position 12: an operand is missing", Some(12));
        check("at position 3", Some(3));
        check("no operand at all", None);
        check("7 operands", None);
    }
}
