//! A committee from Nitro's `rpc-aggregator` options, and their agreement with a committee file.

use serde::Deserialize;

use super::error::{CommitteeError, Place, Problem};
use super::member::{Member, check_distinct, parse_key, parse_url};
use super::{Committee, Policy, PolicyError};

/// The option that holds A.
const ASSUMED_HONEST: &str = "data-availability.rpc-aggregator.assumed-honest";
/// The option that holds the list of members.
const BACKENDS: &str = "data-availability.rpc-aggregator.backends";

#[derive(Deserialize)]
struct Backend {
    url: String,
    pubkey: String,
}

pub(super) fn committee(assumed_honest: u64, backends: &str) -> Result<Committee, CommitteeError> {
    let members = members(backends)?;
    let n = i64::try_from(members.len()).unwrap_or(i64::MAX);
    // With k = 1, A is H.
    let honest = i64::try_from(assumed_honest).unwrap_or(i64::MAX);
    let policy = Policy::new(n, honest, 1).map_err(|source| match source.field {
        "members" => error(BACKENDS, None, source.into()),
        _ => error(ASSUMED_HONEST, None, PolicyError { field: "assumed-honest", ..source }.into()),
    })?;
    Committee::new(policy, members, Vec::new()).map_err(|problem| error(BACKENDS, None, problem))
}

pub(super) fn check_agreement(
    committee: &Committee,
    assumed_honest: Option<u64>,
    backends: Option<&str>,
) -> Result<(), CommitteeError> {
    let policy = committee.policy();
    if let Some(got) = assumed_honest.filter(|got| *got != policy.assumed_honest()) {
        let problem = Problem::OtherAssumedHonest {
            got,
            expected: policy.assumed_honest(),
            honest_members: policy.honest_members(),
            data_shards: policy.data_shards(),
        };
        return Err(error(ASSUMED_HONEST, None, problem));
    }
    if let Some(backends) = backends {
        let theirs = members(backends)?;
        let points = |members: &[Member]| -> Vec<_> {
            members.iter().map(|member| member.public_key.point_bytes()).collect()
        };
        if points(&theirs) != points(committee.members()) {
            let problem = Problem::OtherKeys { got: theirs.len(), expected: committee.members().len() };
            return Err(error(BACKENDS, None, problem));
        }
    }
    Ok(())
}

fn members(backends: &str) -> Result<Vec<Member>, CommitteeError> {
    let backends: Vec<Backend> =
        serde_json::from_str(backends).map_err(|source| error(BACKENDS, None, Problem::Json { source }))?;
    let mut members = Vec::new();
    // Keys are costly to check: a list that is too long is refused by its length, not after its last key.
    for (i, backend) in backends.iter().enumerate().take(crate::keyset::MAX_MEMBERS + 1) {
        let located = |problem| error(BACKENDS, Some(i + 1), problem);
        let name = format!("backend {}", i + 1);
        let rpc = parse_url(&name, "url", &backend.url).map_err(located)?;
        let public_key = parse_key(&name, &backend.pubkey).map_err(located)?;
        let member = Member { name: display_name(&rpc), public_key, rpc, rest: None, peer: None };
        check_distinct(&members, &member).map_err(located)?;
        members.push(member);
    }
    Ok(members)
}

/// Nitro's members have no names: host, port and path tell them apart as well as the URLs themselves do.
fn display_name(url: &url::Url) -> String {
    let name = url.as_str().trim_end_matches('/');
    name.strip_prefix("http://").or_else(|| name.strip_prefix("https://")).unwrap_or(name).to_owned()
}

fn error(name: &'static str, entry: Option<usize>, problem: Problem) -> CommitteeError {
    CommitteeError { place: Place::Option { name, entry }, problem: Box::new(problem) }
}
