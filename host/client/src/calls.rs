//! One typed method for each call of the contract.

mod access;
mod cluster;
mod control;
mod delivery;
mod messages;
mod scheduled;
mod schedules;
mod transactions;

use std::time::Duration;

use crate::{Client, encode_component};

pub use messages::{ManyOptions, PublishOptions, StreamOptions};

/// Added to the wait that a long poll asks for.
const LONG_POLL_SLACK: Duration = Duration::from_secs(15);
/// Compiling a plugin may take long.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The calls of one tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    client: Client,
    path: String,
}

impl Client {
    /// The calls of the tenant of that name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Tenant {
        Tenant { client: self.clone(), path: format!("/v1/tenants/{}", encode_component(name)) }
    }
}

impl Tenant {
    /// The client below.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A path below the tenant, each segment encoded.
    #[must_use]
    pub fn path(&self, segments: &[&str]) -> String {
        segments.iter().fold(self.path.clone(), |path, segment| path + "/" + &encode_component(segment))
    }

    /// As [`Tenant::path`], for a plugin: the slash of `builtin/tags` parts two segments.
    fn plugin_path(&self, name: &str, rest: &[&str]) -> String {
        let segments: Vec<&str> =
            std::iter::once("plugins").chain(name.splitn(2, '/')).chain(rest.iter().copied()).collect();
        self.path(&segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientOptions;

    #[test]
    fn paths() {
        let tenant = Client::new("http://h", ClientOptions::default()).expect("a URL").tenant("default");
        assert_eq!(tenant.path(&["topics", "a/b c"]), "/v1/tenants/default/topics/a%2Fb%20c");
        assert_eq!(tenant.plugin_path("builtin/tags", &[]), "/v1/tenants/default/plugins/builtin/tags");
        assert_eq!(
            tenant.plugin_path("mine", &["versions", "1.0.0"]),
            "/v1/tenants/default/plugins/mine/versions/1.0.0"
        );
    }
}
