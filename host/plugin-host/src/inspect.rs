//! Looking at uploaded bytes before anything is compiled: is this a component of one of our worlds?
//!
//! Everything here is linear in the size of the upload. Types are compared with those of our own components,
//! which are made from `wit/`, so the contract stands in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use pointsman_model::judge::Kind;
use pointsman_model::limits;
use wasmparser::component_types::{ComponentEntityType, ComponentItem};
use wasmparser::types::Types;
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::wit::wasi;
use crate::{Digest, builtin};

mod describe;

/// What an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The kind of plugin.
    pub kind: Kind,
    /// The digest of the bytes.
    pub digest: Digest,
    /// Functions and interfaces it imports, by name.
    pub imports: Vec<String>,
    /// What its author may want to know.
    pub warnings: Vec<String>,
}

/// Why an upload is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// `not-a-component`, `forbidden-import`, `missing-export`, `wrong-export` or `limit`.
    pub code: &'static str,
    /// What is wrong, by name.
    pub detail: String,
}

impl Complaint {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// The interface of a component as text: name → type.
struct Interface {
    imports: BTreeMap<String, String>,
    exports: BTreeMap<String, String>,
}

/// An instance that holds types only: it asks for nothing.
const TYPES_ONLY: &str = "types";

/// The contract, read from our own components: a kind is told by what it exports beside `init`.
struct Contract {
    init: String,
    log: String,
    worlds: Vec<World>,
}

struct World {
    kind: Kind,
    /// Names and types of the functions that judge.
    exports: Vec<(&'static str, String)>,
}

impl World {
    fn is_of(&self, interface: &Interface) -> bool {
        self.exports.iter().all(|(name, ty)| interface.exports.get(*name) == Some(ty))
    }
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let of = |map: &BTreeMap<String, String>, name: &str| map.get(name).cloned().unwrap_or_default();
    let read = |name: &str| {
        let component = builtin(name).map_or(&[][..], |builtin| builtin.bytes);
        interface(component).unwrap_or(Interface { imports: BTreeMap::new(), exports: BTreeMap::new() })
    };
    let world = |kind, name, exports: &[&'static str]| {
        let interface = read(name);
        World { kind, exports: exports.iter().map(|export| (*export, of(&interface.exports, export))).collect() }
    };
    let tags = read("tags");
    Contract {
        init: of(&tags.exports, "init"),
        log: of(&tags.imports, "log"),
        worlds: vec![
            world(Kind::Filter, "tags", &["evaluate"]),
            world(Kind::Selector, "hash", &["evaluate"]),
            world(Kind::Dedup, "key-window", &["evaluate"]),
            world(Kind::Retry, "backoff", &["decide"]),
            world(Kind::CheckBack, "webhook", &["check", "answer"]),
        ],
    }
});

/// Says what an upload is, or everything that is wrong with it.
///
/// # Errors
/// At least one complaint.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Vec<Complaint>> {
    if bytes.len() > limits::PLUGIN_BYTES_CAP as usize {
        let detail = format!("{} bytes, at most {}", bytes.len(), limits::PLUGIN_BYTES_CAP);
        return Err(vec![Complaint::new("limit", detail)]);
    }
    let interface = interface(bytes).map_err(|complaint| vec![complaint])?;
    let mut complaints = Vec::new();
    let mut imports = Vec::new();
    let mut warnings = Vec::new();
    for (name, ty) in &interface.imports {
        match (name.as_str(), ty.as_str()) {
            ("log", ty) if ty == CONTRACT.log => imports.push(name.clone()),
            ("log", ty) => {
                let detail = format!("`log` is imported as `{ty}`, the contract says `{}`", CONTRACT.log);
                complaints.push(Complaint::new("forbidden-import", detail));
            }
            (_, TYPES_ONLY) => {}
            (name, _) if wasi::is_stubbed(name) => imports.push(name.to_owned()),
            (name, _) => {
                complaints.push(Complaint::new("forbidden-import", format!("`{name}` is not there for plugins")))
            }
        }
    }
    let stubbed = imports.iter().filter(|import| wasi::is_stubbed(import)).count();
    if stubbed > 0 {
        warnings.push(format!(
            "{stubbed} WASI interfaces are met by stubs: no files, no environment, a clock that stands, output to the log"
        ));
    }
    check_export(&interface, "init", &[&CONTRACT.init], &mut complaints);
    let kind = CONTRACT.worlds.iter().find(|world| world.is_of(&interface)).map(|world| world.kind);
    if kind.is_none() {
        complain_of_worlds(&interface, &mut complaints);
    }
    match kind {
        Some(kind) if complaints.is_empty() => Ok(Inspection { kind, digest: Digest::of(bytes), imports, warnings }),
        _ => Err(complaints),
    }
}

