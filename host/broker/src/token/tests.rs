//! Who is let in, for how long, and what a token may give away.

use pointsman_model::time::Clock as _;

use super::*;
use crate::testing::fixture::{Fixture, TENANT, call, topic_config};

const FILE_TOKEN: &str = "pm_root_0123456789abcdef";

/// A broker with the token of a file.
async fn guarded() -> Fixture {
    let token = OperatorToken::parse(&format!("{FILE_TOKEN}\n")).expect("a token");
    Fixture::with(crate::BrokerConfig { operator_token: Some(token), ..crate::BrokerConfig::default() }).await
}

fn with(fixture: &Fixture, bearer: &str) -> Call {
    Call { principal: fixture.broker.authenticate(Some(bearer)).expect("good"), ..call() }
}

async fn create(fixture: &Fixture, by: &Call, tenant: &str, scopes: &[&str]) -> Result<NewToken, Error> {
    let scopes: Vec<_> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    fixture.broker.create_token(by, tenant, &scopes, None).await
}

#[tokio::test]
async fn a_local_caller_is_operator_until_there_is_an_operator_token() {
    let fixture = Fixture::new().await;
    let before = Call { principal: fixture.broker.authenticate(None).expect("local"), ..call() };
    create(&fixture, &before, TENANT, &["publish:*"]).await.expect("a token");
    assert_eq!(fixture.broker.authenticate(None), Ok(Principal::Operator), "no operator token yet");
    let new = create(&fixture, &before, TENANT, &["operator"]).await.expect("a token");
    assert!(matches!(fixture.broker.authenticate(None), Err(Error::Unauthenticated(_))));
    let late = fixture.broker.get_topic(&before, TENANT, "t").await;
    assert!(matches!(late, Err(Error::Unauthenticated(_))), "a call under way ends, too: {late:?}");
    let operator = with(&fixture, &new.bearer);
    fixture.broker.revoke_token(&operator, TENANT, &new.token.id, Expect::Anything).await.expect("revoked");
    assert_eq!(fixture.broker.authenticate(None), Ok(Principal::Operator), "no operator token any more");
}

#[tokio::test]
async fn a_bearer_is_known_by_its_secret() {
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let new = create(&fixture, &operator, TENANT, &["publish:*"]).await.expect("a token");
    assert!(fixture.broker.authenticate(Some(&new.bearer)).is_ok());
    let id = new.token.id.to_string();
    let wrong = format!("pm_{id}_{}", "0".repeat(64));
    for bad in [wrong.as_str(), "", "pm_", "pm_x", "pm__x", "x", &new.bearer[..80], &"x".repeat(1_000)] {
        let refused = fixture.broker.authenticate(Some(bad));
        assert!(matches!(refused, Err(Error::Unauthenticated(_))), "{bad}: {refused:?}");
    }
    let jwt = fixture.broker.authenticate(Some("eyJhbGciOiJub25lIn0.e30.x"));
    assert_eq!(jwt, Err(Error::Unauthenticated("JWT: not supported yet".into())));
    let stored = fixture.metadata.rows();
    let secret = new.bearer.rsplit('_').next().expect("a secret").as_bytes();
    let holds = |value: &[u8]| value.windows(secret.len()).any(|window| window == secret);
    assert!(!stored.is_empty() && !stored.iter().any(|(_, value)| holds(value)), "the secret is stored");
}

