//! Tokens, quotas, usage, the audit, the end of a tenant.

use pointsman_model::limits;
use pointsman_model::record::kind;

use super::commands::{delete, group_config, publish, put, put_if, topic_config};
use super::*;
use crate::command::{Author, Expect, Object, PublishHead, Quota, Target};
use crate::outcome::{Outcome, Refusal};

fn home(name: &str) -> Command {
    put(Object::TenantHome { name: name.into(), shard: 1 })
}

fn token(id: &str, tenant: &str, scopes: &[&str]) -> Command {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    put_if(
        Expect::Absent,
        Object::Token { id: id.into(), tenant: tenant.into(), hash: [7; 32], scopes, expires_at: Some(9) },
    )
}

fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_are_put_revoked_and_loaded_again() {
    let mut shard = Shard::new();
    assert_eq!(refused(shard.one(token("a", "acme", &["operator"]))), Refusal::TenantNotFound);
    shard.one(home("acme"));
    shard.one(home("other"));
    assert!(matches!(shard.one(token("a", "acme", &["operator"])), Outcome::Configured { created: true, .. }));
    assert_eq!(refused(shard.one(token("a", "acme", &["operator"]))), Refusal::PreconditionFailed);
    for bad in ["", "a_b", "é", &"x".repeat(128)] {
        assert!(matches!(refused(shard.one(token(bad, "acme", &["operator"]))), Refusal::Malformed(_)), "{bad}");
    }
    assert!(matches!(refused(shard.one(token("b", "acme", &["everything"]))), Refusal::Malformed(_)));
    shard.one(token("b", "other", &["publish:*"]));
    assert!(shard.machine.state().has_operator_token());
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());

    let revoke = |tenant: &str, id: &str| delete(Target::Token(tenant.into(), id.into()));
    assert_eq!(refused(shard.one(revoke("other", "a"))), Refusal::TokenNotFound, "another's");
    assert_eq!(shard.one(revoke("acme", "a")), Outcome::Deleted);
    assert_eq!(refused(shard.one(revoke("acme", "a"))), Refusal::TokenNotFound);
    assert!(!shard.machine.state().has_operator_token());
    assert!(shard.machine.state().tokens["a"].revoked_at.is_some(), "remembered, so that its bearer hears why");
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());
}

#[test]
fn a_tenant_has_so_many_tokens_and_so_many_revoked_ones() {
    let mut shard = Shard::new();
    shard.one(home("acme"));
    for i in 0..limits::TOKENS_PER_TENANT_MAX {
        assert!(
            matches!(shard.one(token(&format!("t{i}"), "acme", &["publish:*"])), Outcome::Configured { .. }),
            "{i}"
        );
    }
    let more = shard.one(token("more", "acme", &["publish:*"]));
    assert_eq!(refused(more), Refusal::QuotaExceeded("tokens", limits::TOKENS_PER_TENANT_MAX as u64));
    for i in 0..limits::TOKENS_PER_TENANT_MAX {
        shard.one(delete(Target::Token("acme".into(), format!("t{i}"))));
    }
    shard.one(token("more", "acme", &["publish:*"]));
    shard.one(delete(Target::Token("acme".into(), "more".into())));
    assert_eq!(shard.machine.state().tokens.len(), limits::TOKENS_REVOKED_KEPT, "the first revoked is forgotten");
}

#[test]
fn a_home_with_an_operator_token_stays() {
    let mut shard = Shard::new();
    shard.one(home("acme"));
    shard.one(token("a", "acme", &["operator"]));
    let gone = delete(Target::TenantHome("acme".into()));
    assert_eq!(refused(shard.one(gone.clone())), Refusal::InUse(vec!["tokens/a".into()]));
    shard.one(delete(Target::Token("acme".into(), "a".into())));
    shard.one(token("b", "acme", &["publish:*"]));
    assert_eq!(shard.one(gone), Outcome::Deleted);
    assert!(shard.machine.state().homes.is_empty() && shard.machine.state().tokens.is_empty());
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());
}

#[test]
fn counted_quotas_are_decided_here() {
    let mut shard = Shard::with_group();
    let quota = Quota { topics: Some(2), groups: Some(1), ..Quota::default() };
    assert!(matches!(shard.one(put_if(Expect::Revision(vec![0]), Object::Quota(quota))), Outcome::Configured { .. }));
    let again = put_if(Expect::Revision(vec![0]), Object::Quota(Quota::default()));
    assert_eq!(refused(shard.one(again)), Refusal::PreconditionFailed);
    let topic = |name: &str| put(Object::Topic { name: name.into(), config: topic_config(Some(1)) });
    assert!(matches!(shard.one(topic("second")), Outcome::Configured { created: true, .. }));
    assert_eq!(refused(shard.one(topic("third"))), Refusal::QuotaExceeded("topics", 2));
    assert!(matches!(shard.one(topic("second")), Outcome::Configured { created: false, .. }), "no new one");
    let group = put(Object::Group { name: "more".into(), config: group_config(&["second"]) });
    assert_eq!(refused(shard.one(group)), Refusal::QuotaExceeded("groups", 1));
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());
}

