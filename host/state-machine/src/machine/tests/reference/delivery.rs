//! What a group does with its messages: leases that end, skips, seeks, dead letters.

use super::*;

impl Reference {
    /// `None` if there is no such group; `again` is (it ran out, delay).
    pub(super) fn end(&mut self, group: char, lease: &LeaseAsk, again: Option<(bool, u64)>) -> Option<Settlement> {
        let now = self.at.2.0;
        let (topic, queue, offset, attempt) = *lease;
        let topic = self.topic(topic).map(|t| (t.id, t.ends.get(usize::from(queue)).copied().unwrap_or(0)));
        let group = self.groups.iter_mut().find(|g| g.name == group)?;
        let Some((topic, _)) = topic.filter(|(id, end)| group.topics.contains(id) && offset < *end) else {
            return Some(Settlement::Unknown);
        };
        let place = (topic, queue, offset);
        let fresh = !group.settled.contains(&place);
        let current = if fresh { Some(1) } else { group.retries.get(&place).map(|retry| retry.attempt) };
        Some(match current {
            _ if attempt == 0 => Settlement::Unknown,
            None => Settlement::AlreadySettled,
            Some(current) if attempt > current => Settlement::Unknown,
            Some(current) if attempt < current => {
                let ran_out = group.retries[&place].history.contains(&(attempt, true));
                if ran_out { Settlement::Expired } else { Settlement::AlreadySettled }
            }
            Some(_) => {
                group.settled.insert(place);
                match again {
                    None => drop(group.retries.remove(&place)),
                    Some((expired, _))
                        if attempt - group.retries.get(&place).map_or(0, |r| r.base) > group.config.max_retries =>
                    {
                        let mut history = group.retries.remove(&place).unwrap_or_default().history;
                        history.push((attempt, expired));
                        // A new dead letter takes at most two old ones along.
                        let mut over: Vec<_> = group.dead.iter().filter(|(_, dead)| dead.expires <= now).collect();
                        over.sort_by_key(|(place, dead)| (dead.expires, record_of(**place)));
                        let over: Vec<_> = over.into_iter().map(|(place, _)| *place).take(2).collect();
                        group.dead.retain(|place, _| !over.contains(place));
                        let expires = now + DLQ_RETENTION_MS;
                        group.dead.insert(place, RDead { attempt, expires, redriven: false, history });
                        return Some(Settlement::DeadLettered);
                    }
                    Some((expired, delay_ms)) => {
                        let retry = group.retries.entry(place).or_default();
                        retry.history.push((attempt, expired));
                        retry.attempt = attempt + 1;
                        retry.due = now + delay_ms;
                    }
                }
                Settlement::Settled
            }
        })
    }

    pub(super) fn seek(&mut self, group: char, topic: char, queue: u16, to: u64, expect: &Expect) -> Expected {
        let topic = self.topic(topic).map(|t| (t.id, t.ends.get(usize::from(queue)).copied()));
        let Some(group) = self.groups.iter_mut().find(|g| g.name == group) else {
            return refused(Refusal::GroupNotFound);
        };
        if !meets(expect, true) {
            return refused(Refusal::PreconditionFailed);
        }
        let Some((topic, end)) = topic.filter(|(id, _)| group.topics.contains(id)) else {
            return refused(Refusal::TopicNotFound(String::new()));
        };
        let Some(end) = end else { return refused(Refusal::QueueNotFound(QueueId(queue))) };
        group.settled.retain(|(of, at, _)| (*of, *at) != (topic, queue));
        group.retries.retain(|(of, at, _), _| (*of, *at) != (topic, queue));
        group.settled.extend((0..to.min(end)).map(|offset| (topic, queue, offset)));
        group.generation += 1;
        Expected::Configured { created: false, unchanged: false }
    }

    pub(super) fn letters(&mut self, group: char, letters: &[(char, u16, u64)], op: DeadLetterOp) -> Expected {
        let now = self.at.2.0;
        let places: Vec<_> = letters
            .iter()
            .map(|(topic, queue, offset)| (self.topic(*topic).map_or(NOBODY, |topic| topic.id), *queue, *offset))
            .collect();
        let Some(group) = self.groups.iter_mut().find(|g| g.name == group) else {
            return refused(Refusal::GroupNotFound);
        };
        let fates = places.into_iter().map(|place| {
            let Some(dead) = group.dead.get_mut(&place) else { return LetterFate::NotFound };
            let over = dead.expires <= now;
            match op {
                DeadLetterOp::Redrive if dead.redriven => return LetterFate::AlreadyRedriven,
                DeadLetterOp::Redrive if over => return LetterFate::NotFound,
                DeadLetterOp::Redrive if !group.topics.contains(&place.0) => return LetterFate::NotSubscribed,
                DeadLetterOp::Redrive => {
                    dead.redriven = true;
                    if group.settled.contains(&place) && !group.retries.contains_key(&place) {
                        let (base, history) = (dead.attempt, dead.history.clone());
                        group.retries.insert(place, RRetry { attempt: base + 1, base, due: now, history });
                    }
                    return LetterFate::Redriven;
                }
                DeadLetterOp::Delete if dead.redriven => return LetterFate::NotFound,
                DeadLetterOp::Expire if !over => return LetterFate::NotFound,
                DeadLetterOp::Delete | DeadLetterOp::Expire => {}
            }
            group.dead.remove(&place);
            LetterFate::Forgotten
        });
        Expected::Exactly(Outcome::DeadLetters(fates.collect()))
    }

    pub(super) fn skip(
        &mut self,
        group: char,
        topic: char,
        queue: u16,
        stale: bool,
        ranges: &[(u64, u64)],
    ) -> Expected {
        let topic = self.topic(topic).map(|t| (t.id, t.ends.get(usize::from(queue)).copied()));
        let Some(group) = self.groups.iter_mut().find(|g| g.name == group) else {
            return refused(Refusal::GroupNotFound);
        };
        if stale {
            return refused(Refusal::Stale(Generation(group.generation)));
        }
        let Some((topic, end)) = topic.filter(|(id, _)| group.topics.contains(id)) else {
            return refused(Refusal::TopicNotFound(String::new()));
        };
        let Some(end) = end else { return refused(Refusal::QueueNotFound(QueueId(queue))) };
        let flat: Vec<u64> = ranges.iter().flat_map(|(from, to)| [*from, *to]).collect();
        if !flat.is_sorted() || ranges.iter().any(|(from, to)| from == to) || flat.iter().any(|offset| *offset > end) {
            return Expected::Malformed;
        }
        let offsets = ranges.iter().flat_map(|(from, to)| *from..*to);
        group.settled.extend(offsets.map(|offset| (topic, queue, offset)));
        Expected::Exactly(Outcome::Skipped)
    }
}
