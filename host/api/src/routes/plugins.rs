//! Plugins and their versions. Built-ins are read under `builtin/`.

use std::fmt::Write as _;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use pointsman_api_types::plugin::{Kind, Plugin, PluginVersion};
use pointsman_api_types::{Code, Decimal, Time};
use pointsman_broker::Error;
use pointsman_broker::view::{PluginVersionView, Precondition};
use pointsman_model::judge;

use super::{detached, dry_run};
use crate::body::{self, Cap};
use crate::context::Cx;
use crate::failure::Failure;
use crate::{answer, conditional, cursor, headers};

const WASM_TYPE: &str = "application/wasm";

/// The contract's word for a kind.
pub(super) fn kind(kind: judge::Kind) -> Kind {
    match kind {
        judge::Kind::Selector => Kind::Selector,
        judge::Kind::Filter => Kind::Filter,
        judge::Kind::Dedup => Kind::Dedup,
        judge::Kind::Retry => Kind::Retry,
        judge::Kind::CheckBack => Kind::CheckBack,
        judge::Kind::Admit => Kind::Admit,
        judge::Kind::Assign => Kind::Assign,
    }
}

/// A digest as it is shown.
pub(super) fn digest(bytes: &[u8; 32]) -> String {
    bytes.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn shown(version: PluginVersionView) -> PluginVersion {
    let digest = digest(&version.digest);
    PluginVersion {
        name: version.name,
        version: version.version,
        digest,
        kind: kind(version.kind),
        imports: version.imports,
        size_bytes: Decimal(version.size_bytes),
        compile_ms: version.compile_ms,
        warnings: version.warnings,
        created_at: version.created_at.map(|at| Time(at.0)),
    }
}

/// The plugin that the path names.
fn name(cx: &Cx) -> String {
    match cx.path("builtin") {
        "" => cx.path("plugin").to_owned(),
        builtin => format!("builtin/{builtin}"),
    }
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    answer::list(cx.app.broker.list_plugins(&cx.call, cx.tenant(), &page).await?, shown)
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let name = name(&cx);
    let mut versions = cx.app.broker.get_plugin(&cx.call, cx.tenant(), &name).await?;
    versions.reverse();
    let Some(newest) = versions.first() else { return Err(Error::PluginNotFound(name).into()) };
    let plugin = Plugin {
        kind: kind(newest.kind),
        latest: newest.version.clone(),
        versions: versions.into_iter().map(shown).collect(),
        name,
    };
    answer::json(StatusCode::OK, &plugin)
}

pub(crate) async fn versions(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let versions = cx.app.broker.get_plugin(&cx.call, cx.tenant(), &name(&cx)).await?;
    answer::list(cursor::page(&cx.list_name("versions"), versions, &page)?, shown)
}

pub(crate) async fn get_version(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let version = cx.app.broker.get_plugin_version(&cx.call, cx.tenant(), &name(&cx), cx.path("version")).await?;
    answer::json(StatusCode::OK, &shown(version))
}

pub(crate) async fn wasm(cx: Cx) -> Result<Response, Failure> {
    cx.query(&[]).await?;
    cx.accept(&[WASM_TYPE]).await?;
    let bytes = cx.app.broker.plugin_component(&cx.call, cx.tenant(), &name(&cx), cx.path("version")).await?;
    Ok(answer::bytes_of(StatusCode::OK, WASM_TYPE, bytes))
}

pub(crate) async fn put_version(cx: Cx, body: Body) -> Result<Response, Failure> {
    let query = cx.json_query(&["validate_only"]).await?;
    let checked = async {
        let validate_only = query.flag("validate_only")?;
        if headers::media_type(&cx.headers)?.as_deref() != Some(WASM_TYPE) {
            return Err(Failure::at(Code::UnsupportedMediaType, "Content-Type", WASM_TYPE)
                .with_header(header::ACCEPT, HeaderValue::from_static(WASM_TYPE)));
        }
        let component = body::read(&cx.app.bodies, &cx.headers, body, Cap::PLUGIN).await?;
        Ok((validate_only, component, conditional::precondition(&cx.headers)?))
    };
    let (validate_only, component, expect) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (tenant, name, version) = (cx.tenant().to_owned(), name(&cx), cx.path("version").to_owned());
    demand(&cx, &name, &version, &expect).await?;
    let (broker, call) = (cx.broker(), cx.call.clone());
    let written =
        detached(async move { broker.put_plugin(&call, &tenant, &name, &version, component, validate_only).await })
            .await?;
    let created = written.created && !validate_only;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    answer::json(status, &shown(written.object))
}

/// A version never changes, so looking before the write is enough: at worst the same bytes were put meanwhile.
async fn demand(cx: &Cx, name: &str, version: &str, expect: &Precondition) -> Result<(), Failure> {
    if *expect == Precondition::Anything {
        return Ok(());
    }
    let there = match cx.app.broker.get_plugin_version(&cx.call, cx.tenant(), name, version).await {
        Ok(_) => true,
        Err(Error::PluginNotFound(_)) => false,
        Err(error) => return Err(error.into()),
    };
    let holds = match expect {
        Precondition::Absent => !there,
        Precondition::Present => there,
        // Versions have no tags, so none matches.
        _ => false,
    };
    if holds { Ok(()) } else { Err(Error::PreconditionFailed.into()) }
}

pub(crate) async fn delete_version(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let (dry, expect) = match query.flag("dry_run").and_then(|dry| Ok((dry, cx.precondition()?))) {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (tenant, name, version) = (cx.tenant().to_owned(), name(&cx), cx.path("version").to_owned());
    demand(&cx, &name, &version, &expect).await?;
    if dry {
        return dry_run::plugin_version(&cx, &name, &version).await;
    }
    let (broker, call) = (cx.broker(), cx.call.clone());
    detached(async move { broker.delete_plugin_version(&call, &tenant, &name, &version).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
