//! `pointsman bind`: attaches a plugin to a topic or a group.

use pointsman_api_types::binding::{BindingInput, Limits, OnFailure};
use pointsman_api_types::plugin::Kind;

use crate::commands::{Connection, Failure, binding, block_on, json_argument};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true).multiple(true).args(["topic", "group"])))]
pub(crate) struct Args {
    /// Name of the binding; one of that name is replaced.
    name: String,
    /// Topic that a selector places messages of; or, beside --group, the topic of the group that a filter judges.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Group that a filter judges messages for.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Plugin, `builtin/…` for a built-in.
    #[arg(long, value_name = "NAME")]
    plugin: String,
    /// Version of the plugin; the newest if absent.
    #[arg(long, value_name = "SEMVER")]
    version: Option<String>,
    /// Config of the plugin: JSON, or @FILE; `{}` if absent.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// Let a selector place messages that have an ordering key, too.
    #[arg(long)]
    keyed: bool,
    /// What becomes of a message that the plugin could not judge: hash or refuse for a selector, deliver, skip or
    /// pause for a filter; the first is the default.
    #[arg(long, value_parser = on_failure, value_name = "POLICY")]
    on_failure: Option<OnFailure>,
    /// Fuel of a call, before the messages.
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Memory of an instance.
    #[arg(long, value_name = "BYTES")]
    memory_bytes: Option<u32>,
    /// Wall-clock time of a call.
    #[arg(long, value_name = "MS")]
    wall_ms: Option<u32>,
    #[command(flatten)]
    connection: Connection,
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "hash" => Ok(OnFailure::Hash),
        "refuse" => Ok(OnFailure::Refuse),
        "deliver" => Ok(OnFailure::Deliver),
        "skip" => Ok(OnFailure::Skip),
        "pause" => Ok(OnFailure::Pause),
        _ => Err("it takes hash, refuse, deliver, skip or pause".to_owned()),
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.as_deref().map(|text| json_argument("config", text)).transpose()?;
    let limits = Limits { fuel: args.fuel, memory_bytes: args.memory_bytes, wall_ms: args.wall_ms };
    let tenant = args.connection.tenant()?;
    let binding = block_on(async {
        let version = match args.version {
            Some(version) => version,
            None => tenant.plugin(&args.plugin).await?.latest,
        };
        let input = BindingInput {
            name: None,
            slot: if args.group.is_some() { Kind::Filter } else { Kind::Selector },
            topic: args.topic,
            group: args.group,
            plugin: args.plugin,
            version,
            config,
            keyed: args.keyed.then_some(true),
            mode: None,
            percent: None,
            on_failure: args.on_failure,
            limits: (limits != Limits::default()).then_some(limits),
        };
        Ok(tenant.put_binding(&args.name, &input).await?)
    })?;
    if args.connection.json { Ok(output::json(&binding)?) } else { Ok(binding::table([&binding]).print()?) }
}
