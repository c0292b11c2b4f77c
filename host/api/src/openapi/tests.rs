//! The document against the router and against the rules of OpenAPI that tools trip over.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_route_has_operations_and_every_operation_a_route() {
    let routes: BTreeSet<_> = crate::routes::table().into_iter().map(|(path, _)| path).collect();
    let described: BTreeSet<_> = operations::all().map(|operation| operation.path).collect();
    assert_eq!(routes, described);
}

#[test]
fn every_response_is_described() {
    let document = assemble();
    let mut responses = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let description = response["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{method} {path} {status}");
                responses += 1;
            }
            assert!(operation["responses"]["400"].is_object(), "{method} {path}");
        }
    }
    assert!(responses > 200, "{responses}");
}

#[test]
fn operation_ids_are_unique_and_references_lead_somewhere() {
    let ids: BTreeSet<_> = operations::all().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations::all().count());
    let document = assemble();
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("local");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                pending.extend(fields.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
}

#[test]
fn the_document_is_the_reviewed_one() {
    insta::assert_json_snapshot!(assemble());
}
