//! The plugin host: components, bindings, worker threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use pointsman_model::judge::{self, CallLimits, Kind, OnFailure, Plan};
use pointsman_model::time::{SharedClock, SystemClock};
use pointsman_model::{BindingId, Generation, TenantId};
use tokio::sync::oneshot;

use self::shared::Shared;
use crate::queue::Task;
use crate::worker::{self, Worker};
use crate::{Bound, Compiler, Digest, Error, Spec};

mod asking;
mod shared;

/// How a host is set up.
pub struct HostConfig {
    /// Worker threads; one more, of low priority, runs bindings that ran out of time or fuel.
    pub workers: usize,
    /// Where compiled code is kept; `None` compiles again at each start.
    pub cache_dir: Option<PathBuf>,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What breakers and log lines go by.
    pub clock: SharedClock,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { workers: 2, cache_dir: None, compiler: Compiler::InProcess, clock: Arc::new(SystemClock::new()) }
    }
}

/// Why `init` gave no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// The plugin's own words, or what is wrong with its plan.
    #[error("{0}")]
    Refused(String),
    /// The host stopped it.
    #[error("init was stopped ({}): {words}", .failure.as_str())]
    Stopped {
        /// The class.
        failure: judge::Failure,
        /// What the engine says.
        words: String,
    },
    /// It was never asked.
    #[error("{0}")]
    Host(String),
}

/// Runs plugins. Cheap to share; dropping the last one stops its threads.
pub struct PluginHost {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl PluginHost {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Engine`] or [`Error::Thread`].
    pub fn new(config: HostConfig) -> Result<Self, Error> {
        let workers = config.workers.max(1);
        let shared = Arc::new(Shared::new(config, workers)?);
        let mut host = Self { shared, threads: Vec::new() };
        for i in 0..workers {
            host.spawn(format!("plugin-{i}"), |shared| worker::run(&shared.queue, &shared.ticker))?;
        }
        host.spawn("plugin-slow".into(), |shared| {
            // On Linux this is the thread's own priority.
            if let Err(error) = rustix::process::setpriority_process(None, 19) {
                tracing::debug!(%error, "the slow plugin thread keeps its priority");
            }
            worker::run(&shared.slow_queue, &shared.ticker);
        })?;
        Ok(host)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce(&Shared) + Send + 'static) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name).spawn(move || body(&shared)).map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Makes a component callable, from the cache or by compiling it, off the caller's thread. Returns the
    /// milliseconds it took; 0 where it was callable already.
    ///
    /// # Errors
    /// [`Error::Compile`] with the reason, [`Error::Busy`] if too many wait.
    pub async fn compile(&self, digest: Digest, wasm: Bytes) -> Result<u64, Error> {
        if self.is_compiled(&digest) {
            return Ok(0);
        }
        let _permit = self.shared.compiles.try_acquire().map_err(|_| Error::Busy)?;
        let (tx, rx) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name("plugin-compile".into())
            .spawn(move || {
                // Whoever asked may be gone.
                let _ = tx.send(shared.compile(digest, &wasm));
            })
            .map_err(Error::Thread)?;
        rx.await.map_err(|_| Error::Compile("the compiler panicked".into()))?
    }

    /// As [`Self::compile`], on the caller's thread.
    ///
    /// # Errors
    /// [`Error::Compile`] with the reason.
    pub fn compile_now(&self, digest: Digest, wasm: &[u8]) -> Result<u64, Error> {
        self.shared.compile(digest, wasm)
    }

    /// Whether a component is callable.
    #[must_use]
    pub fn is_compiled(&self, digest: &Digest) -> bool {
        self.shared.components.read().contains_key(digest)
    }

    /// Forgets a component that no binding uses any more; bindings that do keep it alive.
    pub fn forget(&self, digest: &Digest) {
        self.shared.components.write().remove(digest);
    }

    /// Tries a binding's config: `init` in a fresh instance, bounded.
    ///
    /// # Errors
    /// [`InitError`], whose text is fit for whoever made the binding.
    pub async fn try_init(&self, spec: Spec) -> Result<Plan, InitError> {
        let (tx, rx) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let tenant = spec.tenant;
        // Its own fuel is unknown before; a whole call's is a fair price for a binding.
        let charged = spec.limits.fuel;
        let job = Box::new(move |_: &mut Worker| {
            let _ = tx.send(shared.init(&spec));
            charged
        });
        let host = |error: Error| InitError::Host(error.to_string());
        self.shared.queue.put(Task { tenant, charged, job }).map_err(host)?;
        rx.await.map_err(|_| host(Error::Stopped))?
    }

    /// As [`Self::try_init`], on the caller's thread.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn try_init_now(&self, spec: &Spec) -> Result<Plan, InitError> {
        let _running = self.shared.ticker.running();
        self.shared.init(spec)
    }

    /// Tries a component before it is stored: an instance is made, and `init` gets `{}`. A config may be refused,
    /// that is what `init` is for; a component that cannot even do so is told what happened.
    ///
    /// # Errors
    /// [`InitError::Stopped`] with the class, [`InitError::Host`] if it was never asked.
    pub async fn smoke(&self, tenant: TenantId, digest: Digest, kind: Kind) -> Result<(), InitError> {
        let spec = Spec {
            tenant,
            binding: BindingId(0),
            generation: Generation(0),
            digest,
            kind,
            config: Bytes::from_static(b"{}"),
            limits: CallLimits::default(),
            on_failure: OnFailure::Refuse,
        };
        match self.try_init(spec).await {
            Ok(_) | Err(InitError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a binding ready to judge. The plan is the one that [`Self::try_init`] gave.
    ///
    /// # Errors
    /// [`Error::NotCompiled`].
    pub fn bind(&self, spec: Spec, plan: Plan) -> Result<Arc<Bound>, Error> {
        let program = self.shared.program(&spec)?;
        let fuel = self.shared.fuel_of(spec.tenant);
        Ok(Arc::new(Bound::new(spec, plan, program, &self.shared.clock, fuel)))
    }

    /// Fuel that a tenant's plugins burnt since the host was made.
    #[must_use]
    pub fn fuel(&self, tenant: TenantId) -> u64 {
        self.shared.fuel_of(tenant).load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for PluginHost {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.slow_queue.close();
        for thread in self.threads.drain(..) {
            // A panic of a call was caught and told; there is nothing more to say.
            let _ = thread.join();
        }
    }
}