/// Says of a component that is of no world what is wrong with the exports that it shares with some.
fn complain_of_worlds(interface: &Interface, complaints: &mut Vec<Complaint>) {
    let is_there = |name: &str| interface.exports.contains_key(name);
    let tried: Vec<_> =
        CONTRACT.worlds.iter().filter(|world| world.exports.iter().any(|(name, _)| is_there(name))).collect();
    if tried.is_empty() {
        let list = |world: &World| {
            let names: Vec<_> = world.exports.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("{} of a {}", names.join(" and "), world.kind)
        };
        let worlds: Vec<_> = CONTRACT.worlds.iter().map(list).collect();
        complaints.push(Complaint::new("missing-export", format!("nothing that judges: {}", worlds.join(", "))));
    }
    let names: BTreeSet<_> = tried.iter().flat_map(|world| world.exports.iter().map(|(name, _)| *name)).collect();
    for name in names {
        let of_name = tried.iter().flat_map(|world| world.exports.iter().filter(|(export, _)| *export == name));
        let allowed: Vec<_> = of_name.map(|(_, ty)| ty).collect();
        check_export(interface, name, &allowed, complaints);
    }
}

fn check_export(interface: &Interface, name: &str, allowed: &[&String], complaints: &mut Vec<Complaint>) {
    match interface.exports.get(name) {
        None => complaints.push(Complaint::new("missing-export", format!("`{name}` is not exported"))),
        Some(ty) if allowed.contains(&ty) => {}
        Some(ty) => {
            let allowed: Vec<_> = allowed.iter().map(|ty| format!("`{ty}`")).collect();
            let detail = format!("`{name}` is exported as `{ty}`; the contract says {}", allowed.join(" or "));
            complaints.push(Complaint::new("wrong-export", detail));
        }
    }
}

/// Validates the bytes and reads the component's imports and exports.
fn interface(bytes: &[u8]) -> Result<Interface, Complaint> {
    let not_a_component = |detail: String| Complaint::new("not-a-component", detail);
    let mut parser = Parser::new(0).parse_all(bytes);
    match parser.next() {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => {}
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => {
            return Err(not_a_component(
                "a core module; make a component of it (`pointsman plugin build` does)".into(),
            ));
        }
        Some(Err(error)) => return Err(not_a_component(format!("no WebAssembly: {error}"))),
        _ => return Err(not_a_component("no WebAssembly".into())),
    }
    let features = WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::MULTI_MEMORY;
    let types = Validator::new_with_features(features | WasmFeatures::COMPONENT_MODEL)
        .validate_all(bytes)
        .map_err(|error| not_a_component(error.to_string()))?;
    let (imports, exports) = names(bytes).map_err(|error| not_a_component(error.to_string()))?;
    let read = |names: Vec<String>, lookup: &dyn Fn(&str) -> Option<ComponentItem>| {
        let ty = |name: String| lookup(&name).map(|item| (name, entity_text(&types, item.ty)));
        names.into_iter().filter_map(ty).collect()
    };
    Ok(Interface {
        imports: read(imports, &|name| types.component_item_for_import(name).cloned()),
        exports: read(exports, &|name| types.component_item_for_export(name).cloned()),
    })
}

fn entity_text(types: &Types, entity: ComponentEntityType) -> String {
    match entity {
        ComponentEntityType::Func(function) => describe::function(types, function),
        ComponentEntityType::Instance(instance) => {
            let asks = |entity: &ComponentEntityType| !describe::is_plain_type(types, *entity);
            let asks = types[instance].exports.values().any(|export| asks(&export.ty));
            if asks { "interface" } else { TYPES_ONLY }.to_owned()
        }
        entity if describe::is_plain_type(types, entity) => TYPES_ONLY.to_owned(),
        _ => "something else".to_owned(),
    }
}

/// Names of what the outermost component imports and exports.
fn names(bytes: &[u8]) -> wasmparser::Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

#[cfg(test)]
mod tests;
