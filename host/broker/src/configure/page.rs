//! Pages of lists.

use pointsman_model::limits;

use crate::cursor::{open_list, seal_list};
use crate::lease::check;
use crate::view::{Page, PageRequest};
use crate::{Broker, Error};

impl Broker {
    /// A page of what `after` yields in order of its keys, from the first key behind the cursor.
    pub(crate) fn page<T>(
        &self,
        route: &str,
        request: &PageRequest,
        after: impl FnOnce(Option<&str>, usize) -> Vec<(String, T)>,
    ) -> Result<Page<T>, Error> {
        let limit = if request.limit == 0 { limits::PAGE_ITEMS_DEFAULT } else { request.limit };
        check("limit", limit.into(), 1, limits::PAGE_ITEMS_MAX.into())?;
        let last = request.cursor.as_ref().map(|cursor| open_list(cursor, route, &self.inner.keys)).transpose()?;
        let limit = limit as usize;
        // One more than asked for tells whether there is a next page.
        let mut items = after(last.as_deref(), limit + 1);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = match items.last() {
            Some((key, _)) if more => Some(seal_list(route, key, &self.inner.keys)?),
            _ => None,
        };
        Ok(Page { items: items.into_iter().map(|(_, item)| item).collect(), next_cursor })
    }
}

/// The first `n` of a sorted list whose key comes after `last`.
pub(crate) fn after<'a, T: 'a, I>(items: I, last: Option<&str>, n: usize) -> Vec<(String, T)>
where
    I: Iterator<Item = (&'a str, T)>,
{
    items.filter(|(key, _)| last.is_none_or(|last| *key > last)).take(n).map(|(key, item)| (key.into(), item)).collect()
}
