//! Which content types a request may have.

const ACCEPTED: [&str; 3] = ["application/json", "application/json-rpc", "application/jsonrequest"];

/// Is this the value of a `Content-Type` header under which requests are read?
///
/// Parameters do not matter, but they must be well-formed; equal names must have equal values.
pub(super) fn is_accepted(header: &[u8]) -> bool {
    let semicolon = header.iter().position(|&byte| byte == b';').unwrap_or(header.len());
    let (kind, parameters) = header.split_at(semicolon);
    let kind = kind.trim_ascii();
    ACCEPTED.iter().any(|accepted| accepted.as_bytes().eq_ignore_ascii_case(kind))
        && are_well_formed(parameters)
}

fn are_well_formed(mut rest: &[u8]) -> bool {
    let mut seen: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() || rest.trim_ascii_end() == b";" {
            return true;
        }
        let Some((name, value, after)) = parameter(rest) else { return false };
        match seen.iter().find(|(earlier, _)| *earlier == name) {
            Some((_, earlier)) if *earlier != value => return false,
            Some(_) => {}
            None => seen.push((name, value)),
        }
        rest = after;
    }
}

/// `; name = value`, and what follows it.
fn parameter(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>, &[u8])> {
    let text = text.strip_prefix(b";")?.trim_ascii_start();
    let (name, text) = token(text);
    if name.is_empty() {
        return None;
    }
    let text = text.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (value, text) = value(text)?;
    Some((name.to_ascii_lowercase(), value, text))
}

fn value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let (value, rest) = token(text);
        return (!value.is_empty()).then(|| (value.to_vec(), rest));
    };
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match *quoted.get(at)? {
            b'"' => return Some((value, &quoted[at + 1..])),
            // Only a character that means something is taken to be escaped.
            b'\\' if quoted.get(at + 1).is_some_and(|&next| !is_token(next)) => {
                value.push(quoted[at + 1]);
                at += 2;
            }
            b'\r' | b'\n' => return None,
            byte => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

fn token(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|&byte| !is_token(byte)).unwrap_or(text.len()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::is_accepted;

    #[test]
    fn content_types() {
        for header in [
            "application/json",
            "APPLICATION/JSON",
            " application/json-rpc ",
            "application/jsonrequest",
            "application/json;",
            "application/json ; ",
            "application/json; charset=utf-8",
            "application/json;a=b;a=b",
            "application/json;charset=\"utf-16\"",
            "application/json; a = \"b;\\\"c\" ; d=e",
        ] {
            assert!(is_accepted(header.as_bytes()), "{header}");
        }
        for header in [
            "",
            "json",
            "text/json",
            "application/json,text/plain",
            "application/json text",
            "application/json;a",
            "application/json;a=",
            "application/json;=b",
            "application/json;a=b;a=c",
            "application/json;a=\"b",
            "application/json;;a=b",
            "application/json;a=b,c=d",
            "application /json",
        ] {
            assert!(!is_accepted(header.as_bytes()), "{header}");
        }
    }
}
