//! `pointsman bind`: attaches a plugin to a topic or a group.

use pointsman_api_types::binding::{BindingInput, Limits, OnFailure};
use pointsman_api_types::plugin::{Kind, Plugin};

use crate::commands::{Connection, Failure, binding, block_on, json_argument};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true).multiple(true).args(["topic", "group"])))]
pub(crate) struct Args {
    /// Name of the binding; one of that name is replaced.
    name: String,
    /// Topic whose messages a selector places, a dedup names keys of, a check-back is asked about; or, beside --group, the
    /// topic of the group that a filter judges.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Group that a filter or a retry policy judges messages for.
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
    /// What becomes of a message that the plugin could not judge: hash or refuse for a selector; deliver, skip or
    /// pause for a filter; keep or refuse for a dedup; default or dead-letter for a retry policy; unknown for a
    /// check-back. The first is the default.
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
        "keep" => Ok(OnFailure::Keep),
        "default" => Ok(OnFailure::Default),
        "dead-letter" => Ok(OnFailure::DeadLetter),
        "unknown" => Ok(OnFailure::Unknown),
        _ => Err("it takes hash, refuse, deliver, skip, pause, keep, default, dead-letter or unknown".to_owned()),
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.as_deref().map(|text| json_argument("config", text)).transpose()?;
    let limits = Limits { fuel: args.fuel, memory_bytes: args.memory_bytes, wall_ms: args.wall_ms };
    let tenant = args.connection.tenant()?;
    let binding = block_on(async {
        let plugin = tenant.plugin(&args.plugin).await?;
        let input = BindingInput {
            name: None,
            slot: kind(&plugin, args.version.as_deref()),
            topic: args.topic,
            group: args.group,
            plugin: args.plugin,
            version: args.version.unwrap_or(plugin.latest),
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

/// The kind of a plugin in one of its versions; one that does not exist is refused by the server in its own words.
fn kind(plugin: &Plugin, version: Option<&str>) -> Kind {
    let of = plugin.versions.iter().find(|known| Some(known.version.as_str()) == version);
    of.map_or(plugin.kind, |known| known.kind)
}
