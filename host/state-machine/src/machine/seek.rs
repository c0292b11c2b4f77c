//! Seek: a group goes on elsewhere in some of its queues.
//!
//! The cursor is replaced, the queue's retry and held rows go, and attempts start at 1 again. Leases given before are over: the
//! cursor remembers the revision of the seek, and an ending decided under an earlier one is refused as late.

use pointsman_model::record::Header;
use pointsman_model::{GroupId, QueueId, QueueOffset, TenantId, TopicId};

use super::config::check_expect;
use super::entry::{Entry, Stop};
use crate::command::Seek;
use crate::error::Error;
use crate::outcome::{Outcome, Refusal};
use crate::state::{Cursor, Retry, Sought};
use crate::table;

impl Entry<'_> {
    pub(super) fn seek(&mut self, header: &Header, seek: &Seek) -> Result<Outcome, Stop> {
        let id = GroupId(seek.group);
        let group = self.group_of(header, id)?;
        check_expect(&seek.expect, Some(group.revision))?;
        for (at, step) in seek.moves.iter().enumerate() {
            let (topic, queue) = (TopicId(step.topic), QueueId(step.queue));
            if !group.topic_ids.contains(&topic) {
                return Err(Refusal::TopicNotFound(String::new()).into());
            }
            if self.state.topics.get(&topic).is_none_or(|topic| queue.0 >= topic.queues()) {
                return Err(Refusal::QueueNotFound(queue).into());
            }
            // Ascending, so that none comes twice.
            if at > 0 && (seek.moves[at - 1].topic, seek.moves[at - 1].queue) >= (step.topic, step.queue) {
                return Err(Refusal::Malformed("the queues of a seek are not in order".into()).into());
            }
        }
        let tenant = group.tenant;
        let revision = self.next_revision();
        if let Some(group) = self.state.groups.get_mut(&id) {
            group.revision = revision;
        }
        self.bump_group(id);
        let sought = Some(Sought { revision, term: self.meta.term.0 });
        for step in &seek.moves {
            let (topic, queue) = (TopicId(step.topic), QueueId(step.queue));
            let ends = self.state.ends(topic, queue);
            self.drop_progress(tenant, id, topic, queue)?;
            let floor = QueueOffset(step.to.clamp(ends.earliest, ends.latest));
            self.state.cursors.insert((id, topic, queue), Cursor::sought_at(floor, sought));
        }
        Ok(Outcome::Configured { created: false, unchanged: false, revision, id: id.0 })
    }

    /// Forgets the blocks and retry rows of a group in one queue. The cursor is about to be replaced.
    fn drop_progress(&mut self, tenant: TenantId, group: GroupId, topic: TopicId, queue: QueueId) -> Result<(), Error> {
        let place = (group, topic, queue);
        let touched = self.changes.cursors.remove(&place).unwrap_or_default();
        let cursor = self.state.cursors.remove(&place).unwrap_or_default();
        for block in touched.into_keys().chain(cursor.block_numbers()) {
            self.changes.delete(table::cursor_block_key(tenant, group, topic, queue, block));
        }
        self.changes.cursors.insert(place, Default::default());
        let prefix = table::retry_queue_prefix(tenant, group, topic, queue);
        for (key, value) in self.changes.scan(self.store, &prefix)? {
            let retry: Retry = table::decode(&key, &value)?;
            self.drop_retry(tenant, group, &retry);
        }
        self.drop_held(tenant, group, Some(topic), Some(queue))
    }
}
