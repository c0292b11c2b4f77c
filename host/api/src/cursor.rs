//! Cursors of lists that the edge pages itself: `p1.` + a place and a check over the list it belongs to.
//!
//! A cursor grants nothing: the path and its rights are looked at again on each page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pointsman_broker::Error;
use pointsman_broker::view::{Page, PageRequest};
use pointsman_model::hash::hash;

use crate::failure::Failure;

/// The cursor of a place in the list of that name.
pub(crate) fn seal(list: &str, place: u64) -> String {
    let mut bytes = place.to_le_bytes().to_vec();
    bytes.extend_from_slice(&check(list, place).to_le_bytes());
    format!("p1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The place of a cursor of this list.
pub(crate) fn open(list: &str, text: &str) -> Result<u64, Failure> {
    read(list, text).ok_or_else(foreign)
}

/// The refusal of a cursor that is none of this list.
pub(crate) fn foreign() -> Failure {
    Error::InvalidCursor { detail: "not a cursor of this list".to_owned() }.into()
}

fn read(list: &str, text: &str) -> Option<u64> {
    let bytes: [u8; 16] = URL_SAFE_NO_PAD.decode(text.strip_prefix("p1.")?).ok()?.try_into().ok()?;
    let (place, found) = bytes.split_at(8);
    let place = u64::from_le_bytes(place.try_into().ok()?);
    (found == check(list, place).to_le_bytes()).then_some(place)
}

fn check(list: &str, place: u64) -> u64 {
    hash(format!("{list}/{place}").as_bytes())
}

/// A page of a list that is whole in memory.
pub(crate) fn page<T>(list: &str, items: Vec<T>, request: &PageRequest) -> Result<Page<T>, Failure> {
    let from = request.cursor.as_deref().map_or(Ok(0), |text| open(list, text))?;
    let to = from.saturating_add(u64::from(request.limit));
    let next_cursor = (to < items.len() as u64).then(|| seal(list, to));
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    Ok(Page { items: items.into_iter().skip(from).take(request.limit as usize).collect(), next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let cursor = seal("a", 7);
        assert_eq!(open("a", &cursor).ok(), Some(7));
        for (list, text) in [("b", cursor.as_str()), ("a", "p1."), ("a", &cursor[..20]), ("a", &cursor[3..]), ("a", "")]
        {
            assert!(open(list, text).is_err(), "{list} {text}");
        }
    }

    #[test]
    fn pages_cover_the_list() {
        for (length, pages) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            let (mut seen, mut count) = (Vec::new(), 0);
            let mut request = PageRequest { limit: 2, cursor: None };
            loop {
                let page = page("l", (0..length).collect(), &request).expect("own cursors");
                seen.extend(page.items);
                count += 1;
                match page.next_cursor {
                    Some(cursor) => request.cursor = Some(cursor),
                    None => break,
                }
            }
            assert_eq!((seen, count), ((0..length).collect::<Vec<i32>>(), pages), "{length}");
        }
    }
}
