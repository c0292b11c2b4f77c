//! Tenants, topics, groups, plugins, bindings.

use bytes::Bytes;
use http::StatusCode;
use pointsman_api_types::List;
use pointsman_api_types::binding::{Binding, BindingInput, BindingStats, LogLine};
use pointsman_api_types::group::{Group, GroupInput};
use pointsman_api_types::node::{Health, Version};
use pointsman_api_types::plugin::{Plugin, PluginVersion};
use pointsman_api_types::tenant::{Tenant as TenantAnswer, TenantInput};
use pointsman_api_types::topic::{Queue, Topic, TopicInput};
use serde::de::DeserializeOwned;

use super::{Tenant, UPLOAD_TIMEOUT};
use crate::{Client, Error, Request, encode_component};

/// Items asked for in one page of a list.
const PAGE_ITEMS: u32 = 1_000;

impl Client {
    /// Release, commit and feature level of the server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn version(&self) -> Result<Version, Error> {
        self.send(Request::get("/version")).await?.json()
    }

    /// What a node says of its health; one that is not ready answers too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ready(&self) -> Result<Health, Error> {
        let answer = self.send(Request::get("/health/ready")).await?;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE
            && let Ok(health) = serde_json::from_slice(&answer.body)
        {
            return Ok(health);
        }
        answer.json()
    }

    /// Creates a tenant, or finds it as it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_tenant(&self, name: &str) -> Result<TenantAnswer, Error> {
        let path = format!("/v1/tenants/{}", encode_component(name));
        self.send(Request::put(path).json(&TenantInput::default())).await?.json()
    }

    /// All tenants.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tenants(&self) -> Result<Vec<TenantAnswer>, Error> {
        self.list("/v1/tenants").await
    }

    /// Reads every page of a list.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut query = format!("{mark}limit={PAGE_ITEMS}");
        loop {
            let page: List<T> = self.send(Request::get(format!("{path}{query}"))).await?.json()?;
            items.extend(page.items);
            match page.next_cursor {
                Some(cursor) => query = format!("{mark}limit={PAGE_ITEMS}&cursor={}", encode_component(&cursor)),
                None => return Ok(items),
            }
        }
    }
}

impl Tenant {
    /// Creates or replaces a topic.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_topic(&self, name: &str, topic: &TopicInput) -> Result<Topic, Error> {
        self.client.send(Request::put(self.path(&["topics", name])).json(topic)).await?.json()
    }

    /// Creates a topic; one that is there already is refused.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_topic(&self, name: &str, topic: &TopicInput) -> Result<Topic, Error> {
        let request = Request::put(self.path(&["topics", name])).json(topic).header("if-none-match", "*");
        self.client.send(request).await?.json()
    }

    /// A topic.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn topic(&self, name: &str) -> Result<Topic, Error> {
        self.client.send(Request::get(self.path(&["topics", name]))).await?.json()
    }

    /// All topics.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn topics(&self) -> Result<Vec<Topic>, Error> {
        self.client.list(&self.path(&["topics"])).await
    }

    /// The queues of a topic.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn queues(&self, topic: &str) -> Result<Vec<Queue>, Error> {
        self.client.list(&self.path(&["topics", topic, "queues"])).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.client.send(Request::delete(self.path(&["topics", name]))).await?.ok().map(drop)
    }

    /// Creates or replaces a group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_group(&self, name: &str, group: &GroupInput) -> Result<Group, Error> {
        self.client.send(Request::put(self.path(&["groups", name])).json(group)).await?.json()
    }

    /// Creates a group; one that is there already is refused.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_group(&self, name: &str, group: &GroupInput) -> Result<Group, Error> {
        let request = Request::put(self.path(&["groups", name])).json(group).header("if-none-match", "*");
        self.client.send(request).await?.json()
    }

    /// A group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group(&self, name: &str) -> Result<Group, Error> {
        self.client.send(Request::get(self.path(&["groups", name]))).await?.json()
    }

    /// All groups.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        self.client.list(&self.path(&["groups"])).await
    }

    /// Uploads a component as a version of a plugin.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upload_plugin(&self, name: &str, version: &str, component: Bytes) -> Result<PluginVersion, Error> {
        let path = self.plugin_path(name, &["versions", version]);
        let request = Request::put(path).body("application/wasm", component).timeout(UPLOAD_TIMEOUT);
        let timeout_ms = UPLOAD_TIMEOUT.as_millis().to_string();
        self.client.send(request.header("pm-timeout-ms", &timeout_ms)).await?.json()
    }

    /// A plugin with its versions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn plugin(&self, name: &str) -> Result<Plugin, Error> {
        self.client.send(Request::get(self.plugin_path(name, &[]))).await?.json()
    }

    /// The newest version of every plugin, the built-in ones too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn plugins(&self) -> Result<Vec<PluginVersion>, Error> {
        self.client.list(&self.path(&["plugins"])).await
    }

    /// Creates or replaces a binding.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_binding(&self, name: &str, binding: &BindingInput) -> Result<Binding, Error> {
        self.client.send(Request::put(self.path(&["bindings", name])).json(binding)).await?.json()
    }

    /// A binding.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn binding(&self, name: &str) -> Result<Binding, Error> {
        self.client.send(Request::get(self.binding_path(name, &[]))).await?.json()
    }

    /// All bindings.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bindings(&self) -> Result<Vec<Binding>, Error> {
        self.client.list(&self.path(&["bindings"])).await
    }

    /// Deletes a binding.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_binding(&self, name: &str) -> Result<(), Error> {
        self.client.send(Request::delete(self.binding_path(name, &[]))).await?.ok().map(drop)
    }

    /// What a binding's plugin did.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn binding_stats(&self, name: &str) -> Result<BindingStats, Error> {
        self.client.send(Request::get(self.binding_path(name, &["stats"]))).await?.json()
    }

    /// What a binding's plugin logged.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn binding_logs(&self, name: &str) -> Result<Vec<LogLine>, Error> {
        self.client.list(&self.binding_path(name, &["logs"])).await
    }

    /// The colon of `group:topic` is written as it is.
    fn binding_path(&self, name: &str, rest: &[&str]) -> String {
        let name = encode_component(name).replacen("%3A", ":", 1);
        let path = format!("{}/{name}", self.path(&["bindings"]));
        rest.iter().fold(path, |path, segment| path + "/" + segment)
    }
}
