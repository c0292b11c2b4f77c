//! Server-sent events, read as the WHATWG standard says (HTML §9.2.6).

use std::collections::VecDeque;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `message` if the server names none.
    pub event: String,
    /// The id it carried itself; an event without one leaves the last id as it was.
    pub id: Option<String>,
    /// The data lines, joined by line feeds.
    pub data: String,
}

/// Turns bytes, cut anywhere, into events.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    started: bool,
    event: String,
    id: Option<String>,
    data: Option<String>,
    retry_ms: Option<u64>,
    ready: VecDeque<Event>,
}

impl Parser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&line);
                    self.line = line;
                    self.line.clear();
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
        }
    }

    /// The next complete event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// How long the server asked to wait before coming back.
    #[must_use]
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = if self.started { line } else { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => self.retry_ms = value.parse().ok(),
            // A comment (empty field) or a field that the standard ignores.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        let id = self.id.take();
        if let Some(data) = self.data.take() {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            self.ready.push_back(Event { event, id, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<(String, Option<String>, String)> {
        let mut parser = Parser::new();
        for piece in pieces {
            parser.push(piece);
        }
        std::iter::from_fn(|| parser.next_event()).map(|event| (event.event, event.id, event.data)).collect()
    }

    fn event(event: &str, id: Option<&str>, data: &str) -> (String, Option<String>, String) {
        (event.into(), id.map(Into::into), data.into())
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let text = b"\xEF\xBB\xBF: hello\n\nevent: open\ndata: {}\n\nid: c1.a\r\ndata:x\r\ndata: y\r\n\r\nevent: none\n\ndata: z\r\r";
        let expected = [event("open", None, "{}"), event("message", Some("c1.a"), "x\ny"), event("message", None, "z")];
        assert_eq!(parse(&[text]), expected);
    }

    #[test]
    fn bytes_may_be_cut_anywhere() {
        let text = "retry: 1500\r\nevent: message\r\nid: 7\r\ndata: gr\u{fc}n\r\n\r\n".as_bytes();
        let whole = parse(&[text]);
        assert_eq!(whole, [event("message", Some("7"), "gr\u{fc}n")]);
        for cut in 1..text.len() {
            assert_eq!(parse(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn an_unfinished_event_is_not_given() {
        assert_eq!(parse(&[b"data: a\n"]), []);
    }

    #[test]
    fn retry_is_remembered() {
        let mut parser = Parser::new();
        parser.push(b"retry: 1500\n\nretry: soon\n\n");
        assert_eq!(parser.retry_ms(), Some(1_500));
    }
}
