//! Recorded bodies with places that stand for something else: `${name}` for a variable, `${*}` for any text.

use super::Variables;

/// Is `text` what `pattern` says? A variable that is not known never is.
pub(super) fn matches(pattern: &[u8], text: &[u8], variables: &Variables<'_>) -> bool {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut rest = pattern;
    while let Some(start) = memchr::memmem::find(rest, b"${") {
        let Some(length) = memchr::memchr(b'}', &rest[start..]) else { break };
        piece.extend_from_slice(&rest[..start]);
        match &rest[start + 2..start + length] {
            b"*" => pieces.push(std::mem::take(&mut piece)),
            name => match std::str::from_utf8(name).ok().and_then(|name| variables.get(name)) {
                Some(value) => piece.extend_from_slice(value.as_bytes()),
                None => return false,
            },
        }
        rest = &rest[start + length + 1..];
    }
    piece.extend_from_slice(rest);
    pieces.push(piece);
    fits(&pieces, text)
}

/// The first piece at the beginning, the last at the end, the others in order between them.
fn fits(pieces: &[Vec<u8>], text: &[u8]) -> bool {
    match pieces {
        [only] => text == only.as_slice(),
        [first, middle @ .., last] => {
            let Some(mut rest) = text.strip_prefix(first.as_slice()) else { return false };
            for piece in middle {
                let Some(at) = memchr::memmem::find(rest, piece) else { return false };
                rest = &rest[at + piece.len()..];
            }
            rest.ends_with(last)
        }
        [] => text.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::Keys;

    #[test]
    fn places() {
        let keys = Keys::default();
        let mut variables = Variables::new(&keys, None);
        variables.set("id", "0x10".to_owned());
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("<${id}>", "<0x10>", true),
            ("<${id_dec}>", "<16>", true),
            ("<${other}>", "<0x10>", false),
            ("a${*}b${*}c", "a--b--c", true),
            ("a${*}b${*}c", "abc", true),
            ("a${*}b${*}c", "acb", false),
            ("${*}${id}", "x0x10", true),
            ("${", "${", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), &variables), fits, "{pattern} {text}");
        }
    }
}
