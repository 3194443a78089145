//! How certificates, keysets and keys are shown, to people and to programs.

use std::fmt::Write as _;

use das_common::bls::PublicKey;
use das_common::certificate::Certificate;
use das_common::keyset::NitroKeyset;
use serde_json::{Value, json};

use super::output::hex;

/// A list of names and values for people, with the same as JSON.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) json: Value,
}

/// One line of a list.
pub(crate) fn row(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name:<15}{value}");
}

pub(crate) fn certificate(certificate: &Certificate) -> Shown {
    let mut text = String::new();
    row(&mut text, "what", "certificate");
    row(&mut text, "version", certificate.version);
    row(&mut text, "keyset hash", format_args!("0x{}", certificate.keyset_hash));
    row(&mut text, "data hash", format_args!("0x{}", certificate.data_hash));
    row(&mut text, "timeout", time(certificate.timeout));
    row(&mut text, "signers", signers(certificate.signers_mask));
    row(&mut text, "signature", hex(&certificate.signature));
    let json = json!({
        "what": "certificate",
        "version": certificate.version,
        "keysetHash": hex(certificate.keyset_hash.as_bytes()),
        "dataHash": hex(certificate.data_hash.as_bytes()),
        "timeout": certificate.timeout,
        "signersMask": format!("{:#x}", certificate.signers_mask),
        "signature": hex(&certificate.signature),
    });
    Shown { text, json }
}

pub(crate) fn keyset(keyset: &NitroKeyset) -> Shown {
    let mut text = String::new();
    row(&mut text, "what", "keyset");
    row(&mut text, "hash", format_args!("0x{}", keyset.hash()));
    row(&mut text, "assumed honest", keyset.assumed_honest());
    row(&mut text, "keys", keyset.keys().len());
    let json = json!({
        "what": "keyset",
        "keysetHash": hex(keyset.hash().as_bytes()),
        "assumedHonest": keyset.assumed_honest(),
        "keys": keyset.keys().len(),
    });
    Shown { text, json }
}

pub(crate) fn public_key(key: &PublicKey) -> Shown {
    let base64 = base64_simd::STANDARD.encode_to_string(key.to_bytes());
    let mut text = String::new();
    row(&mut text, "what", "BLS public key with proof of possession");
    row(&mut text, "das_bls.pub", &base64);
    row(&mut text, "key", hex(&key.point_bytes()));
    Shown {
        text,
        json: json!({ "what": "blsPublicKey", "publicKey": base64, "key": hex(&key.point_bytes()) }),
    }
}

/// The positions of the set bits.
fn signers(mask: u64) -> String {
    let positions: Vec<String> =
        (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
    format!("{} (mask {mask:#x}: {})", positions.len(), positions.join(", "))
}

/// A point in time for people: unix seconds, the date in UTC, and how far from now.
pub(crate) fn time(unix: u64) -> String {
    let now = super::now();
    let distance = unix.abs_diff(now);
    let distance = match distance {
        0..120 => format!("{distance} s"),
        120..7_200 => format!("{} min", distance / 60),
        7_200..172_800 => format!("{} h", distance / 3_600),
        _ => format!("{} days", distance / 86_400),
    };
    let distance = if unix >= now { format!("in {distance}") } else { format!("{distance} ago") };
    format!("{unix} ({}, {distance})", date(unix))
}

/// The last second that is shown as a date: the end of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;

fn date(unix: u64) -> String {
    if unix > LAST_DATE {
        return "after the year 9999".to_owned();
    }
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days are counted from 1 March of the year 0, so that a leap day is the last one of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_776_297_599, "2026-04-15 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (LAST_DATE, "9999-12-31 23:59:59 UTC"),
            (u64::MAX, "after the year 9999"),
        ] {
            assert_eq!(date(unix), expected);
        }
    }
}
