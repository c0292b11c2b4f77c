//! Lines in the binding's log.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is broken.
    Error = 0,
    /// Something is odd.
    Warn = 1,
    /// Worth knowing.
    Info = 2,
    /// For whoever writes the plugin.
    Debug = 3,
}

/// Writes a line to the binding's log (`GET …/bindings/{binding}/logs`). The broker bounds how many lines a call
/// may write and how long they are. Natively the line goes to stderr.
pub fn log(level: Level, text: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::filter::log(level as u8, text);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {text}");
}

/// Stops the plugin because its author made a mistake that no answer should hide.
#[cold]
pub(crate) fn stop(text: &str) -> ! {
    log(Level::Error, text);
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    panic!("{text}");
}
