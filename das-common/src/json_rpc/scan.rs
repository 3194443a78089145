//! Finding the pieces of a JSON text without building anything.
//!
//! A store request is two megabytes of text of which all but a hundred bytes is one string. The scanner walks over the
//! text once, checks that it is JSON by the same rules as the recorded servers (which are Go's: control characters in
//! strings are refused, invalid UTF-8 is not, containers may nest [`MAX_NESTING`] deep), and hands out positions.
//! Strings are crossed with vector instructions. It uses no recursion, so nesting cannot exhaust the stack.

use std::ops::Range;

/// How deep arrays and objects may nest; deeper text is a parse error.
pub(super) const MAX_NESTING: usize = 10_000;

/// After an escape this many bytes are looked at one by one before the vector search is started again, so that a text
/// full of escapes does not pay its start-up cost for each.
const BYTEWISE_AFTER_ESCAPE: usize = 32;

/// A string is searched in blocks of this size, so that what is looked for second is still in the nearest cache.
const BLOCK: usize = 8 * 1024;

/// The text is no JSON value, or ends before it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// A position in a JSON text.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// Containers that the caller has entered.
    depth: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `text`.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The next byte that is not white space, without crossing it; `None` at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Enters the array or object that opens here, and says whether it has any content. When it has none the scanner
    /// is already behind it.
    pub(super) fn enter(&mut self, close: u8) -> Result<bool, NotJson> {
        self.peek().ok_or(NotJson)?;
        self.at += 1;
        if self.depth == MAX_NESTING {
            return Err(NotJson);
        }
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        self.depth += 1;
        Ok(true)
    }

    /// After an element of an entered container: crosses the comma, or the closing byte. Says whether more follows.
    pub(super) fn more(&mut self, close: u8) -> Result<bool, NotJson> {
        let byte = self.peek().ok_or(NotJson)?;
        self.at += 1;
        if byte == b',' {
            Ok(true)
        } else if byte == close {
            self.depth -= 1;
            Ok(false)
        } else {
            Err(NotJson)
        }
    }

    /// Crosses an object's key and its colon; the range is the key between its quotes.
    pub(super) fn key(&mut self) -> Result<Range<usize>, NotJson> {
        if self.peek() != Some(b'"') {
            return Err(NotJson);
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(key)
    }

    /// Crosses one whole value; the range is the value with its quotes or brackets.
    pub(super) fn value(&mut self) -> Result<Range<usize>, NotJson> {
        let first = self.peek().ok_or(NotJson)?;
        let start = self.at;
        match first {
            b'{' | b'[' => self.container()?,
            scalar => self.scalar(scalar)?,
        }
        Ok(start..self.at)
    }

    fn scalar(&mut self, first: u8) -> Result<(), NotJson> {
        match first {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(NotJson),
        }
    }

    fn container(&mut self) -> Result<(), NotJson> {
        // The closing bytes of the containers that were opened here.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek().ok_or(NotJson)? {
                b'{' => {
                    if self.open(b'}', &mut open)? {
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    if self.open(b']', &mut open)? {
                        continue;
                    }
                }
                scalar => self.scalar(scalar)?,
            }
            // A value has ended; what follows belongs to the container around it.
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                let byte = self.peek().ok_or(NotJson)?;
                self.at += 1;
                if byte == close {
                    open.pop();
                } else if byte == b',' {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                } else {
                    return Err(NotJson);
                }
            }
        }
    }

    fn open(&mut self, close: u8, open: &mut Vec<u8>) -> Result<bool, NotJson> {
        self.at += 1;
        if self.depth + open.len() >= MAX_NESTING {
            return Err(NotJson);
        }
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        open.push(close);
        Ok(true)
    }

    /// Crosses the string that begins here; the range is what is between its quotes.
    fn string(&mut self) -> Result<Range<usize>, NotJson> {
        self.at += 1;
        let start = self.at;
        let mut bytewise_until = start;
        loop {
            let rest = &self.text[self.at..];
            let bytewise = bytewise_until.saturating_sub(self.at);
            let block = &rest[..rest.len().min(if bytewise > 0 { bytewise } else { BLOCK })];
            let found = if bytewise > 0 {
                block.iter().position(|byte| matches!(byte, b'"' | b'\\'))
            } else {
                memchr::memchr2(b'"', b'\\', block)
            };
            let plain = &block[..found.unwrap_or(block.len())];
            if plain.iter().fold(0xff, |low, &byte| low.min(byte)) < b' ' {
                return Err(NotJson);
            }
            self.at += plain.len();
            match self.here() {
                None => return Err(NotJson),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                Some(b'\\') => {
                    self.escape()?;
                    bytewise_until = self.at + BYTEWISE_AFTER_ESCAPE;
                }
                // The block is over, the string is not.
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let rest = &self.text[self.at + 1..];
        match rest.first().ok_or(NotJson)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = rest.get(1..5).ok_or(NotJson)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(NotJson);
                }
                self.at += 6;
            }
            _ => return Err(NotJson),
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.here() == Some(b'-') {
            self.at += 1;
        }
        match self.here() {
            // A zero stands alone: what follows it is looked at by the caller.
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.here(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit, then as many as there are.
    fn digits(&mut self) -> Result<(), NotJson> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(NotJson) } else { Ok(()) }
    }

    fn here(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &[u8]) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.peek().is_none()
    }

    #[test]
    fn accepts_what_is_json() {
        for text in [
            "0",
            "-0",
            "1.50",
            "1e9",
            "1E+9",
            "-1.5e-07",
            "true",
            "false",
            "null",
            "\"\"",
            r#""\"\\\/\b\f\n\r\té""#,
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "[1,2]",
            "[[],{}]",
            r#"{"a":1,"a":[{"b":null}]}"#,
            " \n\t\r1 ",
            "\"\u{7f}\u{e9}\"",
            "123456789012345678901234567890",
        ] {
            assert!(accepts(text.as_bytes()), "{text}");
        }
        assert!(accepts(b"\"\xff\xfe\""), "bytes that are no UTF-8");
    }

    #[test]
    fn refuses_what_is_not() {
        for text in [
            "",
            " ",
            "-",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "tru",
            "nul",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,]",
            "[1 2]",
            "]",
            "{",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1]",
            "[1}",
            "\u{feff}1",
            "'a'",
            "1 2",
        ] {
            assert!(!accepts(text.as_bytes()), "{text}");
        }
        assert!(!accepts(&[b"\"0x".as_slice(), &[b'0'; 100], &[0x1f], &[b'0'; 100], b"\""].concat()));
    }

    #[test]
    fn nesting_is_bounded() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested =
                |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes();
            assert!(accepts(&nested(MAX_NESTING)));
            assert!(!accepts(&nested(MAX_NESTING + 1)));
            assert!(!accepts(&nested(400_000)));
        }
    }

    proptest::proptest! {
        /// Whatever serde_json takes for JSON the scanner takes too, and it never panics.
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}",:0-9eE.\-+ntrufalse\\ ]{0,24}"#) {
            let reference = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            proptest::prop_assert_eq!(accepts(text.as_bytes()), reference, "{}", text);
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            accepts(&text);
        }
    }
}