#[tokio::test]
async fn a_token_expires_and_is_revoked() {
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let now = fixture.clock.wall();
    let scopes = ["consume:*".to_owned()];
    let refused = fixture.broker.create_token(&operator, TENANT, &scopes, Some(now)).await;
    assert!(matches!(refused, Err(Error::InvalidRequest { .. })));
    let new = fixture.broker.create_token(&operator, TENANT, &scopes, Some(now.plus_ms(100))).await.expect("a token");
    let call = with(&fixture, &new.bearer);
    fixture.clock.advance_ms(99);
    assert!(fixture.broker.authenticate(Some(&new.bearer)).is_ok());
    assert!(fixture.broker.check_principal(&call.principal).is_ok());
    fixture.clock.advance_ms(1);
    assert_eq!(fixture.broker.authenticate(Some(&new.bearer)), Err(Error::TokenExpired));
    assert_eq!(fixture.broker.check_principal(&call.principal), Err(Error::TokenExpired));

    let new = create(&fixture, &operator, TENANT, &["consume:*"]).await.expect("a token");
    let call = with(&fixture, &new.bearer);
    fixture.broker.revoke_token(&operator, TENANT, &new.token.id, Expect::Anything).await.expect("revoked");
    assert_eq!(fixture.broker.authenticate(Some(&new.bearer)), Err(Error::TokenRevoked));
    assert_eq!(fixture.broker.get_topic(&call, TENANT, "t").await, Err(Error::TokenRevoked));
    let again = fixture.broker.revoke_token(&operator, TENANT, &new.token.id, Expect::Anything).await;
    assert_eq!(again, Err(Error::TokenNotFound));
    assert_eq!(fixture.broker.get_token(&operator, TENANT, &new.token.id).await, Err(Error::TokenNotFound));
}

#[tokio::test]
async fn a_token_gives_away_what_it_holds_and_no_more() {
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let new = create(&fixture, &operator, TENANT, &["admin:tokens", "publish:orders.*"]).await.expect("a token");
    let call = with(&fixture, &new.bearer);
    create(&fixture, &call, TENANT, &["publish:orders.eu"]).await.expect("held");
    create(&fixture, &call, TENANT, &["admin:tokens"]).await.expect("held");
    for more in ["publish:*", "consume:orders.eu", "admin:*", "operator", "plugin:write"] {
        let refused = create(&fixture, &call, TENANT, &["publish:orders.eu", more]).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{more}");
    }
    for bad in [&[][..], &["publish"], &["operator:*"]] {
        let refused = create(&fixture, &operator, TENANT, bad).await;
        assert!(matches!(refused, Err(Error::InvalidRequest { .. })), "{bad:?}");
    }
    let none = create(&fixture, &operator, TENANT, &["publish:*"]).await.expect("a token");
    let refused = create(&fixture, &with(&fixture, &none.bearer), TENANT, &["publish:*"]).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))), "it may not make tokens");
}

