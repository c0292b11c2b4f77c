//! Compiled code on disk, and the one place where bytes become code.
//!
//! A file is `<cache dir>/<digest>/<hash of engine settings and version>.cwasm`: 8 bytes of magic, the sha256 of
//! the rest, then what Cranelift made. A file that does not match its checksum is removed and made again.

#![expect(unsafe_code, reason = "deserializing compiled code is unsafe; the argument is at `load`")]

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

use pointsman_model::hash;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::{Digest, Error};

const MAGIC: &[u8; 8] = b"PMCWASM1";
const HEADER_BYTES: usize = MAGIC.len() + 32;

/// Compiled code that this release of the broker made with this engine's settings.
///
/// INVARIANT: made only by [`Code::from_compiler`], with the output of our own compiler, and by [`read`], from a
/// file in our own directory whose checksum holds and that the same engine settings wrote.
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Takes over what our compiler, in this process or a child, has just made.
    pub(crate) fn from_compiler(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Makes the code callable.
    ///
    /// # Errors
    /// [`Error::Compile`] if the engine does not know the code's version or settings.
    pub(crate) fn load(&self, engine: &Engine) -> Result<Component, Error> {
        // SAFETY: `deserialize` must get bytes that `precompile_component` made. By the invariant of `Code` these
        // are: they came from our compiler directly, or from a file that we wrote under our own data directory,
        // which is as trusted as the binary itself; its sha256 was verified against accidental damage.
        let component = unsafe { Component::deserialize(engine, &self.0) };
        component.map_err(|error| Error::Compile(error.to_string()))
    }
}

/// Where the code of a component lies for this engine.
pub(crate) fn path(cache_dir: &Path, digest: &Digest, engine: &Engine) -> PathBuf {
    let mut settings = Xxh3(Vec::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    cache_dir.join(digest.hex()).join(format!("{:016x}.cwasm", settings.finish()))
}

/// Collects what is hashed, to hash it with the one hash of the formats.
struct Xxh3(Vec<u8>);

impl Hasher for Xxh3 {
    fn finish(&self) -> u64 {
        hash::hash(&self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Reads the code of a component, if it is there and whole; a damaged file is removed.
///
/// # Errors
/// [`Error::Cache`] if the system fails.
pub(crate) fn read(path: &Path) -> Result<Option<Code>, Error> {
    let failed = |source| Error::Cache { path: path.to_owned(), source };
    let mut bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let whole = bytes.len() > HEADER_BYTES
        && bytes.starts_with(MAGIC)
        && Sha256::digest(&bytes[HEADER_BYTES..])[..] == bytes[MAGIC.len()..HEADER_BYTES];
    if !whole {
        tracing::warn!(path = %path.display(), "compiled plugin code is damaged, compiling again");
        fs::remove_file(path).map_err(failed)?;
        return Ok(None);
    }
    bytes.drain(..HEADER_BYTES);
    Ok(Some(Code(bytes)))
}

/// Writes the code of a component; other processes see all of it or nothing.
///
/// # Errors
/// [`Error::Cache`] if the system fails.
pub(crate) fn write(path: &Path, code: &Code) -> Result<(), Error> {
    let failed = |source| Error::Cache { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + code.0.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&Sha256::digest(&code.0));
    bytes.extend_from_slice(&code.0);
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unfinished, bytes).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)
}
