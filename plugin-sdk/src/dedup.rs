//! Dedups: under which key a message is the same as another.

use std::time::Duration;

use crate::message::{ABSENT, Batch, Column, Message};
use crate::plan::Plan;

/// Longest key.
const KEY_BYTES_MAX: usize = 256;

/// Names the key under which a message is stored once within the topic's window.
///
/// The broker asks for messages to which the producer gave no idempotency key of its own.
pub trait Dedup: Sized {
    /// Reads the binding's config. The error is shown to whoever made the binding.
    ///
    /// # Errors
    /// What is wrong with the config, in words.
    fn new(config: &[u8]) -> Result<Self, String>;

    /// The fields this dedup reads.
    fn plan(&self) -> Plan;

    /// The key of this message; `None` if it is to be stored whatever was there before.
    fn key(&self, message: &Message<'_>) -> Option<Key>;
}

/// A key, 1 to 256 bytes, and how long it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    text: String,
    ttl_ms: u32,
}

impl Key {
    /// A key that is remembered for the topic's window.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ttl_ms: 0 }
    }

    /// The same, remembered for so long, at most 7 days; a time of less than a millisecond is the topic's window.
    #[must_use]
    pub fn remembered_for(self, time: Duration) -> Self {
        Self { ttl_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX), ..self }
    }

    /// The key.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How long it is remembered, where it says so itself.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        (self.ttl_ms > 0).then(|| Duration::from_millis(self.ttl_ms.into()))
    }
}

/// The answer for a batch: ends and bytes of the keys, times, failures.
type Answer = (Vec<u32>, Vec<u8>, Vec<u32>, Vec<(u32, String)>);

/// Names the keys of a batch. A key of the wrong length fails its message, and no other.
pub fn evaluate<D: Dedup>(dedup: &D, plan: &Plan, n: usize, columns: &[Column]) -> Answer {
    let batch = Batch::new(&plan.fields, columns);
    let (mut ends, mut bytes, mut times) = (Vec::with_capacity(n), Vec::new(), Vec::with_capacity(n));
    for i in 0..n {
        let message = batch.message(i);
        let key = dedup.key(&message).filter(|key| match key.text.len() {
            1..=KEY_BYTES_MAX => true,
            length => message.fail(format!("a key of {length} bytes, and not of 1 to {KEY_BYTES_MAX}")),
        });
        let absent = if key.is_some() { 0 } else { ABSENT };
        times.push(key.as_ref().map_or(0, |key| key.ttl_ms));
        bytes.extend_from_slice(key.as_ref().map_or(&[], |key| key.text.as_bytes()));
        ends.push(bytes.len() as u32 | absent);
    }
    (ends, bytes, times, batch.into_failures())
}

/// Makes a type that is a [`Dedup`] the component's answer to the broker. Once, at the root of the crate.
#[macro_export]
macro_rules! export_dedup {
    ($dedup:ty) => {
        const _: () = {
            // Natively there is nothing to export, but the type must still be a dedup.
            #[cfg(not(target_family = "wasm"))]
            const _: fn(&[u8]) -> Result<$dedup, String> = <$dedup as $crate::Dedup>::new;

            #[cfg(target_family = "wasm")]
            mod exported {
                use super::*;
                use $crate::bindings;

                ::std::thread_local! {
                    static INSTANCE: ::std::cell::OnceCell<($dedup, $crate::Plan)> = const { ::std::cell::OnceCell::new() };
                }

                struct Export;

                impl bindings::dedup::Guest for Export {
                    fn init(config: ::std::vec::Vec<u8>) -> ::std::result::Result<bindings::types::Plan, ::std::string::String> {
                        let dedup = <$dedup as $crate::Dedup>::new(&config)?;
                        let plan = $crate::Dedup::plan(&dedup);
                        let answer = bindings::plan(&plan);
                        INSTANCE.with(|instance| instance.set((dedup, plan))).map_err(|_| bindings::twice())?;
                        Ok(answer)
                    }

                    fn evaluate(
                        _ctx: bindings::types::Ctx,
                        n: u32,
                        columns: ::std::vec::Vec<bindings::types::Column>,
                    ) -> ::std::result::Result<bindings::types::DedupAnswer, ::std::string::String> {
                        INSTANCE.with(|instance| {
                            let (dedup, plan) = instance.get().ok_or_else(bindings::never)?;
                            let columns = bindings::columns(plan, columns);
                            let (ends, bytes, ttl_ms, failures) =
                                $crate::export::dedup(dedup, plan, n as usize, &columns);
                            let keys = bindings::types::Column { ends, bytes };
                            Ok(bindings::types::DedupAnswer { keys, ttl_ms, failures })
                        })
                    }
                }

                bindings::dedup::export!(Export with_types_in bindings::dedup);
            }
        };
    };
}
