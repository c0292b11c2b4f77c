//! Schedules.

use pointsman_api_types::Code;

use super::{Input, JSON, Operation, answer};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/tenants/{tenant}/schedules",
        method: "get",
        id: "list_schedules",
        summary: "List the schedules by name",
        tag: "delay",
        parameters: &["limit", "cursor", "Pm-Timeout-Ms", "Pm-Request-Id"],
        input: None,
        answers: &[answer(200, "A page of schedules.", &[(JSON, "List_Schedule")])],
        codes: &[Code::InvalidCursor],
    },
    Operation {
        path: "/v1/tenants/{tenant}/schedules/{schedule}",
        method: "get",
        id: "get_schedule",
        summary: "Get a schedule",
        tag: "delay",
        parameters: &["If-None-Match", "Pm-Timeout-Ms", "Pm-Request-Id"],
        input: None,
        answers: &[
            answer(200, "The schedule.", &[(JSON, "Schedule")]),
            answer(304, "Not changed since the revision in If-None-Match.", &[]),
        ],
        codes: &[Code::ScheduleNotFound],
    },
    Operation {
        path: "/v1/tenants/{tenant}/schedules/{schedule}",
        method: "put",
        id: "put_schedule",
        summary: "Create or replace a schedule",
        tag: "delay",
        parameters: &["If-Match", "If-None-Match", "Pm-Timeout-Ms", "Pm-Request-Id"],
        input: Some(Input { required: true, contents: &[(JSON, "ScheduleInput")] }),
        answers: &[
            answer(201, "Created.", &[(JSON, "Schedule")]),
            answer(200, "Replaced, or the same as before.", &[(JSON, "Schedule")]),
        ],
        codes: &[Code::TopicNotFound, Code::PreconditionFailed, Code::MessageTooLarge, Code::QuotaExceeded],
    },
    Operation {
        path: "/v1/tenants/{tenant}/schedules/{schedule}",
        method: "delete",
        id: "delete_schedule",
        summary: "Delete a schedule; what it published stays",
        tag: "delay",
        parameters: &["dry_run", "If-Match", "If-None-Match", "Pm-Timeout-Ms", "Pm-Request-Id"],
        input: None,
        answers: &[
            answer(200, "What would be done (`dry_run`).", &[(JSON, "DryDelete")]),
            answer(204, "Deleted.", &[]),
        ],
        codes: &[Code::ScheduleNotFound, Code::PreconditionFailed],
    },
];
