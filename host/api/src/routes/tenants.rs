//! Tenants.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::Time;
use pointsman_api_types::tenant::{DryDelete, Tenant, TenantInput};
use pointsman_broker::{Error, state};

use super::{check_name, control_body, detached, from_json};
use crate::context::Cx;
use crate::failure::Failure;
use crate::{answer, headers};

fn shown(tenant: &state::Tenant) -> Tenant {
    Tenant { name: tenant.name.as_str().to_owned(), created_at: Time(tenant.created_at.0) }
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    answer::list(cx.app.broker.list_tenants(&cx.call, &page).await?, |tenant| shown(&tenant))
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let tenant = cx.app.broker.get_tenant(&cx.call, cx.tenant()).await?;
    answer::read(&cx.headers, tenant.revision, &shown(&tenant))
}

pub(crate) async fn put(cx: Cx, body: Body) -> Result<Response, Failure> {
    // A PUT may create the tenant: its absence is no earlier refusal.
    cx.query_now(&[], &[], false)?;
    headers::accept(&cx.headers, &["application/json"])?;
    let bytes = control_body(&cx, body, &[]).await?;
    let input: TenantInput = from_json(&bytes)?;
    check_name(input.name.as_deref(), cx.tenant())?;
    if let Some(created_at) = input.created_at {
        match cx.app.broker.get_tenant(&cx.call, cx.tenant()).await {
            Ok(tenant) if Time(tenant.created_at.0) == created_at => {}
            Ok(_) | Err(Error::TenantNotFound) => {
                return Err(Failure::invalid("/created_at", "is set by the server"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let expect = cx.precondition()?;
    let (broker, call, name) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    let written = detached(async move { broker.put_tenant(&call, &name, expect).await }).await?;
    answer::written(written.created, written.object.revision, &shown(&written.object))
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let (dry_run, expect) = (query.flag("dry_run")?, cx.precondition()?);
    if dry_run {
        cx.app.broker.check_tenant_delete(&cx.call, cx.tenant(), &expect).await?;
        let would = DryDelete { dry_run: true, would: "delete".to_owned(), messages: None, bindings: None };
        return answer::json(StatusCode::OK, &would);
    }
    let (broker, call, name) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    detached(async move { broker.delete_tenant(&call, &name, expect).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
