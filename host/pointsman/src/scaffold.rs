//! A new plugin project: what `pointsman plugin new` writes.
//!
//! The project stands alone: the SDK's sources and the WIT, carried by this binary, go into it as a path dependency,
//! so that it builds with nothing but cargo, and against the contract of the broker that made it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pointsman_plugin_host::SDK;

/// Where the SDK goes in a project.
const SDK_DIRECTORY: &str = "pointsman-plugin";

/// The kinds of plugin that a project can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Says whether a consumer group sees a message.
    Filter,
    /// Says to which queue a published message goes.
    Selector,
    /// Names the key under which a message is the same as another.
    Dedup,
    /// Says what becomes of a message whose delivery failed.
    Retry,
    /// Finds out what became of a transaction whose producer fell silent.
    CheckBack,
}

impl Kind {
    fn source(self) -> &'static str {
        match self {
            Self::Filter => include_str!("scaffold/templates/filter.rs.txt"),
            Self::Selector => include_str!("scaffold/templates/selector.rs.txt"),
            Self::Dedup => include_str!("scaffold/templates/dedup.rs.txt"),
            Self::Retry => include_str!("scaffold/templates/retry.rs.txt"),
            Self::CheckBack => include_str!("scaffold/templates/check-back.rs.txt"),
        }
    }

    fn readme(self) -> &'static str {
        match self {
            Self::Filter => include_str!("scaffold/templates/filter.md"),
            Self::Selector => include_str!("scaffold/templates/selector.md"),
            Self::Dedup => include_str!("scaffold/templates/dedup.md"),
            Self::Retry => include_str!("scaffold/templates/retry.md"),
            Self::CheckBack => include_str!("scaffold/templates/check-back.md"),
        }
    }
}

/// Why no project was made. Nothing was written but for `Write`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{0}` is no name for a plugin: take lower-case letters, digits and dashes, a letter first, 64 at most")]
    Name(String),
    #[error("{} exists and is not empty", .0.display())]
    NotEmpty(PathBuf),
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The files of a project, path below its directory and text.
pub(crate) fn files(name: &str, kind: Kind) -> Vec<(String, String)> {
    let fill = |template: &str| template.replace("{{name}}", name).replace("{{library}}", &name.replace('-', "_"));
    let mut files = vec![
        ("Cargo.toml".to_owned(), fill(include_str!("scaffold/templates/Cargo.toml.txt"))),
        ("README.md".to_owned(), fill(kind.readme())),
        (".gitignore".to_owned(), "/target\n".to_owned()),
        ("src/lib.rs".to_owned(), fill(kind.source())),
    ];
    files.extend(SDK.iter().map(|file| (format!("{SDK_DIRECTORY}/{}", file.path), file.text.to_owned())));
    files
}

/// Writes a project into `directory`, which must be empty or not exist.
pub(crate) fn write(name: &str, kind: Kind, directory: &Path) -> Result<usize, Error> {
    if !is_name(name) {
        return Err(Error::Name(name.to_owned()));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    match fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::NotEmpty(directory.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(directory)(error)),
    }
    let files = files(name, kind);
    for (relative, text) in &files {
        let path = directory.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(files.len())
}

/// A name that is good for a cargo package, and for a plugin of the broker.
fn is_name(name: &str) -> bool {
    const NAME_CHARS_MAX: usize = 64;
    let reserved = ["pointsman-plugin", "test", "core", "std", "alloc", "builtin"].contains(&name)
        || pointsman_model::Name::parse_new(name).is_err();
    !reserved
        && name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_project_is_complete_and_nothing_is_left_to_fill_in() {
        for kind in Kind::value_variants().iter().copied() {
            let files = files("big-orders", kind);
            let text = |path: &str| {
                &files.iter().find(|(known, _)| known == path).unwrap_or_else(|| panic!("{path} is missing")).1
            };
            for path in [
                ".gitignore",
                "README.md",
                "pointsman-plugin/Cargo.toml",
                "pointsman-plugin/src/lib.rs",
                "pointsman-plugin/src/filter.rs",
                "pointsman-plugin/src/selector.rs",
                "pointsman-plugin/wit/types.wit",
                "pointsman-plugin/wit/filter.wit",
                "pointsman-plugin/wit/selector.wit",
                "pointsman-plugin/wit/dedup.wit",
                "pointsman-plugin/wit/retry.wit",
                "pointsman-plugin/wit/check-back.wit",
            ] {
                assert!(!text(path).is_empty(), "{path}");
            }
            let manifest: toml::Table = text("Cargo.toml").parse().expect("a manifest");
            assert_eq!(manifest["package"]["name"].as_str(), Some("big-orders"));
            assert_eq!(manifest["dependencies"]["pointsman-plugin"]["path"].as_str(), Some(SDK_DIRECTORY));
            let word = kind.to_possible_value().expect("a word").get_name().replace('-', "_");
            assert!(text("src/lib.rs").contains(&format!("export_{word}!(")), "{word}");
            for (path, text) in files.iter().filter(|(path, _)| !path.starts_with(SDK_DIRECTORY)) {
                assert!(!text.contains("{{"), "{path}");
            }
        }
    }

    #[test]
    fn a_directory_in_use_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("a/b");
        let count = write("mine", Kind::Filter, &target).expect("written");
        assert!(count > 10 && target.join("pointsman-plugin/wit/types.wit").is_file());
        assert!(matches!(write("mine", Kind::Filter, &target), Err(Error::NotEmpty(_))));
    }

    #[test]
    fn names() {
        for good in ["a", "big-orders", "x9"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "9a", "Big", "a_b", "a/b", "../x", "-a", "test", "pointsman-x", "builtin", &long] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
