//! WASI imports that toolchains add by themselves, met by deterministic stubs.
//!
//! A Rust component for `wasm32-wasip2` imports a dozen WASI interfaces though its author never asked. They get:
//! stdout and stderr to the binding's log, an empty environment, no files, fixed "randomness", a clock that
//! stands at 0 (a plugin's time is the `now` of its message). What is left traps, by name, when called.
//!
//! The functions are defined from the component's own import types, so any 0.2.x version is met.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceType, Val};
use wasmtime::{Engine, StoreContextMut};

use crate::instance::Guest;

/// Interfaces that are stubbed; every other import of a namespace that is not ours is refused.
const STUBBED: [&str; 5] = ["wasi:io/", "wasi:cli/", "wasi:random/", "wasi:clocks/", "wasi:filesystem/"];
/// Bytes that a stream takes at once, and the most that a call for random bytes gets.
const PIECE_BYTES: usize = 4_096;
/// What all randomness of a stub is made of.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Every resource of every stubbed interface: a number that says nothing.
struct Stub;

/// A stub was called that cannot do what it is for.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not there for plugins")]
pub(crate) struct NotThere(String);

/// Whether an import of that name is met by a stub.
pub(crate) fn is_stubbed(import: &str) -> bool {
    STUBBED.iter().any(|prefix| import.starts_with(prefix)) && import.contains("@0.2.")
}

/// Defines a stub for each WASI function that the component imports.
pub(crate) fn define(linker: &mut Linker<Guest>, engine: &Engine, component: &Component) -> wasmtime::Result<()> {
    for (import, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else {
            continue;
        };
        if !is_stubbed(import) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        let interface_name = import.split('@').next().unwrap_or(import);
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::Resource(_) => instance.resource(name, ResourceType::host::<Stub>(), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(_) => define_function(&mut instance, interface_name, name)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn define_function(instance: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let full_name = format!("{interface}.{name}");
    instance.func_new(name, move |mut store, _ty, params, results| {
        let answer = call(&mut store, &full_name, params)?;
        for param in params {
            give_back(&mut store, param)?;
        }
        for (result, value) in results.iter_mut().zip(answer) {
            *result = value;
        }
        Ok(())
    })
}

/// A handle that was lent to a call must be given back before the call returns.
fn give_back(store: &mut StoreContextMut<'_, Guest>, param: &Val) -> wasmtime::Result<()> {
    match param {
        Val::Resource(handle) => handle.resource_drop(&mut *store),
        Val::List(values) => {
            let mut handles = values.iter().filter(|value| matches!(value, Val::Resource(_)));
            handles.try_for_each(|handle| give_back(store, handle))
        }
        _ => Ok(()),
    }
}

fn call(store: &mut StoreContextMut<'_, Guest>, name: &str, params: &[Val]) -> wasmtime::Result<Option<Val>> {
    let ok = |value: Option<Val>| Ok(Some(Val::Result(Ok(value.map(Box::new)))));
    let (interface, function) = name.split_once('.').unwrap_or((name, ""));
    match (interface, function) {
        ("wasi:cli/stdout", "get-stdout") => resource(store, 1),
        ("wasi:cli/stderr", "get-stderr") => resource(store, 2),
        ("wasi:cli/stdin", "get-stdin") => resource(store, 0),
        ("wasi:cli/environment", "initial-cwd") => Ok(Some(Val::Option(None))),
        ("wasi:cli/environment", _) | ("wasi:filesystem/preopens", _) => Ok(Some(Val::List(Vec::new()))),
        ("wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr", _) => {
            Ok(Some(Val::Option(None)))
        }
        ("wasi:io/streams", "[method]output-stream.check-write") => ok(Some(Val::U64(PIECE_BYTES as u64))),
        ("wasi:io/streams", "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush") => {
            write(store, params);
            ok(None)
        }
        ("wasi:io/streams", "[method]output-stream.flush" | "[method]output-stream.blocking-flush") => ok(None),
        ("wasi:io/streams", "[method]output-stream.subscribe") => resource(store, 0),
        ("wasi:io/poll", "[method]pollable.block") => Ok(None),
        ("wasi:io/poll", "[method]pollable.ready") => Ok(Some(Val::Bool(true))),
        ("wasi:random/insecure-seed", _) => Ok(Some(Val::Tuple(vec![Val::U64(SEED), Val::U64(!SEED)]))),
        ("wasi:random/random", "get-random-u64") | ("wasi:random/insecure", "get-insecure-random-u64") => {
            Ok(Some(Val::U64(SEED)))
        }
        ("wasi:random/random" | "wasi:random/insecure", _) => {
            random_bytes(params).map(Some).ok_or_else(|| refuse(name))
        }
        ("wasi:clocks/wall-clock", _) => {
            let zero = vec![("seconds".to_owned(), Val::U64(0)), ("nanoseconds".to_owned(), Val::U32(0))];
            Ok(Some(Val::Record(zero)))
        }
        ("wasi:clocks/monotonic-clock", "now" | "resolution") => Ok(Some(Val::U64(0))),
        _ => Err(refuse(name)),
    }
}

fn refuse(name: &str) -> wasmtime::Error {
    wasmtime::Error::from(NotThere(name.to_owned()))
}

fn resource(store: &mut StoreContextMut<'_, Guest>, number: u32) -> wasmtime::Result<Option<Val>> {
    let resource = Resource::<Stub>::new_own(number);
    Ok(Some(Val::Resource(resource.try_into_resource_any(store)?)))
}

fn random_bytes(params: &[Val]) -> Option<Val> {
    let Some(Val::U64(length)) = params.first() else {
        return None;
    };
    let length = usize::try_from(*length).ok().filter(|length| *length <= PIECE_BYTES)?;
    Some(Val::List((0..length).map(|i| Val::U8((SEED >> (i % 8 * 8)) as u8)).collect()))
}

/// A write to stdout or stderr is a line of the log.
fn write(store: &mut StoreContextMut<'_, Guest>, params: &[Val]) {
    let Some(Val::List(bytes)) = params.get(1) else {
        return;
    };
    let bytes: Vec<u8> =
        bytes.iter().filter_map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None }).collect();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    if let Some(logs) = store.data_mut().log.take() {
        logs.push(2, text);
    }
}
