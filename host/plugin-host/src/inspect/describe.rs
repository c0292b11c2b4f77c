//! Component types as text, in the notation of WIT, to compare and to show.

use std::fmt::Write as _;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentValType,
};
use wasmparser::types::Types;

/// Longest text of a type. Types share their parts, so a small component may describe a huge one.
const TEXT_BYTES_MAX: usize = 2_000;

/// The text of a function type; cut where it is too long, and then equal to no type of the contract.
pub(super) fn function(types: &Types, function: ComponentFuncTypeId) -> String {
    let function = &types[function];
    let mut text = String::from(if function.async_ { "async func(" } else { "func(" });
    for (i, (name, ty)) in function.params.iter().enumerate() {
        let _ = write!(text, "{}{name}: ", if i == 0 { "" } else { ", " });
        value(types, *ty, &mut text);
    }
    text.push(')');
    if let Some(result) = function.result {
        text.push_str(" -> ");
        value(types, result, &mut text);
    }
    text
}

/// Whether this is a type that asks nothing of whoever provides it (and no resource, which does).
pub(super) fn is_plain_type(types: &Types, entity: ComponentEntityType) -> bool {
    let ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(id), .. } = entity else {
        return false;
    };
    !matches!(types[id], ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_))
}

fn value(types: &Types, ty: ComponentValType, text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        if !text.ends_with('…') {
            text.push('…');
        }
        return;
    }
    match ty {
        ComponentValType::Primitive(primitive) => {
            let _ = write!(text, "{primitive}");
        }
        ComponentValType::Type(id) => defined(types, &types[id], text),
    }
}

fn defined(types: &Types, ty: &ComponentDefinedType, text: &mut String) {
    let mut group = |name: &str, parts: &[(&str, Option<ComponentValType>)]| {
        let _ = write!(text, "{name}<");
        for (i, (label, part)) in parts.iter().enumerate() {
            let colon = if label.is_empty() || part.is_none() { "" } else { ": " };
            let _ = write!(text, "{}{label}{colon}", if i == 0 { "" } else { ", " });
            if let Some(part) = part {
                value(types, *part, text);
            }
        }
        text.push('>');
    };
    match ty {
        ComponentDefinedType::Primitive(primitive) => {
            let _ = write!(text, "{primitive}");
        }
        ComponentDefinedType::Record(record) => {
            let fields: Vec<_> = record.fields.iter().map(|(name, ty)| (name.as_str(), Some(*ty))).collect();
            group("record", &fields);
        }
        ComponentDefinedType::Variant(variant) => {
            let cases: Vec<_> = variant.cases.iter().map(|(name, case)| (name.as_str(), case.ty)).collect();
            group("variant", &cases);
        }
        ComponentDefinedType::List { element, .. } => group("list", &[("", Some(*element))]),
        ComponentDefinedType::Tuple(tuple) => {
            let parts: Vec<_> = tuple.types.iter().map(|ty| ("", Some(*ty))).collect();
            group("tuple", &parts);
        }
        ComponentDefinedType::Option { ty, .. } => group("option", &[("", Some(*ty))]),
        ComponentDefinedType::Result { ok, err, .. } => group("result", &[("", *ok), ("", *err)]),
        ComponentDefinedType::Flags(names) => {
            group("flags", &names.iter().map(|name| (name.as_str(), None)).collect::<Vec<_>>());
        }
        ComponentDefinedType::Enum(names) => {
            group("enum", &names.iter().map(|name| (name.as_str(), None)).collect::<Vec<_>>());
        }
        ComponentDefinedType::FixedLengthList { element, length, .. } => {
            group(&format!("list-of-{length}"), &[("", Some(*element))]);
        }
        ComponentDefinedType::Map { key, value, .. } => group("map", &[("", Some(*key)), ("", Some(*value))]),
        ComponentDefinedType::Own(_) => text.push_str("own"),
        ComponentDefinedType::Borrow(_) => text.push_str("borrow"),
        ComponentDefinedType::Future { ty, .. } => group("future", &[("", *ty)]),
        ComponentDefinedType::Stream { ty, .. } => group("stream", &[("", *ty)]),
    }
}
