//! From the text of a request to its messages.
//!
//! The fields of a message are read as the recorded servers read them: keys match in any case, the last of equal keys
//! wins, and a field of the wrong type counts as not given, so that the message is answered as an invalid one rather
//! than as no JSON at all.

use std::borrow::Cow;
use std::ops::Range;

use super::params::Shape;
use super::scan::{NotJson, Scanner};
use super::text::unquote;

/// Ids of more bytes are not taken: they are echoed, each of their bytes as six where it comes to the worst.
const MAX_ID: usize = 1024;

/// What a request's text holds.
#[derive(Debug)]
pub(super) enum Request {
    /// Nothing but white space.
    Nothing,
    /// One value that is no array.
    Single(Message),
    /// An array.
    Batch(Vec<Message>),
    /// An array of more elements than are allowed, and the first one among them that has an id.
    TooLong(Message),
}

/// One call, notification or response; or something else that was sent in its place.
#[derive(Debug, Default)]
pub(super) struct Message {
    version_is_2: bool,
    id: Option<Range<usize>>,
    method: String,
    params: Option<Shape>,
    has_result: bool,
    has_error: bool,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To be run and answered.
    Call,
    /// To be run and not answered.
    Notification,
    /// An answer to something nobody asked.
    Response,
    /// To be answered with an error.
    Invalid,
}

impl Request {
    /// Reads the first JSON value of `text`; what follows it is not looked at.
    pub(super) fn parse(text: &[u8], max_batch: usize) -> Result<Self, NotJson> {
        let mut scanner = Scanner::new(text);
        match scanner.peek() {
            None => Ok(Self::Nothing),
            Some(b'[') => Self::batch(text, &mut scanner, max_batch),
            Some(_) => Message::scan(text, &mut scanner).map(Self::Single),
        }
    }

    fn batch(text: &[u8], scanner: &mut Scanner<'_>, max_batch: usize) -> Result<Self, NotJson> {
        let mut messages = Vec::new();
        let mut first_with_id = None;
        let mut too_long = false;
        let mut more = scanner.enter(b']')?;
        while more {
            let message = Message::scan(text, scanner)?;
            if first_with_id.is_none() && message.id(text).is_some() {
                first_with_id = message.id.clone();
            }
            if messages.len() < max_batch {
                messages.push(message);
            } else {
                too_long = true;
            }
            more = scanner.more(b']')?;
        }
        Ok(if too_long {
            Self::TooLong(Message { id: first_with_id, ..Message::default() })
        } else {
            Self::Batch(messages)
        })
    }
}

impl Message {
    fn scan(text: &[u8], scanner: &mut Scanner<'_>) -> Result<Self, NotJson> {
        let mut message = Self::default();
        if scanner.peek() != Some(b'{') {
            scanner.value()?;
            return Ok(message);
        }
        let mut more = scanner.enter(b'}')?;
        while more {
            let key = scanner.key()?;
            match Field::of(&text[key]) {
                Some(Field::Params) => message.params = Some(Shape::scan(scanner)?),
                Some(field) => {
                    let value = scanner.value()?;
                    message.set(field, &text[value.clone()], value);
                }
                None => {
                    scanner.value()?;
                }
            }
            more = scanner.more(b'}')?;
        }
        Ok(message)
    }

    fn set(&mut self, field: Field, raw: &[u8], at: Range<usize>) {
        match (field, raw) {
            (Field::Version, [b'"', version @ .., b'"']) => self.version_is_2 = unquote(version) == "2.0",
            (Field::Method, [b'"', method @ .., b'"']) => self.method = unquote(method).into_owned(),
            (Field::Id, _) => self.id = Some(at),
            (Field::Result, _) => self.has_result = true,
            (Field::Error, _) => self.has_error = raw != b"null",
            (Field::Version | Field::Method | Field::Params, _) => {}
        }
    }

    /// The id's text, if it is of a kind that can be echoed.
    pub(super) fn id<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let id = &text[self.id.clone()?];
        (id.len() <= MAX_ID && !matches!(id.first(), Some(b'{' | b'['))).then_some(id)
    }

    /// The method's name; empty when it was left out.
    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// The parameters, which can be taken once.
    pub(super) fn take_params(&mut self) -> Option<Shape> {
        self.params.take()
    }

    pub(super) fn kind(&self, text: &[u8]) -> Kind {
        let has_id = self.id(text).is_some();
        let named = !self.method.is_empty();
        if has_id && !named && self.params.is_none() && (self.has_result || self.has_error) {
            Kind::Response
        } else if self.version_is_2 && named && self.id.is_none() {
            Kind::Notification
        } else if self.version_is_2 && named && has_id {
            Kind::Call
        } else {
            Kind::Invalid
        }
    }
}

