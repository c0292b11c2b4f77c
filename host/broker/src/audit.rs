//! The audit: who changed what, over all shards, the newest first.

use std::cmp::Reverse;

use pointsman_model::{LogIndex, Ordinal, limits};
use pointsman_state_machine::state::AuditRow;

use crate::access::Action;
use crate::cursor::{open_list, seal_list};
use crate::lease::check;
use crate::view::{Page, PageRequest};
use crate::{Broker, Call, Error};

/// What its list is called, for its cursors.
const ROUTE: &str = "audit";

/// How far a list has come in one shard.
type Place = Option<(LogIndex, Ordinal)>;

impl Broker {
    /// Changes of the configuration of all tenants, the newest first.
    ///
    /// # Errors
    /// A foreign cursor, a failed read.
    pub async fn list_audit(&self, call: &Call, page: &PageRequest) -> Result<Page<AuditRow>, Error> {
        self.authorize_node(call, Action::Operator)?;
        let limit = if page.limit == 0 { limits::PAGE_ITEMS_DEFAULT } else { page.limit };
        check("limit", limit.into(), 1, limits::PAGE_ITEMS_MAX.into())?;
        let shards: Vec<_> = self.shards().collect();
        let mut places: Vec<Place> = match &page.cursor {
            None => vec![None; shards.len()],
            Some(cursor) => {
                let text = open_list(cursor, ROUTE, &self.inner.keys)?;
                let places: Option<Vec<_>> = text.split(',').map(read_place).collect();
                let foreign = || Error::InvalidCursor { detail: "not a cursor of this list".into() };
                places.filter(|places| places.len() == shards.len()).ok_or_else(foreign)?
            }
        };
        let limit = limit as usize;
        let mut rows = Vec::new();
        for (at, (shard, place)) in shards.iter().zip(&places).enumerate() {
            shard.catch_up().await?;
            let found = shard.port.audit(*place, limit + 1)?;
            rows.extend(found.into_iter().map(|(index, ordinal, row)| (at, index, ordinal, row)));
        }
        // Within a shard stamps never go back, so this keeps each shard's own order.
        rows.sort_by_key(|(at, index, ordinal, row)| Reverse((row.at, Reverse(*at), *index, *ordinal)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        for (at, index, ordinal, _) in &rows {
            places[*at] = Some((*index, *ordinal));
        }
        let next_cursor = match more {
            true => {
                let text: Vec<_> = places.iter().map(write_place).collect();
                Some(seal_list(ROUTE, &text.join(","), &self.inner.keys)?)
            }
            false => None,
        };
        Ok(Page { items: rows.into_iter().map(|(.., row)| row).collect(), next_cursor })
    }
}

fn write_place(place: &Place) -> String {
    place.map(|(index, ordinal)| format!("{}.{}", index.0, ordinal.0)).unwrap_or_default()
}

fn read_place(text: &str) -> Option<Place> {
    if text.is_empty() {
        return Some(None);
    }
    let (index, ordinal) = text.split_once('.')?;
    Some(Some((LogIndex(index.parse().ok()?), Ordinal(ordinal.parse().ok()?))))
}

#[cfg(test)]
mod tests {
    use pointsman_state_machine::command::{Expect, Quota};

    use super::*;
    use crate::testing::fixture::{Fixture, TENANT, call, topic_config};

    #[tokio::test]
    async fn every_change_is_told_once_and_the_newest_first() {
        let fixture = Fixture::new().await;
        let broker = &fixture.broker;
        fixture.clock.advance_ms(1);
        broker.put_tenant(&call(), "acme", Expect::Anything).await.expect("a tenant");
        fixture.clock.advance_ms(1);
        fixture.topic("t", 1).await;
        fixture.topic("t", 1).await;
        fixture.clock.advance_ms(1);
        let config = topic_config(2);
        broker.put_topic(&call(), TENANT, "t", config, Expect::Anything).await.expect("changed");
        fixture.clock.advance_ms(1);
        let new = broker.create_token(&call(), TENANT, &["publish:*".into()], None).await.expect("a token");
        fixture.clock.advance_ms(1);
        broker.revoke_token(&call(), TENANT, &new.token.id, Expect::Anything).await.expect("revoked");
        fixture.clock.advance_ms(1);
        let quota = Quota { topics: Some(1), ..Quota::default() };
        broker.put_quota(&call(), TENANT, quota, Expect::Anything).await.expect("a quota");
        let refused = broker.put_topic(&call(), TENANT, "u", topic_config(1), Expect::Anything).await;
        assert!(refused.is_err(), "what is refused is not told");
        fixture.clock.advance_ms(1);
        broker.delete_topic(&call(), TENANT, "t", Expect::Anything).await.expect("deleted");

        let token = format!("tokens/{}", new.token.id);
        let expected = [
            ("default", "delete", "topics/t"),
            ("default", "replace", "quota"),
            ("default", "revoke", token.as_str()),
            ("default", "create", token.as_str()),
            ("default", "replace", "topics/t"),
            ("default", "create", "topics/t"),
            ("acme", "create", "tenant"),
            ("default", "create", "tenant"),
        ];
        for limit in [1, 2, 3, 8, 100] {
            let (mut seen, mut page) = (Vec::new(), PageRequest { limit, cursor: None });
            loop {
                let got = broker.list_audit(&call(), &page).await.expect("a page");
                assert!(got.items.len() <= limit as usize);
                seen.extend(got.items);
                match got.next_cursor {
                    Some(cursor) => page.cursor = Some(cursor),
                    None => break,
                }
            }
            let told: Vec<_> = seen.iter().map(|r| (r.tenant.as_str(), r.action.as_str(), r.target.as_str())).collect();
            assert_eq!(told, expected, "in pages of {limit}");
            assert!(seen.iter().all(|row| !row.author.by.is_empty() && !row.author.request_id.is_empty()));
        }
    }
}
