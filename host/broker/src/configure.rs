//! Configuration: tenants, topics, groups, bindings and plugin versions.

use bytes::Bytes;
use pointsman_model::Timestamp;
use pointsman_state_machine::command::TopicConfig;
use pointsman_state_machine::state::{Binding, Group, Tenant, Topic};

use crate::ports::{JudgeStats, LogLine};
use crate::view::{
    BindingSettings, GroupSettings, Page, PageRequest, PluginVersionView, Precondition, QueueView, Written,
};
use crate::{Broker, Call, Error};

impl Broker {
    /// Creates a tenant, or answers the one that is there.
    ///
    /// # Errors
    /// Bad or reserved name, failed precondition, failed write.
    pub async fn put_tenant(&self, _call: &Call, _name: &str, _expect: Precondition) -> Result<Written<Tenant>, Error> {
        Err(Error::NoLeader)
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`].
    pub async fn get_tenant(&self, _call: &Call, _name: &str) -> Result<Tenant, Error> {
        Err(Error::NoLeader)
    }

    /// The tenants by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_tenants(&self, _call: &Call, _page: &PageRequest) -> Result<Page<Tenant>, Error> {
        Err(Error::NoLeader)
    }

    /// Creates or replaces a topic; `expect` may hold the revision a patch was computed from.
    ///
    /// # Errors
    /// A bad name or setting, a failed precondition, a failed write.
    pub async fn put_topic(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _config: TopicConfig,
        _expect: Precondition,
    ) -> Result<Written<Topic>, Error> {
        Err(Error::NoLeader)
    }

    /// One topic.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub async fn get_topic(&self, _call: &Call, _tenant: &str, _name: &str) -> Result<Topic, Error> {
        Err(Error::NoLeader)
    }

    /// The topics of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_topics(&self, _call: &Call, _tenant: &str, _page: &PageRequest) -> Result<Page<Topic>, Error> {
        Err(Error::NoLeader)
    }

    /// Deletes a topic that nothing uses.
    ///
    /// # Errors
    /// [`Error::InUse`], a failed precondition, a failed write.
    pub async fn delete_topic(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _expect: Precondition,
    ) -> Result<(), Error> {
        Err(Error::NoLeader)
    }

    /// The queues of a topic.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub async fn topic_queues(&self, _call: &Call, _tenant: &str, _name: &str) -> Result<Vec<QueueView>, Error> {
        Err(Error::NoLeader)
    }

    /// First offset stored at or after a time, one a queue; the end if there is none.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], a failed read.
    pub async fn topic_offsets(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _time: Timestamp,
    ) -> Result<Vec<u64>, Error> {
        Err(Error::NoLeader)
    }

    /// Creates or replaces a group. Filters are tried before anything is written.
    ///
    /// # Errors
    /// A bad name, setting or filter, an unknown topic or plugin, a failed precondition, a failed write.
    pub async fn put_group(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _settings: GroupSettings,
        _expect: Precondition,
    ) -> Result<Written<Group>, Error> {
        Err(Error::NoLeader)
    }

    /// One group.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`].
    pub async fn get_group(&self, _call: &Call, _tenant: &str, _name: &str) -> Result<Group, Error> {
        Err(Error::NoLeader)
    }

    /// The groups of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_groups(&self, _call: &Call, _tenant: &str, _page: &PageRequest) -> Result<Page<Group>, Error> {
        Err(Error::NoLeader)
    }

    /// Deletes a group with its bindings, cursors and retry set.
    ///
    /// # Errors
    /// A failed precondition, a failed write.
    pub async fn delete_group(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _expect: Precondition,
    ) -> Result<(), Error> {
        Err(Error::NoLeader)
    }

    /// Creates or replaces a binding; its config is tried first.
    ///
    /// # Errors
    /// A bad name or setting, an unknown plugin or target, a config that `init` refuses, a taken place.
    pub async fn put_binding(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _settings: BindingSettings,
        _expect: Precondition,
    ) -> Result<Written<Binding>, Error> {
        Err(Error::NoLeader)
    }

    /// One binding; `{group}:{topic}` for a filter written in a group.
    ///
    /// # Errors
    /// [`Error::BindingNotFound`].
    pub async fn get_binding(&self, _call: &Call, _tenant: &str, _name: &str) -> Result<Binding, Error> {
        Err(Error::NoLeader)
    }

    /// The bindings of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_bindings(
        &self,
        _call: &Call,
        _tenant: &str,
        _page: &PageRequest,
    ) -> Result<Page<Binding>, Error> {
        Err(Error::NoLeader)
    }

    /// Deletes a binding.
    ///
    /// # Errors
    /// [`Error::InUse`] for a filter written in a group, a failed precondition, a failed write.
    pub async fn delete_binding(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _expect: Precondition,
    ) -> Result<(), Error> {
        Err(Error::NoLeader)
    }

    /// What a binding's plugin did on this node.
    ///
    /// # Errors
    /// [`Error::BindingNotFound`].
    pub async fn binding_stats(&self, _call: &Call, _tenant: &str, _name: &str) -> Result<JudgeStats, Error> {
        Err(Error::NoLeader)
    }

    /// The last log lines of a binding's plugin on this node.
    ///
    /// # Errors
    /// [`Error::BindingNotFound`].
    pub async fn binding_logs(&self, _call: &Call, _tenant: &str, _name: &str) -> Result<Vec<LogLine>, Error> {
        Err(Error::NoLeader)
    }

    /// Uploads a version of a plugin; with `validate_only` it is inspected and not stored.
    ///
    /// # Errors
    /// [`Error::PluginInvalid`], [`Error::PluginTooLarge`], [`Error::AlreadyExists`] with other bytes.
    pub async fn put_plugin(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _version: &str,
        _component: Bytes,
        _validate_only: bool,
    ) -> Result<Written<PluginVersionView>, Error> {
        Err(Error::NoLeader)
    }

    /// One version of a plugin; `builtin/…` for a built-in.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`].
    pub async fn get_plugin_version(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _version: &str,
    ) -> Result<PluginVersionView, Error> {
        Err(Error::NoLeader)
    }

    /// All versions of one plugin, the oldest first.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`].
    pub async fn get_plugin(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
    ) -> Result<Vec<PluginVersionView>, Error> {
        Err(Error::NoLeader)
    }

    /// All versions of all plugins by name, built-ins included.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_plugins(
        &self,
        _call: &Call,
        _tenant: &str,
        _page: &PageRequest,
    ) -> Result<Page<PluginVersionView>, Error> {
        Err(Error::NoLeader)
    }

    /// The bytes of a component.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`], a failed read.
    pub async fn plugin_component(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _version: &str,
    ) -> Result<Bytes, Error> {
        Err(Error::NoLeader)
    }

    /// Deletes an uploaded version that nothing uses.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::PluginNotFound`], a failed write.
    pub async fn delete_plugin_version(
        &self,
        _call: &Call,
        _tenant: &str,
        _name: &str,
        _version: &str,
    ) -> Result<(), Error> {
        Err(Error::NoLeader)
    }
}
