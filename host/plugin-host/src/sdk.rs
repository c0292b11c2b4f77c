//! The SDK's sources, carried by the broker: `pointsman plugin new` writes them into a user's project.

/// A file of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdkFile {
    /// Its path below the SDK's directory.
    pub path: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! sdk {
    ($($path:literal),* $(,)?) => {
        &[$(SdkFile { path: $path, text: include_str!(concat!("../../../plugin-sdk/", $path)) }),*]
    };
}

/// The crate `pointsman-plugin`, whole: a path dependency that needs nothing beside it but `wit-bindgen`.
pub const SDK: &[SdkFile] = sdk![
    "Cargo.toml",
    "src/bindings.rs",
    "src/check_back.rs",
    "src/compare.rs",
    "src/dedup.rs",
    "src/filter.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/message.rs",
    "src/one_of.rs",
    "src/plan.rs",
    "src/retry.rs",
    "src/selector.rs",
    "src/testing.rs",
    "src/testing/tests.rs",
    "wit/check-back.wit",
    "wit/dedup.wit",
    "wit/filter.wit",
    "wit/retry.wit",
    "wit/selector.wit",
    "wit/types.wit",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned());
            }
        }
    }

    #[test]
    fn no_file_is_missing() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        assert_eq!(SDK.iter().map(|file| file.path).collect::<Vec<_>>(), found);
    }

    #[test]
    fn it_stands_alone() {
        for file in SDK {
            let inherits = file.path == "Cargo.toml" && file.text.contains("workspace = true");
            assert!(!inherits && !file.text.contains("../"), "{} leads out of the SDK", file.path);
        }
    }
}
