//! `pointsman plugin`: make, build, try, upload, list, show.

mod test;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pointsman_api_types::plugin::PluginVersion;

use crate::commands::{Connection, Failure, binding::word, block_on, read_file};
use crate::output::{self, Table};
use crate::{component, scaffold};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a project for a plugin, with the SDK in it.
    New {
        /// Name of the plugin: lower-case letters, digits and dashes.
        name: String,
        /// What the plugin decides.
        #[arg(long)]
        kind: scaffold::Kind,
        /// Directory of the project; ./NAME if absent.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Build a project into a component.
    Build {
        /// Directory of the project.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Try a component on sample messages, in the sandbox of the broker. No server is needed.
    Test(test::Args),
    /// Write an example component to a file: there is one of each kind, carried by this binary.
    Example {
        /// Name of the example; without one they are listed.
        name: Option<String>,
        /// File to write; ./NAME.wasm if absent.
        #[arg(long, value_name = "FILE", requires = "name")]
        out: Option<PathBuf>,
    },
    /// Upload a component as a version of a plugin.
    Upload {
        /// The component, as `plugin build` makes it.
        file: PathBuf,
        /// Name of the plugin; the name of the file without .wasm if absent.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Version, as MAJOR.MINOR.PATCH; a version is never changed.
        #[arg(long, value_name = "SEMVER")]
        version: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the plugins with their newest versions, the built-in ones too.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a plugin and its versions.
    Get {
        /// Name of the plugin, builtin/… for a built-in.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::New { name, kind, dir, json } => new(&name, kind, dir, json),
        Command::Build { dir, json } => build(&dir, json),
        Command::Test(args) => test::run(&args),
        Command::Example { name, out } => example(name.as_deref(), out),
        Command::Upload { file, name, version, connection } => upload(&file, name, &version, &connection),
        Command::List { connection } => {
            let tenant = connection.tenant()?;
            let plugins = block_on(async { Ok(tenant.plugins().await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": plugins }))?);
            }
            Ok(versions(&plugins).print()?)
        }
        Command::Get { name, connection } => {
            let tenant = connection.tenant()?;
            let plugin = block_on(async { Ok(tenant.plugin(&name).await?) })?;
            if connection.json { Ok(output::json(&plugin)?) } else { Ok(versions(&plugin.versions).print()?) }
        }
    }
}

fn new(name: &str, kind: scaffold::Kind, dir: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let directory = dir.unwrap_or_else(|| PathBuf::from(name));
    let files = scaffold::write(name, kind, &directory).map_err(|error| match error {
        scaffold::Error::Name(_) => Failure::Usage(error.to_string()),
        other => Failure::Refused(other.to_string()),
    })?;
    if json {
        return Ok(output::json(&serde_json::json!({ "directory": directory, "files": files }))?);
    }
    let shown = directory.display();
    output::line(&format!("{files} files in {shown}; the plugin is {shown}/src/lib.rs. Next:"))?;
    Ok(output::line(&format!("  cd {shown} && cargo test && pointsman plugin build && pointsman plugin test"))?)
}

fn build(directory: &Path, json: bool) -> Result<(), Failure> {
    let built = component::build(directory).map_err(|error| Failure::Refused(error.to_string()))?;
    if json {
        return Ok(output::json(&built)?);
    }
    let imports = if built.imports.is_empty() { "nothing".to_owned() } else { built.imports.join(", ") };
    output::line(&format!("component  {}", built.path.display()))?;
    output::line(&format!("kind       {}", built.kind))?;
    output::line(&format!("size       {} bytes", built.size_bytes))?;
    output::line(&format!("digest     {}", built.digest))?;
    Ok(output::line(&format!("imports    {imports}"))?)
}

fn example(name: Option<&str>, out: Option<PathBuf>) -> Result<(), Failure> {
    let examples = pointsman_plugin_host::examples();
    let Some(name) = name else {
        return examples
            .iter()
            .try_for_each(|example| Ok(output::line(&format!("{} ({})", example.name, example.kind))?));
    };
    let found = examples.iter().find(|example| example.name == name);
    let found = found.ok_or_else(|| Failure::Refused(format!("there is no example `{name}`")))?;
    let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
    let refused = |error: std::io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    std::fs::write(&path, found.bytes).map_err(refused)?;
    Ok(output::line(&format!("wrote {}", path.display()))?)
}

fn upload(file: &Path, name: Option<String>, version: &str, connection: &Connection) -> Result<(), Failure> {
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.or_else(stem).ok_or_else(|| Failure::Usage("give the plugin a name with --name".to_owned()))?;
    let component = Bytes::from(read_file(file)?);
    let tenant = connection.tenant()?;
    let uploaded = block_on(async { Ok(tenant.upload_plugin(&name, version, component).await?) })?;
    if connection.json { Ok(output::json(&uploaded)?) } else { Ok(versions([&uploaded]).print()?) }
}

fn versions<'a>(versions: impl IntoIterator<Item = &'a PluginVersion>) -> Table {
    let mut table = Table::new(["NAME", "VERSION", "KIND", "SIZE_BYTES", "COMPILE_MS", "IMPORTS", "DIGEST"]);
    for version in versions {
        table.row([
            version.name.clone(),
            version.version.clone(),
            word(&version.kind),
            version.size_bytes.to_string(),
            version.compile_ms.to_string(),
            if version.imports.is_empty() { "-".to_owned() } else { version.imports.join(", ") },
            version.digest.clone(),
        ]);
    }
    table
}
