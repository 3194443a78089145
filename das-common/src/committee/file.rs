//! Reading a committee file.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::error::{CommitteeError, Place, Problem};
use super::member::{Member, PeerAddress, check_distinct, check_name, parse_key, parse_url};
use super::mirror::{self, MAX_MIRRORS, Mirror};
use super::{Committee, Policy};

/// The longest committee file that is read: 64 members need a tenth of it.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    honest_members: Option<Spanned<i64>>,
    #[serde(default)]
    assumed_honest: Option<Spanned<IgnoredAny>>,
    data_shards: Spanned<i64>,
    #[serde(default)]
    member: Vec<Spanned<Entry>>,
    #[serde(default)]
    mirror: Vec<Spanned<MirrorEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: Spanned<String>,
    public_key: Spanned<String>,
    rpc: Spanned<String>,
    rest: Spanned<String>,
    peer: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MirrorEntry {
    name: Spanned<String>,
    peer: Option<Spanned<String>>,
    peer_id: Spanned<String>,
}

/// A problem and where in the text it is.
struct Located(Option<Range<usize>>, Problem);

fn at<T>(spanned: &Spanned<T>) -> impl FnOnce(Problem) -> Located {
    let span = spanned.span();
    move |problem| Located(Some(span), problem)
}

pub(super) fn load(path: &Path) -> Result<Committee, CommitteeError> {
    let error = |problem| {
        let place = Place::File { path: Some(path.to_owned()), line: None };
        CommitteeError { place, problem: Box::new(problem) }
    };
    let unreadable = |source| error(Problem::Unreadable { source });
    let mut text = String::new();
    // One byte more than allowed tells a long file from one that just fits, whatever its metadata says.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(error(Problem::TooLong { got: text.len() as u64, limit: MAX_FILE_BYTES }));
    }
    parse(&text, Some(path))
}

pub(super) fn parse(text: &str, path: Option<&Path>) -> Result<Committee, CommitteeError> {
    check(text).map_err(|Located(span, problem)| {
        let line = span.map(|span| 1 + text[..span.start].matches('\n').count());
        CommitteeError {
            place: Place::File { path: path.map(Path::to_owned), line },
            problem: Box::new(problem),
        }
    })
}

fn check(text: &str) -> Result<Committee, Located> {
    let file: File = toml::from_str(text)
        .map_err(|source| Located(source.span(), Problem::Toml { source: Box::new(source) }))?;
    if let Some(value) = &file.assumed_honest {
        return Err(at(value)(Problem::AssumedHonest));
    }
    let honest = file.honest_members.ok_or_else(|| {
        let source = serde::de::Error::missing_field("honest-members");
        Located(None, Problem::Toml { source: Box::new(source) })
    })?;
    let shards = &file.data_shards;
    let n = i64::try_from(file.member.len()).unwrap_or(i64::MAX);
    let policy = Policy::new(n, *honest.get_ref(), *shards.get_ref()).map_err(|source| {
        let span = match source.field {
            "honest-members" => Some(honest.span()),
            "data-shards" => Some(shards.span()),
            // Too many members: the first one too many.
            _ => file.member.get(crate::keyset::MAX_MEMBERS).map(Spanned::span),
        };
        Located(span, source.into())
    })?;

    let mut members = Vec::with_capacity(file.member.len());
    for entry in &file.member {
        let member = check_member(entry.get_ref())?;
        check_distinct(&members, &member).map_err(at(entry))?;
        members.push(member);
    }
    if let Some(first) = file.mirror.get(MAX_MIRRORS) {
        return Err(at(first)(Problem::Mirrors { got: file.mirror.len(), limit: MAX_MIRRORS }));
    }
    let mut mirrors = Vec::with_capacity(file.mirror.len());
    for entry in &file.mirror {
        let mirror = check_mirror(entry.get_ref())?;
        mirror::check_distinct(&members, &mirrors, &mirror).map_err(at(entry))?;
        mirrors.push(mirror);
    }
    Committee::new(policy, members, mirrors).map_err(|problem| Located(None, problem))
}

fn check_mirror(entry: &MirrorEntry) -> Result<Mirror, Located> {
    let name = entry.name.get_ref();
    check_name(name).map_err(at(&entry.name))?;
    let peer = |text: &Spanned<String>| PeerAddress::parse(name, text.get_ref()).map_err(at(text));
    Ok(Mirror {
        peer: entry.peer.as_ref().map(peer).transpose()?,
        peer_key: mirror::parse_key(name, entry.peer_id.get_ref()).map_err(at(&entry.peer_id))?,
        name: name.clone(),
    })
}

fn check_member(entry: &Entry) -> Result<Member, Located> {
    let name = entry.name.get_ref();
    check_name(name).map_err(at(&entry.name))?;
    let url = |field, text: &Spanned<String>| parse_url(name, field, text.get_ref()).map_err(at(text));
    let peer = |text: &Spanned<String>| PeerAddress::parse(name, text.get_ref()).map_err(at(text));
    Ok(Member {
        public_key: parse_key(name, entry.public_key.get_ref()).map_err(at(&entry.public_key))?,
        rpc: url("rpc", &entry.rpc)?,
        rest: Some(url("rest", &entry.rest)?),
        peer: entry.peer.as_ref().map(peer).transpose()?,
        name: name.clone(),
    })
}
