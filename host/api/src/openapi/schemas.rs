//! The schemas of the types of the contract.

use pointsman_api_types::List;
use pointsman_api_types::{
    binding, cluster, dlq, explain, group, lease, message, node, number, plugin, problem, progress, publish, quota,
    schedule, scheduled, stream, tenant, time, token, topic, transaction,
};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// All of them by name.
pub(super) fn all() -> Map<String, Value> {
    let mut out = Map::new();
    macro_rules! add {
        ($($kind:ty),* $(,)?) => { $(add::<$kind>(&mut out);)* };
    }
    add!(
        problem::Problem,
        problem::FieldError,
        problem::Code,
        number::Decimal,
        time::Time,
        cluster::Cluster,
        cluster::ClusterNode,
        cluster::NodeState,
        cluster::ClusterShard,
        cluster::ClusterReplica,
        cluster::ReplicaRole,
        cluster::TransferInput,
        tenant::Tenant,
        tenant::TenantInput,
        tenant::DryDelete,
        token::TokenInput,
        token::NewToken,
        token::Whoami,
        token::TicketInput,
        token::Ticket,
        quota::Quota,
        quota::Usage,
        topic::Topic,
        topic::TopicInput,
        topic::TopicStats,
        group::Group,
        group::GroupInput,
        message::Message,
        publish::Batch<'static>,
        publish::MessageInput<'static>,
        publish::Receipt,
        publish::PublishAnswer,
        publish::PublishOutcome,
        scheduled::ScheduledInput,
        progress::SeekInput,
        progress::Sought,
        progress::Lag,
        progress::Paused,
        dlq::RedriveInput,
        dlq::Redriven,
        explain::Explained,
        schedule::ScheduleInput<'static>,
        lease::LeaseInput,
        lease::Leases,
        lease::SettleInput,
        lease::Settled,
        transaction::TransactionInput<'static>,
        transaction::CheckInput,
        transaction::Prepared,
        transaction::Resolved,
        transaction::ChecksInput,
        transaction::Checks,
        stream::Open,
        stream::Gap,
        stream::Drain,
        plugin::Plugin,
        plugin::PluginVersion,
        binding::Binding,
        binding::BindingInput,
        binding::BindingStats,
        node::Version,
        node::Health,
    );
    macro_rules! add_list {
        ($($kind:ty),* $(,)?) => { $(
            add::<$kind>(&mut out);
            add_as::<List<$kind>>(&mut out, format!("List_{}", <$kind>::name()));
        )* };
    }
    add_list!(
        tenant::Tenant,
        token::Token,
        token::AuditEntry,
        topic::Topic,
        topic::Queue,
        topic::QueueOffset,
        group::Group,
        message::Message,
        progress::GroupOffset,
        progress::Inflight,
        progress::Member,
        explain::TraceEvent,
        schedule::Schedule<'static>,
        transaction::Transaction,
        plugin::PluginVersion,
        binding::Binding,
        binding::LogLine,
    );
    add_as::<dlq::DeadLetter>(&mut out, "DeadLetter".to_owned());
    add_as::<List<dlq::DeadLetter>>(&mut out, "List_DeadLetter".to_owned());
    let either = ["Receipt", "PublishAnswer"].map(|name| json!({"$ref": format!("#/components/schemas/{name}")}));
    out.insert("Publish201".to_owned(), json!({"description": "One message; or many.", "oneOf": either}));
    out.insert("PublishResult".to_owned(), publish_result());
    out
}

/// A receipt or a problem beside index and status; a flattened option cannot say that by itself.
fn publish_result() -> Value {
    let index = json!({"type": "integer", "format": "int32", "minimum": 0, "description": "Which message, from 0."});
    let status = json!({"type": "integer", "description": "The status it would have got alone."});
    let both = json!({
        "type": "object",
        "properties": {"index": index, "status": status},
        "required": ["index", "status"],
    });
    let problem = json!({
        "type": "object",
        "properties": {"problem": {"$ref": "#/components/schemas/Problem"}},
        "required": ["problem"],
    });
    json!({
        "description": "What became of one message of many.",
        "allOf": [both, {"oneOf": [{"$ref": "#/components/schemas/Receipt"}, problem]}],
    })
}

fn add<T: ToSchema>(out: &mut Map<String, Value>) {
    add_as::<T>(out, T::name().into_owned());
}

fn add_as<T: ToSchema>(out: &mut Map<String, Value>, name: String) {
    let mut schemas = vec![(name, T::schema())];
    T::schemas(&mut schemas);
    for (name, schema) in schemas {
        if let Ok(schema) = serde_json::to_value(schema) {
            out.insert(name, schema);
        }
    }
}
