//! The tokens that callers of the provider show: JWTs of the engine API's kind (HS256, issued within a minute).
//!
//! # Guarantee
//! A token is accepted only if its signature is the HMAC of its first two parts under the shared secret; nothing in an
//! unsigned token is acted upon except to say what is wrong with it. The error texts are those of the recorded server.

use ring::hmac;
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

/// A token's issue time may be this far from now, in seconds.
const MAX_SKEW: f64 = 60.0;

/// Why a token is refused.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum TokenError {
    /// No `Authorization: Bearer` header.
    #[error("missing token")]
    Missing,
    /// Not three parts.
    #[error("token contains an invalid number of segments")]
    Segments,
    /// A part is not base64.
    #[error("illegal base64 data at input byte {at}")]
    Base64 {
        /// The first wrong byte.
        at: usize,
    },
    /// A part is not JSON.
    #[error("{reason}")]
    Json {
        /// What is wrong with it.
        reason: String,
    },
    /// Signed in another way.
    #[error("signing method {name} is invalid")]
    Method {
        /// The way it names.
        name: String,
    },
    /// Signed with another secret.
    #[error("signature is invalid")]
    Signature,
    /// Its time is over.
    #[error("token is expired")]
    Expired,
    /// It does not say when it was issued.
    #[error("missing issued-at")]
    NoIssueTime,
    /// Issued too long ago.
    #[error("stale token")]
    Stale,
    /// Issued too far in the future.
    #[error("future token")]
    Future,
}

/// Why a secret cannot be used.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("a token secret is the hex of 32 bytes, not {got} characters of which some may be no hex")]
pub struct SecretError {
    /// Characters given.
    pub got: usize,
}

/// The secret shared with the callers.
pub struct TokenSecret(hmac::Key);

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iat: Option<NumericDate>,
    #[serde(default)]
    exp: Option<NumericDate>,
}

/// Seconds, as a number or as a text that holds one.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Number(f64),
    Text(String),
}

impl NumericDate {
    fn seconds(&self) -> Result<f64, TokenError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| TokenError::Json {
                reason: format!("json: invalid number literal, trying to unmarshal {text:?} into Number"),
            }),
        }
    }
}

impl TokenSecret {
    /// Reads the content of a secret file: 64 hex digits, with or without `0x`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        const_hex::decode_to_slice(text, &mut bytes[..]).map_err(|_| SecretError { got: text.len() })?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes[..])))
    }

    /// Checks the `Authorization` header of a request at `now` (unix seconds).
    pub fn check(&self, authorization: Option<&str>, now: u64) -> Result<(), TokenError> {
        let token = authorization.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { return Err(TokenError::Segments) };
        let header: Header = json(&base64url(header)?)?;
        let claims: Claims = json(&base64url(claims)?)?;
        if header.alg != "HS256" {
            return Err(TokenError::Method { name: header.alg.chars().take(20).collect() });
        }
        let signed = &token[..token.len() - signature.len() - 1];
        hmac::verify(&self.0, signed.as_bytes(), &base64url(signature)?)
            .map_err(|_| TokenError::Signature)?;
        check_times(&claims, now as f64)
    }
}

fn check_times(claims: &Claims, now: f64) -> Result<(), TokenError> {
    let exp = claims.exp.as_ref().map(NumericDate::seconds).transpose()?;
    if exp.is_some_and(|exp| exp.is_nan() || now >= exp) {
        return Err(TokenError::Expired);
    }
    let iat = claims.iat.as_ref().map(NumericDate::seconds).transpose()?.ok_or(TokenError::NoIssueTime)?;
    // What is not a number is no time.
    if iat.is_nan() || now - iat > MAX_SKEW {
        return Err(TokenError::Stale);
    }
    if iat - now > MAX_SKEW {
        return Err(TokenError::Future);
    }
    Ok(())
}

fn base64url(text: &str) -> Result<Vec<u8>, TokenError> {
    let bad = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    if let Some(at) = bad {
        return Err(TokenError::Base64 { at });
    }
    if text.len() % 4 == 1 {
        return Err(TokenError::Base64 { at: text.len() - 1 });
    }
    let decoded = base64_simd::forgiving_decode_to_vec(text.replace('-', "+").replace('_', "/").as_bytes());
    decoded.map_err(|_| TokenError::Base64 { at: text.len() })
}

