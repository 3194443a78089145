//! JSON strings as Go reads and writes them, which decides what clients of the recorded servers see.

use std::borrow::Cow;

/// The text of a string, given what is between its quotes and known to be well-formed.
///
/// Bytes that are no UTF-8 and lone surrogates become U+FFFD.
pub(super) fn unquote(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(escape) = memchr::memchr(b'\\', rest) {
        text.push_str(&String::from_utf8_lossy(&rest[..escape]));
        let (character, used) = unescape(&rest[escape..]);
        text.push(character);
        rest = &rest[escape + used..];
    }
    text.push_str(&String::from_utf8_lossy(rest));
    Cow::Owned(text)
}

/// The character of the escape that `raw` begins with, and how many bytes it takes.
fn unescape(raw: &[u8]) -> (char, usize) {
    let simple = |character| (character, 2);
    match raw.get(1) {
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'n') => simple('\n'),
        Some(b'r') => simple('\r'),
        Some(b't') => simple('\t'),
        Some(b'u') => match (code_unit(raw), raw.get(6..).and_then(code_unit_of_escape)) {
            (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
            }
            (Some(unit), _) => (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
            (None, _) => (char::REPLACEMENT_CHARACTER, raw.len()),
        },
        Some(&other) => simple(char::from(other)),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

fn code_unit_of_escape(raw: &[u8]) -> Option<u32> {
    raw.starts_with(b"\\u").then(|| code_unit(raw)).flatten()
}

fn code_unit(raw: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(raw.get(2..6)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// Appends `text` as a JSON string with its quotes, escaped as Go does it: also `<`, `>`, `&` and the two line
/// separators of Unicode.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                push_unicode_escape(out, character);
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends a JSON text that is echoed: byte for byte, except that Go escapes the characters that HTML knows.
pub(super) fn push_echo(out: &mut Vec<u8>, raw: &[u8]) {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        out.extend_from_slice(&rest[..at]);
        let used = match rest[at..] {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                push_unicode_escape(out, if last == 0xa8 { '\u{2028}' } else { '\u{2029}' });
                3
            }
            [0xe2, ..] => {
                out.push(0xe2);
                1
            }
            _ => {
                push_unicode_escape(out, char::from(rest[at]));
                1
            }
        };
        rest = &rest[at + used..];
    }
    out.extend_from_slice(rest);
}

fn push_unicode_escape(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquotes() {
        for (raw, text) in [
            (r"das_store".as_bytes(), "das_store"),
            (br"\u0064as\n\/\\", "das\n/\\"),
            (br"\ud83d\ude00!", "\u{1f600}!"),
            (br"\ud83d!", "\u{fffd}!"),
            (br"\ud83d\n", "\u{fffd}\n"),
            (br"\ude00", "\u{fffd}"),
            (b"a\xffb", "a\u{fffd}b"),
        ] {
            assert_eq!(unquote(raw), text);
        }
    }

    #[test]
    fn quotes_as_go_does() {
        let mut out = Vec::new();
        push_quoted(&mut out, "a\"\\\n\u{1}<>&\u{2028}\u{e9}\u{7f}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001\\u003c\\u003e\\u0026\\u2028\u{e9}\u{7f}\"".as_bytes());
        out.clear();
        push_echo(&mut out, "\"<\u{e9}\u{2029}\u{20ac}\\\"\"".as_bytes());
        assert_eq!(out, "\"\\u003c\u{e9}\\u2029\u{20ac}\\\"\"".as_bytes());
    }
}
