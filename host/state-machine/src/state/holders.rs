//! Which binding judges for a topic or a group: at most one of each slot.

use std::collections::BTreeMap;

use pointsman_model::{BindingId, GroupId, TopicId};

use super::{Binding, State};
use crate::command::Slot;

impl State {
    /// The active selector of a topic.
    #[must_use]
    pub fn selector(&self, topic: TopicId) -> Option<&Binding> {
        self.held(self.selectors.get(&topic))
    }

    /// The active filter of a group for one of its topics: one for that topic beats one for all.
    #[must_use]
    pub fn filter(&self, group: GroupId, topic: TopicId) -> Option<&Binding> {
        self.held(self.filters.get(&(group, Some(topic))).or_else(|| self.filters.get(&(group, None))))
    }

    /// The active dedup of a topic.
    #[must_use]
    pub fn dedup(&self, topic: TopicId) -> Option<&Binding> {
        self.held(self.dedups.get(&topic))
    }

    /// The active retry policy of a group.
    #[must_use]
    pub fn retry(&self, group: GroupId) -> Option<&Binding> {
        self.held(self.retry_policies.get(&group))
    }

    /// The active check-back of a topic.
    #[must_use]
    pub fn check_back(&self, topic: TopicId) -> Option<&Binding> {
        self.held(self.check_backs.get(&topic))
    }

    /// The binding that holds a slot of exactly this topic and group.
    pub(crate) fn holder(&self, slot: Slot, topic: Option<TopicId>, group: Option<GroupId>) -> Option<&Binding> {
        self.held(match (slot, topic, group) {
            (Slot::Selector, Some(topic), None) => self.selectors.get(&topic),
            (Slot::Dedup, Some(topic), None) => self.dedups.get(&topic),
            (Slot::CheckBack, Some(topic), None) => self.check_backs.get(&topic),
            (Slot::Filter, topic, Some(group)) => self.filters.get(&(group, topic)),
            (Slot::Retry, None, Some(group)) => self.retry_policies.get(&group),
            _ => None,
        })
    }

    /// Makes a binding the one that judges for its target, or takes it from there. False if its slot has no such target.
    pub(crate) fn set_holder(&mut self, binding: &Binding, holder: Option<BindingId>) -> bool {
        match (binding.config.slot, binding.topic, binding.group) {
            (Slot::Selector, Some(topic), None) => set(&mut self.selectors, topic, holder),
            (Slot::Dedup, Some(topic), None) => set(&mut self.dedups, topic, holder),
            (Slot::CheckBack, Some(topic), None) => set(&mut self.check_backs, topic, holder),
            (Slot::Filter, topic, Some(group)) => set(&mut self.filters, (group, topic), holder),
            (Slot::Retry, None, Some(group)) => set(&mut self.retry_policies, group, holder),
            _ => return false,
        }
        true
    }

    fn held(&self, id: Option<&BindingId>) -> Option<&Binding> {
        id.and_then(|id| self.bindings.get(id))
    }
}

fn set<K: Ord>(holders: &mut BTreeMap<K, BindingId>, target: K, holder: Option<BindingId>) {
    match holder {
        Some(id) => drop(holders.insert(target, id)),
        None => drop(holders.remove(&target)),
    }
}