#[test]
fn usage_grows_with_messages_and_storage_goes_with_its_topic() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let tenant = shard.machine.state().topics[&topic].tenant;
    shard.entry(&vec![publish(topic, 0, 1, &PublishHead::default()); 3]);
    shard.one(publish(topic, 0, 99, &PublishHead::default()));
    let used = shard.machine.state().usage[&tenant];
    assert_eq!(used.messages, 3, "what is refused is not counted");
    assert_eq!(shard.machine.state().stored_bytes[&tenant], used.bytes);
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());
    let (name, groups) = {
        let state = shard.machine.state();
        (state.topics[&topic].name.to_string(), state.groups.values().map(|g| g.name.to_string()).collect::<Vec<_>>())
    };
    for group in groups {
        shard.one(delete(Target::Group(group)));
    }
    assert_eq!(shard.one(delete(Target::Topic(name))), Outcome::Deleted);
    assert!(shard.machine.state().stored_bytes.is_empty());
    assert_eq!(shard.machine.state().usage[&tenant].messages, 3, "ever stored");
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());
}

#[test]
fn a_tenant_goes_when_nothing_is_in_it() {
    let mut shard = Shard::with_group();
    let (id, name) = {
        let tenant = shard.machine.state().tenants.values().next().unwrap();
        (tenant.id, tenant.name.to_string())
    };
    let gone = delete(Target::Tenant(name.clone()));
    assert!(matches!(refused(shard.one(gone.clone())), Refusal::InUse(users) if users.len() == 2));
    for (groups, topics) in [(true, false), (false, true)] {
        let state = shard.machine.state();
        let names: Vec<_> = if groups {
            state.groups.values().map(|g| Target::Group(g.name.to_string())).collect()
        } else {
            state.topics.values().map(|t| Target::Topic(t.name.to_string())).collect()
        };
        assert_ne!(groups, topics);
        for target in names {
            shard.one(delete(target));
        }
    }
    shard.one(put(Object::Quota(Quota { topics: Some(1), ..Quota::default() })));
    assert_eq!(shard.one(gone.clone()), Outcome::Deleted);
    assert_eq!(refused(shard.one(gone)), Refusal::TenantNotFound);
    let state = shard.machine.state();
    assert!(state.tenants[&id].closed && state.tenants_by_name.is_empty() && state.quotas.is_empty());
    let back = Object::Tenant { name, id: id.0 };
    assert_eq!(refused(shard.one(put(back))), Refusal::TenantNotFound, "its id never comes back");
    let topic = put(Object::Topic { name: "t".into(), config: topic_config(None) });
    assert_eq!(refused(shard.one(topic)), Refusal::TenantNotFound);
    assert_eq!(Machine::load(&shard.rows, SHARD).unwrap().state(), shard.machine.state());
}

#[test]
fn the_audit_keeps_the_newest_of_a_tenant() {
    let mut shard = Shard::with_group();
    let change = |n: u32| {
        let author = Author { by: format!("by{n}"), request_id: "r".into() };
        let object = Object::Quota(Quota { topics: Some(n), ..Quota::default() });
        Command::new(kind::CONFIG_PUT, &ConfigPut { expect: Expect::Anything, object, author })
    };
    let max = limits::AUDIT_ROWS_PER_TENANT_MAX as u32;
    for first in (1..=max + 5).step_by(1_000) {
        let commands: Vec<_> = (first..(first + 1_000).min(max + 6)).map(change).collect();
        shard.entry(&commands);
    }
    let rows = shard.machine.audit(&shard.rows, None, usize::MAX).unwrap();
    assert_eq!(rows.len() as u64, limits::AUDIT_ROWS_PER_TENANT_MAX);
    assert_eq!(rows[0].2.author.by, format!("by{}", max + 5));
    assert_eq!(rows.last().unwrap().2.author.by, "by6", "the oldest are gone");
    let (index, ordinal, _) = &rows[9];
    let next = shard.machine.audit(&shard.rows, Some((*index, *ordinal)), 2).unwrap();
    assert_eq!(next, rows[10..12]);
}
