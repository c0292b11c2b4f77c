//! What the host's threads share: components, programs, queues, and making them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use pointsman_model::judge::{Kind, Plan};
use pointsman_model::time::SharedClock;
use pointsman_model::{TenantId, limits};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::{HostConfig, InitError};
use crate::bound::Program;
use crate::engine::Ticker;
use crate::instance::{Budget, Guest, InitFailure, Instance};
use crate::queue::Queue;
use crate::wit::World;
use crate::wit::check_back::CheckBack;
use crate::wit::dedup::Dedup;
use crate::wit::filter::Filter;
use crate::wit::log::Logs;
use crate::wit::retry::Retry;
use crate::wit::selector::Selector;
use crate::worker::Worker;
use crate::{Compiler, Digest, Error, Spec, code_cache, engine, wit};

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) ticker: Ticker,
    pub(super) compiler: Compiler,
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) clock: SharedClock,
    pub(super) components: RwLock<HashMap<Digest, InstancePre<Guest>>>,
    pub(super) compiles: Semaphore,
    pub(super) compiling: Mutex<()>,
    pub(super) programs: Mutex<HashMap<ProgramKey, Weak<Program>>>,
    pub(super) next_program: AtomicU64,
    fuel: Mutex<HashMap<TenantId, Arc<AtomicU64>>>,
    pub(super) queue: Queue,
    pub(super) slow_queue: Queue,
    /// Workers without a thread, for calls on the caller's own.
    pub(super) inline: Vec<Mutex<Worker>>,
}

type ProgramKey = (TenantId, Digest, Bytes, u32);

impl Shared {
    pub(super) fn new(config: HostConfig, workers: usize) -> Result<Self, Error> {
        let engine = engine::engine()?;
        Ok(Self {
            ticker: Ticker::start(engine.clone())?,
            engine,
            compiler: config.compiler,
            cache_dir: config.cache_dir,
            clock: config.clock,
            components: RwLock::default(),
            compiles: Semaphore::new(limits::PLUGIN_COMPILES_WAITING_MAX),
            compiling: Mutex::new(()),
            programs: Mutex::default(),
            next_program: AtomicU64::new(0),
            fuel: Mutex::default(),
            queue: Queue::new(workers, limits::PLUGIN_WAITING_MAX),
            slow_queue: Queue::new(1, limits::PLUGIN_WAITING_MAX),
            inline: (0..workers).map(|_| Mutex::default()).collect(),
        })
    }

    /// The meter of a tenant's fuel. Tenants are few beside their calls, so meters stay.
    pub(super) fn fuel_of(&self, tenant: TenantId) -> Arc<AtomicU64> {
        Arc::clone(self.fuel.lock().entry(tenant).or_default())
    }

    pub(super) fn compile(&self, digest: Digest, wasm: &[u8]) -> Result<u64, Error> {
        let started = Instant::now();
        let _one_at_a_time = self.compiling.lock();
        if self.components.read().contains_key(&digest) {
            return Ok(0);
        }
        let path = self.cache_dir.as_ref().map(|dir| code_cache::path(dir, &digest, &self.engine));
        let cached = path.as_deref().map(code_cache::read).transpose()?.flatten();
        let component = match cached.map(|code| code.load(&self.engine)) {
            Some(Ok(component)) => component,
            _ => {
                let code = self.compiler.compile(&self.engine, wasm)?;
                if let Some(path) = &path {
                    code_cache::write(path, &code)?;
                }
                code.load(&self.engine)?
            }
        };
        let pre = self.link(&component).map_err(|error| Error::Compile(error.to_string()))?;
        self.components.write().insert(digest, pre);
        Ok(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1))
    }

    pub(super) fn link(&self, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
        let mut linker = Linker::new(&self.engine);
        wit::log::define(&mut linker)?;
        wit::wasi::define(&mut linker, &self.engine, component)?;
        linker.instantiate_pre(component)
    }

    pub(super) fn program(&self, spec: &Spec) -> Result<Arc<Program>, Error> {
        let pre = self.components.read().get(&spec.digest).cloned().ok_or(Error::NotCompiled(spec.digest))?;
        let key = (spec.tenant, spec.digest, spec.config.clone(), spec.limits.memory_bytes);
        let mut programs = self.programs.lock();
        if let Some(program) = programs.get(&key).and_then(Weak::upgrade) {
            return Ok(program);
        }
        programs.retain(|_, program| program.strong_count() > 0);
        let id = self.next_program.fetch_add(1, Ordering::Relaxed);
        let program = Arc::new(Program { id, pre, config: spec.config.clone() });
        programs.insert(key, Arc::downgrade(&program));
        Ok(program)
    }

    pub(super) fn init(&self, spec: &Spec) -> Result<Plan, InitError> {
        if spec.config.len() > limits::PLUGIN_CONFIG_BYTES_MAX {
            let (length, max) = (spec.config.len(), limits::PLUGIN_CONFIG_BYTES_MAX);
            return Err(InitError::Refused(format!("the config has {length} bytes, at most {max}")));
        }
        let program = self.program(spec).map_err(|error| InitError::Host(error.to_string()))?;
        let logs = Arc::new(Logs::new(Arc::clone(&self.clock)));
        let budget = Budget::of_init(&spec.limits);
        let made = match spec.kind {
            Kind::Filter => plan_of::<Filter>(&program, spec, budget, &logs),
            Kind::Selector => plan_of::<Selector>(&program, spec, budget, &logs),
            Kind::Dedup => plan_of::<Dedup>(&program, spec, budget, &logs),
            Kind::Retry => plan_of::<Retry>(&program, spec, budget, &logs),
            Kind::CheckBack => plan_of::<CheckBack>(&program, spec, budget, &logs),
            kind @ (Kind::Admit | Kind::Assign) => {
                return Err(InitError::Host(format!("plugins of kind {kind} are not supported yet")));
            }
        };
        made.map_err(|failure| match failure {
            InitFailure::Refused(words) => InitError::Refused(words),
            InitFailure::Stopped(stop) => InitError::Stopped { failure: stop.failure, words: stop.words },
        })
    }
}

fn plan_of<W: World>(program: &Program, spec: &Spec, budget: Budget, logs: &Arc<Logs>) -> Result<Plan, InitFailure> {
    let memory_bytes_max = spec.limits.memory_bytes as usize;
    let made = Instance::<W>::new(&program.pre, &program.config, memory_bytes_max, budget, logs);
    made.map(|(_, plan)| plan)
}
