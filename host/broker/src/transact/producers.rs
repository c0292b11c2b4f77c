//! Questions that wait for a producer of their group: memory of the leader.
//!
//! Each is handed out once. What is lost with a leader comes again with the next check of the timetable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::{TenantId, limits};
use tokio::sync::Notify;

/// A question to a producer: what became of this?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Index and ordinal of the transaction's first record.
    pub(super) transaction: (u64, u16),
    /// Which check, from 1.
    pub(super) attempt: u16,
}

/// All questions of one shard.
#[derive(Default)]
pub(crate) struct Producers(Mutex<HashMap<TenantId, OfTenant>>);

#[derive(Default)]
struct OfTenant {
    groups: HashMap<String, Group>,
    waiting: usize,
}

#[derive(Default)]
struct Group {
    offers: VecDeque<Offer>,
    heard: Arc<Notify>,
}

/// Hears of the questions of a group.
pub(super) struct Ear(Arc<Notify>);

impl Ear {
    /// What comes from here on wakes it.
    pub(super) fn notified(&self) -> impl Future<Output = ()> + use<> {
        let heard = Arc::clone(&self.0);
        async move { heard.notified().await }
    }
}

impl Producers {
    /// Hears of a group's questions.
    pub(super) fn group(&self, tenant: TenantId, group: &str) -> Ear {
        let mut tenants = self.0.lock();
        let groups = &mut tenants.entry(tenant).or_default().groups;
        // Nobody listens to, and nothing waits in, what is dropped here.
        groups.retain(|name, group_of| {
            name == group || !group_of.offers.is_empty() || Arc::strong_count(&group_of.heard) > 1
        });
        Ear(Arc::clone(&groups.entry(group.to_owned()).or_default().heard))
    }

    /// Puts a question; one about the same transaction takes its place.
    pub(super) fn offer(&self, tenant: TenantId, group: &str, offer: Offer) {
        let mut tenants = self.0.lock();
        let of_tenant = tenants.entry(tenant).or_default();
        let group = of_tenant.groups.entry(group.to_owned()).or_default();
        if let Some(before) = group.offers.iter_mut().find(|before| before.transaction == offer.transaction) {
            *before = offer;
        } else {
            group.offers.push_back(offer);
            of_tenant.waiting += 1;
        }
        group.heard.notify_one();
        while of_tenant.waiting > limits::CHECKS_WAITING_MAX {
            // The longest line loses its oldest; that question comes again with the next check.
            let longest = of_tenant.groups.values_mut().max_by_key(|group| group.offers.len());
            let lost = longest.and_then(|group| group.offers.pop_front());
            of_tenant.waiting -= usize::from(lost.is_some());
        }
    }

    /// Takes the oldest question of a group. Whoever leaves some behind wakes another.
    pub(super) fn take(&self, tenant: TenantId, group: &str) -> Option<Offer> {
        let mut tenants = self.0.lock();
        let of_tenant = tenants.get_mut(&tenant)?;
        let group = of_tenant.groups.get_mut(group)?;
        let offer = group.offers.pop_front()?;
        of_tenant.waiting -= 1;
        if !group.offers.is_empty() {
            group.heard.notify_one();
        }
        Some(offer)
    }

    /// Gives questions back that nobody was asked.
    pub(super) fn put_back(&self, tenant: TenantId, group: &str, offers: Vec<Offer>) {
        if offers.is_empty() {
            return;
        }
        let mut tenants = self.0.lock();
        let of_tenant = tenants.entry(tenant).or_default();
        of_tenant.waiting += offers.len();
        // Nobody is woken: whoever waits may not see them.
        of_tenant.groups.entry(group.to_owned()).or_default().offers.extend(offers);
    }

    /// Forgets all: another node leads.
    pub(super) fn clear(&self) {
        for of_tenant in self.0.lock().values_mut() {
            of_tenant.groups.values_mut().for_each(|group| group.offers.clear());
            of_tenant.waiting = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TenantId = TenantId(1);

    fn offer(index: u64, attempt: u16) -> Offer {
        Offer { transaction: (index, 0), attempt }
    }

    #[test]
    fn a_question_is_handed_out_once_and_a_newer_one_takes_its_place() {
        let producers = Producers::default();
        producers.offer(T, "a", offer(1, 1));
        producers.offer(T, "b", offer(2, 1));
        producers.offer(T, "a", offer(1, 2));
        assert_eq!((producers.take(TenantId(2), "a"), producers.take(T, "c")), (None, None));
        assert_eq!((producers.take(T, "a"), producers.take(T, "a")), (Some(offer(1, 2)), None));
        producers.clear();
        assert_eq!(producers.take(T, "b"), None);
    }

    #[test]
    fn past_the_bound_the_longest_line_loses_its_oldest() {
        let producers = Producers::default();
        producers.offer(T, "short", offer(0, 1));
        for index in 0..limits::CHECKS_WAITING_MAX as u64 {
            producers.offer(T, "long", offer(index, 1));
        }
        assert_eq!(producers.take(T, "long"), Some(offer(1, 1)));
        assert_eq!(producers.take(T, "short"), Some(offer(0, 1)));
    }
}
