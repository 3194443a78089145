//! Batches from REST servers, and lists of hashes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::wire::parse_get_by_hash;
use http::StatusCode;

/// The longest answer that is read: base64 of the longest batch.
const MAX_ANSWER_BYTES: usize = 90 << 20;
/// The longest line of a list.
const MAX_LINE: usize = 256;

/// REST servers that are asked in their order.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    timeout: Duration,
}

impl Remote {
    pub(super) fn new(urls: &[String], timeout: Duration) -> anyhow::Result<Self> {
        let endpoints =
            urls.iter().map(|url| Endpoint::parse(url)).collect::<Result<_, _>>().context("--rest")?;
        Ok(Self { client: HttpClient::default(), endpoints, timeout })
    }

    pub(super) fn is_given(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// A batch that has this name, and who gave it; or what each of them says.
    pub(super) async fn fetch(&self, hash: &DataHash) -> Result<(VerifiedBatch, String), String> {
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            match self.ask(endpoint, hash).await {
                Ok(batch) => return Ok((batch, endpoint.to_string())),
                Err(reason) => reasons.push(format!("{endpoint}: {reason}")),
            }
        }
        Err(reasons.join("; "))
    }

    async fn ask(&self, endpoint: &Endpoint, hash: &DataHash) -> Result<VerifiedBatch, String> {
        let path = format!("/get-by-hash/{hash}");
        let answer = self.client.get(endpoint, &path, self.timeout, MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err("does not have it".into()),
            status => return Err(format!("HTTP status {status}")),
        }
        let bytes = parse_get_by_hash(&answer.body).map_err(|error| error.to_string())?;
        VerifiedBatch::check(bytes.into(), hash).map_err(|error| error.to_string())
    }
}

/// A hash to be fetched, and until when it is to be kept if the list says so.
pub(super) type Listed = (DataHash, Option<u64>);

/// Reads lines of a list, one at a time: a hash, and behind a blank perhaps a unix time. `-` is standard input.
pub(super) fn read_list(
    path: &Path,
    mut each: impl FnMut(Listed) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    use std::io::{BufRead as _, Read as _};
    let source = || format!("{}: --hashes {}", fault::IMPORT_SOURCE.code, path.display());
    let input: Box<dyn std::io::Read> = match path.as_os_str().as_encoded_bytes() {
        b"-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).with_context(source)?),
    };
    let mut lines = std::io::BufReader::new(input);
    for number in 1_u64.. {
        let mut line = String::new();
        let read = lines.by_ref().take(MAX_LINE as u64 + 1).read_line(&mut line).with_context(source)?;
        if read == 0 {
            break;
        }
        if read > MAX_LINE {
            bail!("{}: line {number} has more than {MAX_LINE} bytes", source());
        }
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            each(parse_line(line).with_context(|| format!("{}: line {number}", source()))?)?;
        }
    }
    Ok(())
}

fn parse_line(line: &str) -> anyhow::Result<Listed> {
    let (hash, until) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let hash = hash.parse().with_context(|| format!("{hash:?}"))?;
    let until = match until.trim() {
        "" => None,
        until => Some(until.parse().with_context(|| format!("{until:?} is no unix time in seconds"))?),
    };
    Ok((hash, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_line_by_line_and_the_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let (one, two) = (DataHash::of(b"one"), DataHash::of(b"two"));
        std::fs::write(&path, format!("# of a member\n0x{one}\n\n{two}  4102444800 \n")).unwrap();
        let mut found = Vec::new();
        read_list(&path, |listed| {
            found.push(listed);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(one, None), (two, Some(4_102_444_800))]);
        for wrong in ["0x12", &format!("{one} tomorrow"), &"0".repeat(MAX_LINE + 1)] {
            std::fs::write(&path, format!("{one}\n{wrong}\n")).unwrap();
            let error = read_list(&path, |_| Ok(())).unwrap_err();
            assert!(format!("{error:#}").contains("line 2"), "{error:#}");
        }
    }
}
