//! Settings of a node: `--set key=value`, else `POINTSMAN_<KEY>`, else the file, else the default.
//!
//! The keys are the same everywhere and listed in [`KEYS`]. An unknown key or a bad value refuses the start, in one
//! line that says where it came from.

use std::fmt;
use std::path::{Path, PathBuf};

use pointsman_model::limits;
use tracing_subscriber::EnvFilter;

/// Prefix of the environment variables that are read as settings.
const ENV_PREFIX: &str = "POINTSMAN_";
/// Variables of that prefix that are no settings: the client's own, and what Kubernetes sets for a service of our name.
const ENV_IGNORED: [&str; 4] = ["URL", "TOKEN", "TENANT", "PORT"];
const ENV_IGNORED_PREFIXES: [&str; 2] = ["SERVICE_", "PORT_"];
/// Largest `segment_bytes`.
const SEGMENT_BYTES_MAX: u64 = 4 << 30;
/// Longest `retention_ms_max`: a hundred years.
const RETENTION_MS_CEILING: u64 = 100 * 365 * 24 * 3_600_000;
/// Smallest and largest `time_scale`.
const TIME_SCALE_MIN: f64 = 0.000_001;
const TIME_SCALE_MAX: f64 = 1_000.0;
/// Most threads of a kind.
const THREADS_MAX: u64 = 256;

/// The settings of a node, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) segment_bytes: u64,
    pub(crate) zero_ahead: bool,
    /// `None`: one alone, [`limits::DATA_SHARDS_CLUSTER_DEFAULT`] in a cluster.
    pub(crate) data_shards: Option<u16>,
    pub(crate) retention_ms_max: u64,
    pub(crate) time_scale: f64,
    pub(crate) check_back_allow_private: bool,
    pub(crate) log: String,
    pub(crate) log_json: bool,
    pub(crate) workers: u64,
    pub(crate) plugin_workers: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            zero_ahead: true,
            data_shards: None,
            retention_ms_max: limits::RETENTION_MS_MAX_DEFAULT,
            time_scale: 1.0,
            check_back_allow_private: false,
            log: "info,openraft=error,lsm_tree=warn".to_owned(),
            log_json: false,
            workers: 0,
            plugin_workers: 0,
        }
    }
}

/// One setting.
pub(crate) struct Key {
    /// Its name in files and `--set`; in upper case behind `POINTSMAN_` in the environment.
    pub(crate) name: &'static str,
    /// What it accepts.
    pub(crate) range: &'static str,
    /// What it does.
    pub(crate) meaning: &'static str,
    get: fn(&Settings) -> String,
    set: fn(&mut Settings, &str) -> Result<(), ()>,
}

impl Key {
    /// Its default, as one would write it.
    pub(crate) fn default(&self) -> String {
        (self.get)(&Settings::default())
    }
}