fn json<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, TokenError> {
    serde_json::from_slice(text).map_err(|error| {
        let first = text.trim_ascii_start().first().copied().unwrap_or(b' ');
        let reason = if text.trim_ascii().is_empty() {
            "unexpected end of JSON input".to_owned()
        } else if !matches!(first, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') {
            format!("invalid character '{}' looking for beginning of value", first.escape_ascii())
        } else {
            error.to_string()
        };
        TokenError::Json { reason }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn secret() -> TokenSecret {
        TokenSecret::parse(&format!("0x{}\n", "17".repeat(32))).unwrap()
    }

    fn signed(header: &str, claims: &str, key: &hmac::Key) -> String {
        let encode = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
        let text = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let tag = hmac::sign(key, text.as_bytes());
        format!("Bearer {text}.{}", encode(tag.as_ref()))
    }

    fn check(claims: &str) -> Result<(), TokenError> {
        let token = signed(r#"{"typ":"JWT","alg":"HS256"}"#, claims, &secret().0);
        secret().check(Some(&token), NOW)
    }

    #[test]
    fn times_are_checked_on_both_sides() {
        for iat in [NOW - 60, NOW, NOW + 60] {
            assert_eq!(check(&format!("{{\"iat\":{iat}}}")), Ok(()));
            assert_eq!(check(&format!("{{\"iat\":\"{iat}\",\"nbf\":{}}}", NOW + 3600)), Ok(()));
        }
        assert_eq!(check(&format!("{{\"iat\":{}}}", NOW - 61)), Err(TokenError::Stale));
        assert_eq!(check(&format!("{{\"iat\":{}}}", NOW + 61)), Err(TokenError::Future));
        assert_eq!(check("{\"iat\":\"NaN\"}"), Err(TokenError::Stale));
        assert_eq!(check("{}"), Err(TokenError::NoIssueTime));
        assert_eq!(check(&format!("{{\"iat\":{NOW},\"exp\":{NOW}}}")), Err(TokenError::Expired));
        assert_eq!(check(&format!("{{\"iat\":{NOW},\"exp\":{}}}", NOW + 1)), Ok(()));
    }

    #[test]
    fn only_the_right_signature_counts() {
        let claims = format!("{{\"iat\":{NOW}}}");
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let hs256 = r#"{"alg":"HS256"}"#;
        assert_eq!(secret().check(Some(&signed(hs256, &claims, &other)), NOW), Err(TokenError::Signature));
        let none = signed(r#"{"alg":"none"}"#, &claims, &secret().0);
        assert_eq!(
            secret().check(Some(&none), NOW).unwrap_err().to_string(),
            "signing method none is invalid"
        );
        let good = signed(hs256, &claims, &secret().0);
        assert_eq!(secret().check(Some(&good), NOW), Ok(()));
        // A bit anywhere, and it is another token.
        for at in ("Bearer ".len()..good.len() - 1).step_by(7) {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed == good || secret().check(Some(&changed), NOW).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_token_gets_its_words() {
        for missing in [None, Some(""), Some("Bearer "), Some("bearer x"), Some("Basic dXNlcg==")] {
            assert_eq!(secret().check(missing, NOW), Err(TokenError::Missing));
        }
        for (token, text) in [
            ("abc", "token contains an invalid number of segments"),
            ("a.b.c", "illegal base64 data at input byte 0"),
            (" a.b.c", "illegal base64 data at input byte 0"),
            ("aGVsbG8.e30.e30", "invalid character 'h' looking for beginning of value"),
        ] {
            let error = secret().check(Some(&format!("Bearer {token}")), NOW).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        assert!(TokenSecret::parse("0x1234").is_err() && TokenSecret::parse("").is_err());
    }

    proptest! {
        #[test]
        fn any_header_gives_an_answer(text in "(Bearer )?[ -~]{0,80}") {
            prop_assert!(secret().check(Some(&text), NOW).is_err());
        }
    }
}
