//! Selectors: where a published message goes.

use crate::message::{Batch, Column, Message};
use crate::plan::Plan;

/// The queue that means "by the slot of the ordering key".
const BY_SLOT: u16 = 0xFFFF;

/// Says to which queue, or queues, a published message goes.
pub trait Selector: Sized {
    /// Reads the binding's config. The error is shown to whoever made the binding.
    ///
    /// # Errors
    /// What is wrong with the config, in words.
    fn new(config: &[u8]) -> Result<Self, String>;

    /// The fields this selector reads, and its other topics.
    fn plan(&self) -> Plan;

    /// Where this message goes.
    fn select(&self, message: &Message<'_>, context: &Context) -> Route;
}

/// A queue of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStat {
    /// Its number, from 0.
    pub queue: u16,
    /// Messages stored in it.
    pub messages: u64,
}

/// What is equal for all messages of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Deliveries a message may have.
    pub attempt_limit: u16,
    /// The topic's queues, in order.
    pub queues: Vec<QueueStat>,
}

impl Context {
    /// The queue that `value` belongs to: the same queue each time, as long as the topic has as many queues.
    #[must_use]
    pub fn by_hash(&self, value: &[u8]) -> Route {
        self.by_number(crate::hash(value))
    }

    /// The queue that a number belongs to, by its remainder.
    #[must_use]
    pub fn by_number(&self, number: u64) -> Route {
        match self.queues.len() as u64 {
            0 => Route::by_slot(),
            queues => Route::queue(self.queues[(number % queues) as usize].queue),
        }
    }
}

/// Where a message goes. The default is nowhere: the publish is refused as unroutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route(Targets);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Targets {
    #[default]
    None,
    One(u32),
    Many(Vec<u32>),
}

impl Route {
    /// Nowhere: the publish is refused.
    #[must_use]
    pub fn nowhere() -> Self {
        Self(Targets::None)
    }

    /// To a queue of the topic itself.
    #[must_use]
    pub fn queue(queue: u16) -> Self {
        Self::to(0, queue)
    }

    /// Where the broker would put it without a selector: by its ordering key's slot.
    #[must_use]
    pub fn by_slot() -> Self {
        Self::to(0, BY_SLOT)
    }

    /// To a queue of another topic: 1 is the first destination of the [`Plan`].
    #[must_use]
    pub fn to(destination: u16, queue: u16) -> Self {
        Self(Targets::One(u32::from(destination) << 16 | u32::from(queue)))
    }

    /// To both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut targets = self.targets().to_vec();
        targets.extend_from_slice(other.targets());
        Self(Targets::Many(targets))
    }

    /// The targets as numbers, destination << 16 | queue.
    #[must_use]
    pub fn targets(&self) -> &[u32] {
        match &self.0 {
            Targets::None => &[],
            Targets::One(target) => std::slice::from_ref(target),
            Targets::Many(targets) => targets,
        }
    }
}

/// The answer for a batch: ends, targets, failures.
type Answer = (Vec<u32>, Vec<u32>, Vec<(u32, String)>);

/// Places a batch.
pub fn evaluate<S: Selector>(selector: &S, plan: &Plan, context: &Context, n: usize, columns: &[Column]) -> Answer {
    let batch = Batch::new(&plan.fields, columns);
    let mut ends = Vec::with_capacity(n);
    let mut targets = Vec::with_capacity(n);
    for i in 0..n {
        match selector.select(&batch.message(i), context).0 {
            Targets::None => {}
            Targets::One(target) => targets.push(target),
            Targets::Many(many) => targets.extend(many),
        }
        ends.push(targets.len() as u32);
    }
    (ends, targets, batch.into_failures())
}

/// Makes a type that is a [`Selector`] the component's answer to the broker. Once, at the root of the crate.
#[macro_export]
macro_rules! export_selector {
    ($selector:ty) => {
        const _: () = {
            // Natively there is nothing to export, but the type must still be a selector.
            #[cfg(not(target_family = "wasm"))]
            const _: fn(&[u8]) -> Result<$selector, String> = <$selector as $crate::Selector>::new;

            #[cfg(target_family = "wasm")]
            mod exported {
                use super::*;
                use $crate::bindings;

                ::std::thread_local! {
                    static INSTANCE: ::std::cell::OnceCell<($selector, $crate::Plan)> = const { ::std::cell::OnceCell::new() };
                }

                struct Export;

                impl bindings::selector::Guest for Export {
                    fn init(config: ::std::vec::Vec<u8>) -> ::std::result::Result<bindings::types::Plan, ::std::string::String> {
                        let selector = <$selector as $crate::Selector>::new(&config)?;
                        let plan = $crate::Selector::plan(&selector);
                        let answer = bindings::plan(&plan);
                        INSTANCE.with(|instance| instance.set((selector, plan))).map_err(|_| bindings::twice())?;
                        Ok(answer)
                    }

                    fn evaluate(
                        ctx: bindings::types::Ctx,
                        n: u32,
                        columns: ::std::vec::Vec<bindings::types::Column>,
                    ) -> ::std::result::Result<bindings::types::SelectorAnswer, ::std::string::String> {
                        INSTANCE.with(|instance| {
                            let (selector, plan) = instance.get().ok_or_else(bindings::never)?;
                            let columns = bindings::columns(plan, columns);
                            let context = bindings::context(&ctx);
                            let (ends, targets, failures) =
                                $crate::export::selector(selector, plan, &context, n as usize, &columns);
                            Ok(bindings::types::SelectorAnswer { routes: bindings::types::Routes { ends, targets }, failures })
                        })
                    }
                }

                bindings::selector::export!(Export with_types_in bindings::selector);
            }
        };
    };
}
