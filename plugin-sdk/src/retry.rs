//! Retry policies: what becomes of a message whose delivery failed.

use std::time::Duration;

/// Says what becomes of a message after an attempt that ended badly.
///
/// The broker asks when a consumer said no without saying when again, and when a lease ran out. Whatever is decided, a
/// message has no more deliveries than its group allows.
pub trait Retry: Sized {
    /// Reads the binding's config. The error is shown to whoever made the binding.
    ///
    /// # Errors
    /// What is wrong with the config, in words.
    fn new(config: &[u8]) -> Result<Self, String>;

    /// What becomes of the message.
    fn decide(&self, attempt: &Attempt) -> Decision;
}

/// An attempt that ended badly. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// The attempt that ended, from 1.
    pub attempt: u16,
    /// The group's `max_retries`: attempt `1 + max_retries` is the last.
    pub max_retries: u16,
    /// The message's tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its properties, as published.
    pub properties: Vec<(String, String)>,
    /// Its priority.
    pub priority: u8,
    /// Length of its payload.
    pub body_bytes: u32,
    /// When it was stored.
    pub stored_at: u64,
    /// When its first attempt was delivered, if that is known.
    pub first_delivered_at: Option<u64>,
    /// When the attempt was delivered, if that is known.
    pub delivered_at: Option<u64>,
    /// When it ended.
    pub now: u64,
    /// The lease ran out; else the consumer said no.
    pub expired: bool,
    /// The consumer's words.
    pub reason: Option<String>,
    /// Who had it.
    pub client_id: Option<String>,
}

impl Attempt {
    /// The property of that name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is delivered again after so long, at most a year.
    Again(Duration),
    /// The same; but the wait is a step of a table that the operator's setting `time_scale` multiplies, as it does the
    /// broker's own.
    AgainScaled(Duration),
    /// It goes to the dead-letter queue, for this reason or else for the consumer's.
    DeadLetter(Option<String>),
    /// The group is done with it, as if it had been acknowledged.
    Drop,
    /// This policy cannot say, and why: the binding's failure policy decides.
    Fail(String),
}

/// Makes a type that is a [`Retry`] the component's answer to the broker. Once, at the root of the crate.
#[macro_export]
macro_rules! export_retry {
    ($retry:ty) => {
        const _: () = {
            // Natively there is nothing to export, but the type must still be a retry policy.
            #[cfg(not(target_family = "wasm"))]
            const _: fn(&[u8]) -> Result<$retry, String> = <$retry as $crate::Retry>::new;

            #[cfg(target_family = "wasm")]
            mod exported {
                use super::*;
                use $crate::bindings;

                ::std::thread_local! {
                    static INSTANCE: ::std::cell::OnceCell<$retry> = const { ::std::cell::OnceCell::new() };
                }

                struct Export;

                impl bindings::retry::Guest for Export {
                    fn init(
                        config: ::std::vec::Vec<u8>,
                    ) -> ::std::result::Result<bindings::types::Plan, ::std::string::String> {
                        let retry = <$retry as $crate::Retry>::new(&config)?;
                        INSTANCE.with(|instance| instance.set(retry)).map_err(|_| bindings::twice())?;
                        Ok(bindings::plan(&$crate::Plan::new()))
                    }

                    fn decide(
                        attempt: bindings::attempts::Attempt,
                    ) -> ::std::result::Result<bindings::attempts::Decision, ::std::string::String> {
                        INSTANCE.with(|instance| {
                            let retry = instance.get().ok_or_else(bindings::never)?;
                            bindings::decision($crate::Retry::decide(retry, &bindings::attempt(attempt)))
                        })
                    }
                }

        bindings::retry::export!(Export with_types_in bindings::retry);
            }
        };
    };
}