#[tokio::test]
async fn a_stranger_sees_no_tenant_and_a_missing_scope_is_forbidden() {
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let broker = &fixture.broker;
    broker.put_tenant(&operator, "other", Expect::Anything).await.expect("a tenant");
    broker.put_topic(&operator, TENANT, "orders", topic_config(1), Expect::Anything).await.expect("a topic");
    let stranger = create(&fixture, &operator, "other", &["admin:*", "consume:*", "publish:*"]).await.expect("a token");
    let stranger = with(&fixture, &stranger.bearer);
    assert_eq!(broker.get_topic(&stranger, TENANT, "orders").await, Err(Error::TenantNotFound));
    assert_eq!(broker.get_topic(&stranger, "nowhere", "orders").await, Err(Error::TenantNotFound));
    let put = broker.put_topic(&stranger, TENANT, "orders", topic_config(1), Expect::Anything).await;
    assert_eq!(put.map(drop), Err(Error::TenantNotFound));
    assert_eq!(broker.put_tenant(&stranger, TENANT, Expect::Anything).await.map(drop), Err(Error::TenantNotFound));
    let listed = broker.list_tenants(&stranger, &PageRequest::default()).await.expect("a list");
    assert_eq!(listed.items.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["other"]);

    let own = create(&fixture, &operator, TENANT, &["admin:orders"]).await.expect("a token");
    let own = with(&fixture, &own.bearer);
    broker.get_topic(&own, TENANT, "orders").await.expect("any token reads configuration");
    broker.put_topic(&own, TENANT, "orders", topic_config(2), Expect::Anything).await.expect("its scope");
    let put = broker.put_topic(&own, TENANT, "bills", topic_config(1), Expect::Anything).await;
    assert!(matches!(put, Err(Error::Forbidden(_))));
    assert!(matches!(broker.put_tenant(&own, TENANT, Expect::Anything).await, Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn tokens_are_listed_without_the_revoked() {
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create(&fixture, &operator, TENANT, &["publish:*"]).await.expect("a token").token.id);
    }
    fixture.broker.revoke_token(&operator, TENANT, &ids.remove(1), Expect::Anything).await.expect("revoked");
    ids.sort();
    let page = fixture.broker.list_tokens(&operator, TENANT, &PageRequest::default()).await.expect("a list");
    assert_eq!(page.items.iter().map(|token| Arc::clone(&token.id)).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    use crate::view::{StreamEvent, StreamRequest};
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let broker = &fixture.broker;
    broker.put_topic(&operator, TENANT, "orders", topic_config(1), Expect::Anything).await.expect("a topic");
    let new = create(&fixture, &operator, TENANT, &["consume:orders"]).await.expect("a token");
    let call = with(&fixture, &new.bearer);
    let mut stream = broker.open_stream(&call, TENANT, "orders", StreamRequest::default()).await.expect("a stream");
    assert!(matches!(stream.next().await, Some(StreamEvent::Open { .. })));
    assert!(matches!(stream.next().await, Some(StreamEvent::CaughtUp)));
    let idle = tokio::time::timeout(std::time::Duration::from_millis(50), stream.next()).await;
    assert!(idle.is_err(), "it goes on while the token is good");
    broker.revoke_token(&operator, TENANT, &new.token.id, Expect::Anything).await.expect("revoked");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), stream.next()).await.expect("within 60 s");
    assert!(matches!(ended, Some(StreamEvent::Failed(Error::TokenRevoked))), "{ended:?}");
    assert!(stream.next().await.is_none());
}

#[test]
fn what_an_operator_token_file_holds() {
    for good in [FILE_TOKEN, "  any-word-of-sixteen-characters \n", &"x".repeat(512), &"x".repeat(16)] {
        assert!(OperatorToken::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "\n", "short", &"x".repeat(15), &"x".repeat(513), "two words of a token", "ünïcödé-töken-0123"]
    {
        assert!(OperatorToken::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_ticket_opens_one_stream_of_its_path_once_and_soon() {
    let fixture = guarded().await;
    let operator = with(&fixture, FILE_TOKEN);
    let broker = &fixture.broker;
    let new = create(&fixture, &operator, TENANT, &["consume:orders"]).await.expect("a token");
    let call = with(&fixture, &new.bearer);
    let ticket = |path: &'static str, action| broker.create_ticket(&call, TENANT, path, action);
    assert!(matches!(ticket("/b", Action::Consume("bills")).await, Err(Error::Forbidden(_))));
    let (text, expires_at) = ticket("/a", Action::Consume("orders")).await.expect("a ticket");
    assert_eq!(expires_at, fixture.clock.wall().plus_ms(limits::TICKET_MS));
    assert_eq!(broker.redeem_ticket(&text, "/a").await, Ok(call.principal.clone()));
    assert!(broker.redeem_ticket(&text, "/a").await.is_err(), "used");
    let (text, _) = ticket("/a", Action::Consume("orders")).await.expect("a ticket");
    assert!(broker.redeem_ticket(&text, "/b").await.is_err(), "another path");
    for (ms, good) in [(limits::TICKET_MS - 1, true), (limits::TICKET_MS, false)] {
        let (text, _) = ticket("/a", Action::Consume("orders")).await.expect("a ticket");
        fixture.clock.advance_ms(ms);
        assert_eq!(broker.redeem_ticket(&text, "/a").await.is_ok(), good, "{ms}");
    }
    let (text, _) = ticket("/a", Action::Consume("orders")).await.expect("a ticket");
    broker.revoke_token(&operator, TENANT, &new.token.id, Expect::Anything).await.expect("revoked");
    assert_eq!(broker.redeem_ticket(&text, "/a").await, Err(Error::TokenRevoked));
}