/// Every setting there is.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "segment_bytes",
        range: "1048576 to 4294967296",
        meaning: "size of a segment file of the log; fixed when the data directory is made",
        get: |s| s.segment_bytes.to_string(),
        set: |s, text| integer(text, limits::SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).map(|v| s.segment_bytes = v),
    },
    Key {
        name: "zero_ahead",
        range: "true or false",
        meaning: "write zeros to the next segment before it is used, so that a sync is faster",
        get: |s| s.zero_ahead.to_string(),
        set: |s, text| text.parse().map(|v| s.zero_ahead = v).map_err(|_| ()),
    },
    Key {
        name: "data_shards",
        range: "auto, or 1 to 64",
        meaning: "data shards, each a log of its own, over which tenants are spread; auto: 1 alone, 3 in a cluster; fixed when the data directory is made",
        get: |s| s.data_shards.map_or_else(|| "auto".to_owned(), |v| v.to_string()),
        set: |s, text| match text {
            "auto" => {
                s.data_shards = None;
                Ok(())
            }
            _ => match text.parse() {
                Ok(v) if (1..=limits::DATA_SHARDS_MAX).contains(&v) => {
                    s.data_shards = Some(v);
                    Ok(())
                }
                _ => Err(()),
            },
        },
    },
    Key {
        name: "retention_ms_max",
        range: "1 to 3153600000000",
        meaning: "longest retention that a topic may ask for",
        get: |s| s.retention_ms_max.to_string(),
        set: |s, text| integer(text, 1, RETENTION_MS_CEILING).map(|v| s.retention_ms_max = v),
    },
    Key {
        name: "time_scale",
        range: "0.000001 to 1000",
        meaning: "multiplies every wait of the retry table and of the default check-back timetable; what a client states in milliseconds stays",
        get: |s| s.time_scale.to_string(),
        set: |s, text| match text.parse() {
            Ok(scale) if (TIME_SCALE_MIN..=TIME_SCALE_MAX).contains(&scale) => {
                s.time_scale = scale;
                Ok(())
            }
            _ => Err(()),
        },
    },
    Key {
        name: "check_back_allow_private",
        range: "true or false",
        meaning: "let check-back plugins reach private, loopback and link-local addresses that their binding allows",
        get: |s| s.check_back_allow_private.to_string(),
        set: |s, text| text.parse().map(|v| s.check_back_allow_private = v).map_err(|_| ()),
    },
    Key {
        name: "log",
        range: "a level (error, warn, info, debug, trace) or directives as target=level,…",
        meaning: "what is logged to stderr",
        get: |s| s.log.clone(),
        set: |s, text| EnvFilter::try_new(text).map(|_| s.log = text.to_owned()).map_err(|_| ()),
    },
    Key {
        name: "log_json",
        range: "true or false",
        meaning: "log lines are JSON objects",
        get: |s| s.log_json.to_string(),
        set: |s, text| text.parse().map(|v| s.log_json = v).map_err(|_| ()),
    },
    Key {
        name: "workers",
        range: "0 to 256",
        meaning: "threads that serve calls; 0: one a core",
        get: |s| s.workers.to_string(),
        set: |s, text| integer(text, 0, THREADS_MAX).map(|v| s.workers = v),
    },
    Key {
        name: "plugin_workers",
        range: "0 to 256",
        meaning: "threads that run plugins; 0: one a core",
        get: |s| s.plugin_workers.to_string(),
        set: |s, text| integer(text, 0, THREADS_MAX).map(|v| s.plugin_workers = v),
    },
];

fn integer(text: &str, least: u64, most: u64) -> Result<u64, ()> {
    text.parse().ok().filter(|value| (least..=most).contains(value)).ok_or(())
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--set`.
    Flag,
    /// The environment variable of that name.
    Environment(String),
    /// The file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--set"),
            Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why the settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{source}: unknown setting `{key}`; `pointsman config reference` lists them", source = from)]
    UnknownKey { from: Source, key: String },
    #[error("{source}: `{value}` is no value of `{key}`; it takes {range}", source = from)]
    BadValue { from: Source, key: &'static str, value: String, range: &'static str },
    #[error("--set `{0}`: write it as key=value")]
    NoPair(String),
    #[error("{path}: {reason}", path = path.display())]
    File { path: PathBuf, reason: String },
}

impl Settings {
    /// Reads all sources, the weakest first.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, Error> {
        let mut settings = Self::default();
        if let Some(path) = file {
            settings.take_file(path)?;
        }
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            if ENV_IGNORED.contains(&key) || ENV_IGNORED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            settings.take(Source::Environment(name.clone()), &key.to_ascii_lowercase(), &value)?;
        }
        for flag in flags {
            let (key, value) = flag.split_once('=').ok_or_else(|| Error::NoPair(flag.clone()))?;
            settings.take(Source::Flag, key.trim(), value.trim())?;
        }
        Ok(settings)
    }

    fn take_file(&mut self, path: &Path) -> Result<(), Error> {
        let refuse = |reason: String| Error::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        // The parser's own words span several lines and quote the file; the first says what and where.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            refuse(format!("line {line}: {}", error.message()))
        })?;
        for (key, value) in table {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(value) => value.to_string(),
                _ => return Err(refuse(format!("`{key}` must be a string, a number or a boolean"))),
            };
            self.take(Source::File(path.to_owned()), &key, &value)?;
        }
        Ok(())
    }

    fn take(&mut self, from: Source, key: &str, value: &str) -> Result<(), Error> {
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            return Err(Error::UnknownKey { from, key: key.to_owned() });
        };
        (known.set)(self, value).map_err(|()| Error::BadValue {
            from,
            key: known.name,
            value: value.to_owned(),
            range: known.range,
        })
    }
}

#[cfg(test)]
mod tests;
