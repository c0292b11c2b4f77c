//! axum routes, SSE, OpenAPI.
