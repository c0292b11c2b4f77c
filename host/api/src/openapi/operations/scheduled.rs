//! Messages that wait for their time.

use pointsman_api_types::Code;

use super::{Input, JSON, Operation, answer};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/tenants/{tenant}/topics/{topic}/scheduled",
        method: "get",
        id: "list_scheduled",
        summary: "List messages that wait for their time, the earliest first",
        tag: "delay",
        parameters: &["limit", "cursor", "Pm-Timeout-Ms", "Pm-Request-Id"],
        input: None,
        answers: &[answer(200, "The messages.", &[(JSON, "List_Message")])],
        codes: &[Code::TopicNotFound, Code::InvalidCursor],
    },
    Operation {
        path: "/v1/tenants/{tenant}/scheduled/{id}",
        method: "get",
        id: "get_scheduled",
        summary: "Get a message that waits for its time",
        tag: "delay",
        parameters: &["Pm-Timeout-Ms", "Pm-Request-Id"],
        input: None,
        answers: &[answer(200, "The message.", &[(JSON, "Message")])],
        codes: &[Code::MessageNotFound, Code::AlreadyDelivered],
    },
    Operation {
        path: "/v1/tenants/{tenant}/scheduled/{id}",
        method: "patch",
        id: "change_scheduled",
        summary: "Deliver a message that waits for its time at another time",
        tag: "delay",
        parameters: &["Pm-Timeout-Ms", "Pm-Request-Id"],
        input: Some(Input {
            required: true,
            contents: &[(JSON, "ScheduledInput"), ("application/merge-patch+json", "ScheduledInput")],
        }),
        answers: &[answer(200, "The message with its new time.", &[(JSON, "Message")])],
        codes: &[Code::MessageNotFound, Code::AlreadyDelivered],
    },
    Operation {
        path: "/v1/tenants/{tenant}/scheduled/{id}",
        method: "delete",
        id: "cancel_scheduled",
        summary: "Cancel a message that waits for its time",
        tag: "delay",
        parameters: &["dry_run", "Pm-Timeout-Ms", "Pm-Request-Id"],
        input: None,
        answers: &[
            answer(200, "What would be done (`dry_run`).", &[(JSON, "DryDelete")]),
            answer(204, "Cancelled: it is never delivered.", &[]),
        ],
        codes: &[Code::MessageNotFound, Code::AlreadyDelivered],
    },
];
