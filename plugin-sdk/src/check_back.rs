//! Check-backs: what became of a transaction whose producer fell silent.

use std::time::Duration;

use crate::plan::Plan;

/// Finds out what became of a transaction that was prepared and neither committed nor rolled back.
///
/// It does no I/O: it answers with a [`Request`], the broker makes it, if the binding's config allows the host under
/// `"allow"`, and hands the response to [`CheckBack::answer`]. Nothing is kept in between.
pub trait CheckBack: Sized {
    /// Reads the binding's config. The error is shown to whoever made the binding.
    ///
    /// # Errors
    /// What is wrong with the config, in words.
    fn new(config: &[u8]) -> Result<Self, String>;

    /// `Plan::new().body()` where [`Half::body`] is read; nothing else may be asked for.
    fn plan(&self) -> Plan {
        Plan::new()
    }

    /// Checks a transaction for the `attempt`th time, from 1.
    fn check(&self, half: &Half, attempt: u16) -> Verdict;

    /// Judges what came of the request: a response, or in words why there is none.
    fn answer(&self, half: &Half, response: Result<Response, String>) -> Verdict;
}

/// A prepared transaction, told by its first message. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Its id, as clients see it.
    pub transaction: String,
    /// Its producer group.
    pub producer_group: String,
    /// When it was prepared.
    pub prepared_at: u64,
    /// The time that the decision may rely on.
    pub now: u64,
    /// How many messages it has.
    pub messages: u16,
    /// Name of the first message's topic.
    pub topic: String,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its properties, as published.
    pub properties: Vec<(String, String)>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its payload, where the plan asks for it.
    pub body: Option<Vec<u8>>,
}

impl Half {
    /// The property of that name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is known of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its messages become visible.
    Commit,
    /// They never do.
    Rollback,
    /// Nobody knows yet. Asked again after so long, at most a day, or at the transaction's own interval.
    Unknown(Option<Duration>),
    /// Whoever answers this knows. At most 4 requests a check.
    Ask(Request),
    /// Something is wrong, in words: counted as a failure, and unknown to the transaction.
    Fail(String),
}

/// An HTTP request that the broker makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `POST`; else `GET`.
    pub post: bool,
    /// An absolute URL, at most 2,048 bytes.
    pub url: String,
    /// At most 32 names and values, 8 KiB in all.
    pub headers: Vec<(String, String)>,
    /// At most 64 KiB.
    pub body: Vec<u8>,
}

impl Request {
    /// `GET`.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self { post: false, url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// `POST` with this body.
    #[must_use]
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { post: true, url: url.into(), headers: Vec::new(), body: body.into() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names, in lower case, and values that are UTF-8.
    pub headers: Vec<(String, String)>,
    /// The body, cut to 64 KiB.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Makes a type that is a [`CheckBack`] the component's answer to the broker. Once, at the root of the crate.
#[macro_export]
macro_rules! export_check_back {
    ($check_back:ty) => {
        const _: () = {
            // Natively there is nothing to export, but the type must still be a check-back.
            #[cfg(not(target_family = "wasm"))]
            const _: fn(&[u8]) -> Result<$check_back, String> = <$check_back as $crate::CheckBack>::new;

            #[cfg(target_family = "wasm")]
            mod exported {
                use super::*;
                use $crate::bindings;

                ::std::thread_local! {
                    static INSTANCE: ::std::cell::OnceCell<$check_back> = const { ::std::cell::OnceCell::new() };
                }

                struct Export;

                impl bindings::check_back::Guest for Export {
                    fn init(
                        config: ::std::vec::Vec<u8>,
                    ) -> ::std::result::Result<bindings::types::Plan, ::std::string::String> {
                        let check_back = <$check_back as $crate::CheckBack>::new(&config)?;
                        let answer = bindings::plan(&$crate::CheckBack::plan(&check_back));
                        INSTANCE.with(|instance| instance.set(check_back)).map_err(|_| bindings::twice())?;
                        Ok(answer)
                    }

                    fn check(
                        half: bindings::transactions::Half,
                        attempt: u16,
                    ) -> ::std::result::Result<bindings::transactions::Verdict, ::std::string::String> {
                        INSTANCE.with(|instance| {
                            let check_back = instance.get().ok_or_else(bindings::never)?;
                            bindings::verdict($crate::CheckBack::check(check_back, &bindings::half(half), attempt))
                        })
                    }

                    fn answer(
                        half: bindings::transactions::Half,
                        response: ::std::result::Result<bindings::transactions::Response, ::std::string::String>,
                    ) -> ::std::result::Result<bindings::transactions::Verdict, ::std::string::String> {
                        INSTANCE.with(|instance| {
                            let check_back = instance.get().ok_or_else(bindings::never)?;
                            let response = response.map(bindings::response);
                            bindings::verdict($crate::CheckBack::answer(check_back, &bindings::half(half), response))
                        })
                    }
                }

        bindings::check_back::export!(Export with_types_in bindings::check_back);
            }
        };
    };
}
