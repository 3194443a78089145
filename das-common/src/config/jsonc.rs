//! JSON with comments, so that a configuration file can explain itself.

/// Blanks out `// ...` and `/* ... */` comments and commas before a closing bracket.
///
/// What is taken out becomes spaces (line ends stay), so that positions in messages about the JSON are those of the
/// file. Strings are left alone. An unfinished `/*` blanks the rest.
pub fn strip_comments(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut pending_comma = None;
    let mut i = 0;
    while i < out.len() {
        match (out[i], out.get(i + 1)) {
            (b'"', _) => {
                pending_comma = None;
                i = end_of_string(&out, i);
                continue;
            }
            (b'/', Some(b'/')) => {
                let end = out[i..].iter().position(|&b| b == b'\n').map_or(out.len(), |n| i + n);
                blank(&mut out[i..end]);
                i = end;
                continue;
            }
            (b'/', Some(b'*')) => {
                let end = out[i + 2..].windows(2).position(|w| w == b"*/").map_or(out.len(), |n| i + n + 4);
                blank(&mut out[i..end]);
                i = end;
                continue;
            }
            (b',', _) => pending_comma = Some(i),
            (b'}' | b']', _) => {
                if let Some(comma) = pending_comma.take() {
                    out[comma] = b' ';
                }
            }
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            _ => pending_comma = None,
        }
        i += 1;
    }
    String::from_utf8(out).expect("whole characters were replaced by spaces")
}

/// Index after the closing quote of the string that starts at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut i = start + 1;
    while i < text.len() {
        match text[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}
