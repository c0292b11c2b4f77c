//! What a node says about itself.

use super::{JSON, Operation, answer};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/health/live",
        method: "get",
        id: "health_live",
        summary: "The process answers",
        tag: "node",
        parameters: &[],
        input: None,
        answers: &[answer(200, "It does.", &[(JSON, "Health")])],
        codes: &[],
    },
    Operation {
        path: "/health/ready",
        method: "get",
        id: "health_ready",
        summary: "The node takes work",
        tag: "node",
        parameters: &[],
        input: None,
        answers: &[
            answer(200, "It does.", &[(JSON, "Health")]),
            answer(503, "It does not; the checks say why.", &[(JSON, "Health")]),
        ],
        codes: &[],
    },
    Operation {
        path: "/metrics",
        method: "get",
        id: "metrics",
        summary: "Metrics in OpenMetrics text",
        tag: "node",
        parameters: &[],
        input: None,
        answers: &[answer(200, "The metrics.", &[("application/openmetrics-text", "")])],
        codes: &[],
    },
    Operation {
        path: "/openapi.json",
        method: "get",
        id: "openapi",
        summary: "This document",
        tag: "node",
        parameters: &[],
        input: None,
        answers: &[answer(200, "The document.", &[(JSON, "")])],
        codes: &[],
    },
    Operation {
        path: "/version",
        method: "get",
        id: "version",
        summary: "What runs here",
        tag: "node",
        parameters: &[],
        input: None,
        answers: &[answer(200, "Release, commit and feature level.", &[(JSON, "Version")])],
        codes: &[],
    },
];