/// The keys that mean something.
#[derive(Debug, Clone, Copy)]
enum Field {
    Version,
    Id,
    Method,
    Params,
    Result,
    Error,
}

impl Field {
    fn of(raw: &[u8]) -> Option<Self> {
        const FIELDS: [(&str, Field); 6] = [
            ("jsonrpc", Field::Version),
            ("id", Field::Id),
            ("method", Field::Method),
            ("params", Field::Params),
            ("result", Field::Result),
            ("error", Field::Error),
        ];
        // The longest key is seven letters, each of which may be written as an escape of six bytes.
        if raw.len() > 6 * "jsonrpc".len() {
            return None;
        }
        let key = unquote(raw);
        // The one letter beyond ASCII whose case folding makes it a letter of these keys.
        let key = if key.is_ascii() { key } else { Cow::Owned(key.replace('\u{17f}', "s")) };
        FIELDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)).map(|&(_, field)| field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(text: &str) -> (Message, Kind) {
        match Request::parse(text.as_bytes(), 10) {
            Ok(Request::Single(message)) => {
                let kind = message.kind(text.as_bytes());
                (message, kind)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn kinds() {
        for (text, kind) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"a_b"}"#, Kind::Call),
            (r#"{"JSONRPC":"2.0","Id":null,"METHOD":"a_b"}"#, Kind::Call),
            ("{\"j\u{17f}onrpc\":\"2.0\",\"id\":1,\"method\":\"a_b\"}", Kind::Call),
            (r#"{"jsonrpc":"2.\u0030","\u0069d":1,"method":"a_b"}"#, Kind::Call),
            (r#"{"jsonrpc":"2.0","jsonrpc":null,"id":1,"method":"a_b","method":7}"#, Kind::Call),
            (r#"{"jsonrpc":"2.0","jsonrpc":"1.0","id":1,"method":"a_b"}"#, Kind::Invalid),
            (r#"{"jsonrpc":"2.0","method":"a_b"}"#, Kind::Notification),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"a_b"}"#, Kind::Invalid),
            (r#"{"id":1,"result":null}"#, Kind::Response),
            (r#"{"id":1,"error":null}"#, Kind::Invalid),
            (r#"{"id":1,"error":5}"#, Kind::Response),
            (r#"{"id":1,"result":2,"params":null}"#, Kind::Invalid),
            (r#"{"id":{},"result":2}"#, Kind::Invalid),
            ("7", Kind::Invalid),
        ] {
            assert_eq!(single(text).1, kind, "{text}");
        }
    }

    #[test]
    fn the_last_id_wins_and_keeps_its_spelling() {
        let text = r#"{"id":1,"id": 1.50 ,"x":{"id":3}}"#;
        assert_eq!(single(text).0.id(text.as_bytes()), Some(b"1.50".as_slice()));
    }

    #[test]
    fn an_id_is_echoed_up_to_a_length() {
        for (length, taken) in [(MAX_ID, true), (MAX_ID + 1, false), (1 << 20, false)] {
            let id = format!("\"{}\"", "<".repeat(length - 2));
            let text = format!(r#"{{"jsonrpc":"2.0","method":"a_b","id":{id}}}"#);
            let (message, kind) = single(&text);
            assert_eq!(message.id(text.as_bytes()), taken.then_some(id.as_bytes()), "{length}");
            assert_eq!(kind, if taken { Kind::Call } else { Kind::Invalid }, "{length}");
        }
    }

    #[test]
    fn batches_are_bounded() {
        let text = r#"[1,{"id":[1]},{"id":7},{"id":8}]"#;
        assert!(
            matches!(Request::parse(text.as_bytes(), 4), Ok(Request::Batch(messages)) if messages.len() == 4)
        );
        match Request::parse(text.as_bytes(), 1) {
            Ok(Request::TooLong(message)) => assert_eq!(message.id(text.as_bytes()), Some(b"7".as_slice())),
            other => panic!("{other:?}"),
        }
        assert!(Request::parse(b"[1,{\"id\":7}", 1).is_err(), "cut after the bound");
    }
}
