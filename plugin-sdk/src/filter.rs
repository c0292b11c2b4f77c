//! Filters: which messages a group sees.

use crate::message::{Batch, Column, Message};
use crate::plan::Plan;

/// Says which messages a consumer group sees.
pub trait Filter: Sized {
    /// Reads the binding's config. The error is shown to whoever made the binding.
    ///
    /// # Errors
    /// What is wrong with the config, in words.
    fn new(config: &[u8]) -> Result<Self, String>;

    /// The fields this filter reads.
    fn plan(&self) -> Plan;

    /// Whether the group sees this message.
    fn accept(&self, message: &Message<'_>) -> bool;
}

/// Judges a batch: the bitmap and the failures.
pub fn evaluate<F: Filter>(filter: &F, plan: &Plan, n: usize, columns: &[Column]) -> (Vec<u8>, Vec<(u32, String)>) {
    let batch = Batch::new(&plan.fields, columns);
    let mut accepted = vec![0_u8; n.div_ceil(8)];
    for (byte, bits) in accepted.iter_mut().enumerate() {
        for i in byte * 8..n.min(byte * 8 + 8) {
            *bits |= u8::from(filter.accept(&batch.message(i))) << (i % 8);
        }
    }
    (accepted, batch.into_failures())
}

/// Makes a type that is a [`Filter`] the component's answer to the broker. Once, at the root of the crate.
#[macro_export]
macro_rules! export_filter {
    ($filter:ty) => {
        const _: () = {
            // Natively there is nothing to export, but the type must still be a filter.
            #[cfg(not(target_family = "wasm"))]
            const _: fn(&[u8]) -> Result<$filter, String> = <$filter as $crate::Filter>::new;

            #[cfg(target_family = "wasm")]
            mod exported {
                use super::*;
                use $crate::bindings;

                ::std::thread_local! {
                    static INSTANCE: ::std::cell::OnceCell<($filter, $crate::Plan)> = const { ::std::cell::OnceCell::new() };
                }

                struct Export;

                impl bindings::filter::Guest for Export {
                    fn init(config: ::std::vec::Vec<u8>) -> ::std::result::Result<bindings::types::Plan, ::std::string::String> {
                        let filter = <$filter as $crate::Filter>::new(&config)?;
                        let plan = $crate::Filter::plan(&filter);
                        let answer = bindings::plan(&plan);
                        INSTANCE.with(|instance| instance.set((filter, plan))).map_err(|_| bindings::twice())?;
                        Ok(answer)
                    }

                    fn evaluate(
                        _ctx: bindings::types::Ctx,
                        n: u32,
                        columns: ::std::vec::Vec<bindings::types::Column>,
                    ) -> ::std::result::Result<bindings::types::FilterAnswer, ::std::string::String> {
                        INSTANCE.with(|instance| {
                            let (filter, plan) = instance.get().ok_or_else(bindings::never)?;
                            let columns = bindings::columns(plan, columns);
                            let (accepted, failures) = $crate::export::filter(filter, plan, n as usize, &columns);
                            Ok(bindings::types::FilterAnswer { accepted, failures })
                        })
                    }
                }

                bindings::filter::export!(Export with_types_in bindings::filter);
            }
        };
    };
}
