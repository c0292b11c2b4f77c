//! A worker: the instances one thread keeps, and the thread's loop.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use pointsman_model::limits;

use crate::bound::Program;
use crate::engine::Ticker;
use crate::instance::Instance;
use crate::queue::Queue;
use crate::wit::World;
use crate::wit::check_back::CheckBack;
use crate::wit::dedup::Dedup;
use crate::wit::filter::Filter;
use crate::wit::retry::Retry;
use crate::wit::selector::Selector;

/// The instances of one world that a worker keeps, one for each program.
pub(crate) struct Cache<W: World> {
    kept: HashMap<u64, Kept<W>>,
    clock: u64,
}

struct Kept<W: World> {
    instance: Instance<W>,
    program: Weak<Program>,
    used: u64,
}

impl<W: World> Default for Cache<W> {
    fn default() -> Self {
        Self { kept: HashMap::new(), clock: 0 }
    }
}

impl<W: World> Cache<W> {
    pub(crate) fn get(&mut self, program: &Program) -> Option<&mut Instance<W>> {
        self.clock += 1;
        let kept = self.kept.get_mut(&program.id)?;
        kept.used = self.clock;
        Some(&mut kept.instance)
    }

    pub(crate) fn insert(&mut self, program: &Arc<Program>, instance: Instance<W>) {
        // Instances of programs that nobody uses any more go with the next that comes.
        self.kept.retain(|_, kept| kept.program.strong_count() > 0);
        if self.kept.len() >= limits::PLUGIN_INSTANCES_PER_WORKER_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id);
            oldest.and_then(|id| self.kept.remove(&id));
        }
        self.kept.insert(program.id, Kept { instance, program: Arc::downgrade(program), used: self.clock });
    }

    pub(crate) fn remove(&mut self, program: &Program) {
        self.kept.remove(&program.id);
    }
}

/// What a thread needs to run plugins.
#[derive(Default)]
pub(crate) struct Worker {
    filters: Cache<Filter>,
    selectors: Cache<Selector>,
    dedups: Cache<Dedup>,
    retries: Cache<Retry>,
    check_backs: Cache<CheckBack>,
}

/// The cache of world `W` in a worker.
pub(crate) trait Caches<W: World> {
    fn cache(&mut self) -> &mut Cache<W>;
}

macro_rules! caches {
    ($($world:ident: $field:ident),*) => {
        $(impl Caches<$world> for Worker {
            fn cache(&mut self) -> &mut Cache<$world> {
                &mut self.$field
            }
        })*
    };
}

caches!(Filter: filters, Selector: selectors, Dedup: dedups, Retry: retries, CheckBack: check_backs);

/// Takes calls from the queue until it closes.
pub(crate) fn run(queue: &Queue, ticker: &Ticker) {
    let mut worker = Worker::default();
    while let Some(task) = queue.take() {
        let tenant = task.tenant;
        let charged = task.charged;
        let running = ticker.running();
        let ran = catch_unwind(AssertUnwindSafe(|| (task.job)(&mut worker)));
        drop(running);
        let fuel = ran.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_words(&*panic), "a plugin call panicked in the host");
            // Whatever it was doing, its instances are in doubt.
            worker = Worker::default();
            charged
        });
        queue.done(tenant, charged, fuel);
    }
}

fn panic_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
