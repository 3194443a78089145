//! JSON with comments, so that a configuration file can explain itself.

/// Blanks out `// ...` and `/* ... */` comments, and the comma between the last value and a closing bracket.
///
/// What is taken out becomes spaces (line ends stay), so that positions in messages about the JSON are those of the
/// file. Strings are left alone. An unfinished `/*` blanks the rest.
pub fn strip_comments(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    // The last byte that is no white space, and where it is if it is a comma after a value.
    let (mut last, mut comma) = (b',', None);
    let mut i = 0;
    while i < out.len() {
        match (out[i], out.get(i + 1)) {
            (b'"', _) => {
                (last, comma) = (b'"', None);
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
            (b',', _) => {
                comma = (!matches!(last, b'[' | b'{' | b',' | b':')).then_some(i);
                last = b',';
            }
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (byte, _) => {
                if let (b'}' | b']', Some(comma)) = (byte, comma) {
                    out[comma] = b' ';
                }
                (last, comma) = (byte, None);
            }
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
