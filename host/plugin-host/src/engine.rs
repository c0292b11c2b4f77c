//! The one engine, its settings, and the tick that stops calls which run too long.
//!
//! Settings and their reasons are measured: component-model async off (its call floor is three times as high),
//! fuel and epochs both on (together they cost what one does), Cranelift alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::limits;
use wasmtime::{Config, Engine, OptLevel};

use crate::Error;

/// Length of an epoch.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker sleeps until the next.
const IDLE_TICKS: u32 = 200;

/// The engine of a process that runs or compiles plugins: both must agree on every setting.
pub(crate) fn engine() -> Result<Engine, Error> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits::PLUGIN_STACK_BYTES_MAX)
        .wasm_component_model(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_multi_memory(true)
        .generate_address_map(false)
        .native_unwind_info(false);
    Engine::new(&config).map_err(Error::Engine)
}

/// Advances the engine's epoch every millisecond while calls run.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    handle: Thread,
}

struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A call that runs; while one lives the epoch advances.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: Engine) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("plugin-tick".into())
            .spawn(move || seen.tick(&engine))
            .map_err(Error::Thread)?;
        let handle = thread.thread().clone();
        Ok(Self { shared, thread: Mutex::new(Some(thread)), handle })
    }

    /// Says that a call begins.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.handle.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handle.unpark();
        if let Some(thread) = self.thread.lock().take() {
            // It does not panic, and there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn tick(&self, engine: &Engine) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle < IDLE_TICKS {
                thread::sleep(TICK);
                engine.increment_epoch();
                continue;
            }
            // Asleep first, then one more look: a call that begins in between sees the flag or is seen.
            self.asleep.store(true, Ordering::SeqCst);
            while self.running.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}
