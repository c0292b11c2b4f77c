//! Columns and kinds.

use super::*;

#[test]
fn a_column_tells_empty_from_absent() {
    let mut column = Column::default();
    column.push(Some(b"ab"));
    column.push(None);
    column.push(Some(b""));
    column.push(Some(b"c"));
    let read: Vec<_> = (0..5).map(|i| column.get(i)).collect();
    assert_eq!(read, [Some(&b"ab"[..]), None, Some(&b""[..]), Some(&b"c"[..]), None]);
}
