//! Core modules to components, as `pointsman plugin build` needs it.

use wit_component::ComponentEncoder;

use crate::Error;

/// Makes a component of a core module that carries its world in a custom section, as `wit-bindgen` writes it.
/// A component is returned as it is.
///
/// # Errors
/// [`Error::Compile`] if the module is none, or is not of the world it carries. One without a world makes a
/// component that does nothing, which [`crate::inspect()`] refuses.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, Error> {
    if wasmparser::Parser::is_component(module) {
        return Ok(module.to_vec());
    }
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| Error::Compile(format!("{error:#}")))
}
