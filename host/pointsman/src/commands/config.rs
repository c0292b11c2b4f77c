//! `pointsman config`: the settings of a node.

use crate::commands::Failure;
use crate::output::{self, Table};
use crate::settings::KEYS;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List every setting: name, default, range and meaning.
    ///
    /// A setting is given as `--set name=value`, as environment variable `POINTSMAN_NAME`, or as a line of the TOML
    /// file that `--config` names; the first of these that has it wins.
    Reference {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Reference { json } = command;
    if *json {
        let items: Vec<_> = KEYS
            .iter()
            .map(|key| {
                serde_json::json!({
                    "name": key.name, "default": key.default(), "range": key.range, "meaning": key.meaning,
                })
            })
            .collect();
        return Ok(output::json(&serde_json::json!({ "items": items }))?);
    }
    let mut table = Table::new(["NAME", "DEFAULT", "RANGE", "MEANING"]);
    for key in KEYS {
        table.row([key.name.into(), key.default(), key.range.into(), key.meaning.into()]);
    }
    Ok(table.print()?)
}
