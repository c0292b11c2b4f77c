//! Compiling: in a child, within limits, and from the cache.

use std::path::{Path, PathBuf};

use super::*;
use crate::{Error, compiler};

/// What the test harness writes to stdout before a test does.
const HARNESS_WORDS: &str = "\nrunning 1 test\n";

/// This test binary, as a compiler: it runs only [`the_child`], which does nothing unless asked to.
fn child(data_bytes_max: u64, cpu_s_max: u64) -> Compiler {
    let exe = std::env::current_exe().expect("a path");
    let limits = format!("POINTSMAN_TEST_COMPILE={data_bytes_max},{cpu_s_max}");
    let script = format!("{limits} exec {exe:?} --exact tests::code::the_child --nocapture --quiet");
    Compiler::Child { exe: "/bin/sh".into(), args: vec!["-c".into(), script] }
}

/// The same, without the words of the test harness before the code.
fn quiet_child() -> Compiler {
    let Compiler::Child { exe, mut args } =
        child(limits::PLUGIN_COMPILE_DATA_BYTES_MAX, limits::PLUGIN_COMPILE_CPU_S_MAX)
    else {
        panic!("a child");
    };
    args[1] = format!("({}) | tail -c +{}", args[1], HARNESS_WORDS.len() + 1);
    Compiler::Child { exe, args }
}

#[test]
fn a_child_compiles() {
    let host = PluginHost::new(HostConfig { compiler: quiet_child(), ..HostConfig::default() });
    let host = host.expect("a host");
    let tags = builtin("tags").expect("there");
    host.compile_now(tags.digest, tags.bytes).expect("it compiles");
    let spec = spec(tags, r#"{"expression":"a"}"#);
    let plan = host.try_init_now(&spec).expect("a good config");
    let bound = host.bind(spec, plan).expect("compiled");
    assert_eq!(host.filter_now(&bound, vec![column(&["a", "b"])], 2).expect("a batch"), [YES, NO]);
}

#[test]
fn the_child() {
    let Ok(limits) = std::env::var("POINTSMAN_TEST_COMPILE") else {
        return;
    };
    let (data, cpu) = limits.split_once(',').expect("two numbers");
    let done = compiler::compile_child(data.parse().expect("bytes"), cpu.parse().expect("seconds"));
    if let Err(error) = done {
        eprintln!("{error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn compile_error(compiler: &Compiler, wasm: &[u8]) -> String {
    let engine = crate::engine::engine().expect("an engine");
    match compiler.compile(&engine, wasm) {
        Ok(_) => panic!("it compiled"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_child_says_what_is_wrong() {
    let compiler = child(limits::PLUGIN_COMPILE_DATA_BYTES_MAX, limits::PLUGIN_COMPILE_CPU_S_MAX);
    let error = compile_error(&compiler, b"\0asm\x0d\0\x01\0 and then nonsense");
    assert!(error.starts_with("the component cannot be compiled: "), "{error}");
    assert!(!error.contains("signal"), "{error}");
}

#[test]
fn a_child_is_stopped_by_its_limits() {
    let tags = builtin("tags").expect("there").bytes;
    let error = compile_error(&child(1 << 20, limits::PLUGIN_COMPILE_CPU_S_MAX), tags);
    assert!(error.contains("signal") || error.contains("memory") || error.contains("allocat"), "{error}");
    let error = compile_error(&child(limits::PLUGIN_COMPILE_DATA_BYTES_MAX, 0), tags);
    assert!(error.contains("signal"), "{error}");
}

#[test]
fn a_compiler_that_is_not_there_is_an_error() {
    let compiler = Compiler::Child { exe: "/nowhere/pointsman".into(), args: vec![] };
    assert!(compile_error(&compiler, b"").contains("cannot be run"));
}

fn host(cache_dir: &Path, compiler: Compiler) -> PluginHost {
    let cache_dir = Some(cache_dir.to_owned());
    PluginHost::new(HostConfig { cache_dir, compiler, ..HostConfig::default() }).expect("a host")
}

/// The one file under a cache directory.
fn cached(dir: &Path, component: &Builtin) -> PathBuf {
    let entries = std::fs::read_dir(dir.join(component.digest.hex())).expect("a directory");
    let files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn code_is_kept_and_damage_is_compiled_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let tags = builtin("tags").expect("there");
    let nowhere = Compiler::Child { exe: "/nowhere/pointsman".into(), args: vec![] };
    host(dir.path(), Compiler::InProcess).compile_now(tags.digest, tags.bytes).expect("it compiles");
    let path = cached(dir.path(), tags);
    let whole = std::fs::read(&path).expect("code");

    let without_compiler = host(dir.path(), nowhere.clone());
    without_compiler.compile_now(tags.digest, tags.bytes).expect("from the cache");
    assert!(without_compiler.is_compiled(&tags.digest));

    for at in [0, 8, 40, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        let error = host(dir.path(), nowhere.clone()).compile_now(tags.digest, tags.bytes).expect_err("byte {at}");
        assert!(matches!(error, Error::Compile(_)), "byte {at}: {error}");
        assert!(!path.exists(), "byte {at}: damage is removed");
    }
    for length in [0, 8, 39, 40, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        let host = host(dir.path(), Compiler::InProcess);
        host.compile_now(tags.digest, tags.bytes).expect("compiled again");
        assert_eq!(std::fs::read(&path).expect("code").len(), whole.len(), "{length} bytes");
    }
}

#[test]
fn a_forgotten_component_lives_on_in_its_bindings() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_filter(), "{}");
    bench.host.forget(&bound.spec().digest);
    assert!(!bench.host.is_compiled(&bound.spec().digest));
    assert_eq!(bench.filter(&bound, &["yes"]), [YES]);
}
