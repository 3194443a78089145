//! Committee files good and bad.

use super::*;
use crate::bls::{PublicKey, SecretKey};

fn key(i: u8) -> PublicKey {
    SecretKey::from_bytes(&[i]).unwrap().public_key()
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

/// One `[[member]]` table; lines 1 to 5 after the header.
fn member(i: u8) -> String {
    let key = base64(&key(i).to_bytes());
    let port = 9000 + u32::from(i) * 10;
    format!(
        "[[member]]\nname = \"m{i}\"\npublic-key = \"{key}\"\nrpc = \"http://127.0.0.1:{port}\"\n\
         rest = \"http://127.0.0.1:{}\"\n",
        port + 1
    )
}

fn file(h: i64, k: i64, members: &[String]) -> String {
    format!("honest-members = {h}\ndata-shards = {k}\n{}", members.concat())
}

fn three() -> Vec<String> {
    (1..=3).map(member).collect()
}

fn error(text: &str) -> String {
    Committee::parse(text).unwrap_err().to_string()
}

#[test]
fn a_good_file() {
    let mut members: Vec<String> = (1..=6).map(member).collect();
    members[5] += "peer = \"/dns4/six.example.org/udp/9879/quic-v1\"\n";
    let committee = Committee::parse(&file(4, 3, &members)).unwrap();
    assert_eq!((committee.assumed_honest(), committee.threshold()), (2, 5));
    let keys: Vec<PublicKey> = (1..=6).map(key).collect();
    let keyset = Keyset::new(2, keys).unwrap();
    assert_eq!(committee.keyset().to_bytes(), keyset.to_bytes());
    assert_eq!(committee.keyset().threshold() as u64, committee.threshold());
    assert_eq!(committee.members()[2].name, "m3");
    assert_eq!(committee.members()[2].rpc.as_str(), "http://127.0.0.1:9030/");
    let peer = committee.members()[5].peer.as_ref().unwrap();
    assert_eq!(peer.as_str(), "/dns4/six.example.org/udp/9879/quic-v1");
    assert_eq!(committee.index_of(&key(4)), Some(3));
    assert_eq!(committee.index_of(&key(9)), None);
}

#[test]
fn codings_of_one_keyset_have_different_ids() {
    let members: Vec<String> = (1..=6).map(member).collect();
    let committees = [(4, 3), (3, 2), (2, 1)].map(|(h, k)| Committee::parse(&file(h, k, &members)).unwrap());
    let hashes = committees.each_ref().map(|committee| committee.keyset().hash());
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    let mut ids = committees.map(|committee| committee.coding_id()).to_vec();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn numbers_out_of_range_are_named_with_their_line() {
    assert_eq!(
        error(&file(4, 1, &three())),
        "committee file:1: honest-members is 4, but must be at least 1 and at most 3 (the number of members)"
    );
    assert_eq!(
        error(&file(2, 3, &three())),
        "committee file:2: data-shards is 3, but must be at least 1 and at most 2 (honest-members)"
    );
    assert!(error(&file(0, 1, &three())).starts_with("committee file:1: honest-members is 0,"));
    assert!(error(&file(2, -1, &three())).starts_with("committee file:2: data-shards is -1,"));
    assert!(error(&file(1, 1, &[])).starts_with("committee file: members is 0,"));
    let many: Vec<String> = (1..=65).map(member).collect();
    // The header of the 65th member.
    assert!(
        error(&file(1, 1, &many))
            .starts_with("committee file:323: members is 65, but must be at least 1 and at most 64")
    );
    assert!(Committee::parse(&file(64, 1, &many[..64])).is_ok());
}

#[test]
fn fields_are_all_needed_and_no_other_is_known() {
    for field in ["honest-members", "data-shards", "name", "public-key", "rpc", "rest"] {
        let text = file(2, 1, &three());
        let start = text.find(&format!("{field} =")).unwrap();
        let end = start + text[start..].find('\n').unwrap();
        let without = [&text[..start], &text[end..]].concat();
        assert!(error(&without).contains(&format!("missing field `{field}`")), "{}", error(&without));
    }
    let text = file(2, 1, &three()).replacen("name = ", "nmae = \"x\"\nname = ", 1);
    assert!(error(&text).starts_with("committee file:4: unknown field `nmae`"), "{}", error(&text));
    let text = format!("assumed-honest = 2\n{}", file(2, 1, &three()));
    assert!(error(&text).starts_with("committee file:1: `assumed-honest` (A) is not given here"));
    let text = file(2, 1, &three()).replace("honest-members = 2", "honest-members = \"2\"");
    assert!(error(&text).starts_with("committee file:1: invalid type: string \"2\""), "{}", error(&text));
    assert!(error("honest-members = ").starts_with("committee file:1: "));
}

/// Member 3's table with one thing changed; its fields are on lines 14 to 17.
fn changed(from: &str, to: &str) -> String {
    let mut members = three();
    assert!(members[2].contains(from));
    members[2] = members[2].replacen(from, to, 1);
    error(&file(2, 1, &members))
}

#[test]
fn what_two_members_share_is_refused() {
    assert_eq!(changed("\"m3\"", "\"m1\""), "committee file:13: name of m1 is that of m1 already: m1");
    let (first, third) = (base64(&key(1).to_bytes()), base64(&key(3).to_bytes()));
    assert!(
        changed(&third, &first).starts_with("committee file:13: public-key of m3 is that of m1 already: 0x")
    );
    for url in ["http://127.0.0.1:9010", "http://127.0.0.1:9011", "HTTP://127.0.0.1:9011/"] {
        assert!(changed("http://127.0.0.1:9030", url).contains("url of m3 is that of m1 already"), "{url}");
    }
    // One member may have both behind one URL.
    let mut members = three();
    members[2] = members[2].replace("9031", "9030");
    assert!(Committee::parse(&file(2, 1, &members)).is_ok());
    let peer = "peer = \"/ip4/10.0.0.1/tcp/1\"\n";
    members[0] += peer;
    members[1] += peer;
    assert!(error(&file(2, 1, &members)).contains("peer of m2 is that of m1 already: /ip4/10.0.0.1/tcp/1"));
}

#[test]
fn names_urls_and_peers_are_checked() {
    for name in ["", "a b", "a\\tb", &"x".repeat(65)] {
        assert!(
            changed("\"m3\"", &format!("\"{name}\"")).starts_with("committee file:14: name "),
            "{name:?}"
        );
    }
    let url = |url: &str| changed("http://127.0.0.1:9030", url);
    assert!(url("127.0.0.1:9030").starts_with("committee file:16: rpc of m3 is \"127.0.0.1:9030\": "));
    assert!(url("ws://127.0.0.1:9030").ends_with("must begin with http:// or https://"));
    assert!(url("http://bob:secret@127.0.0.1").contains("must not hold a user name or password"));
    assert!(!url("http://bob:secret@127.0.0.1").contains("secret"));
    assert!(url("http://127.0.0.1/?x=1").ends_with("(no ? or #)"));
    assert!(changed("http://127.0.0.1:9031", "").starts_with("committee file:17: rest of m3 is \"\": "));
    for peer in ["", "/", "ip4/1.2.3.4/tcp/1", "/ip4//tcp", "/ip4/1.2.3.4 /tcp/1"] {
        let line = format!("peer = \"{peer}\"\nrpc = ");
        assert!(changed("rpc = ", &line).starts_with("committee file:16: peer of m3 is"), "{peer:?}");
    }
}

#[test]
fn keys_are_strict() {
    let third = base64(&key(3).to_bytes());
    let with = |bytes: &[u8]| changed(&third, &base64(bytes));
    assert!(changed(&third, "!!").contains("public-key of m3 is not base64"));
    let without_proof = [&[0][..], &key(3).point_bytes()].concat();
    let mut wrong_proof = key(3).to_bytes();
    wrong_proof[1..97].copy_from_slice(&key(2).to_bytes()[1..97]);
    let infinity = [&[0x60][..], &[0; 288]].concat();
    for bytes in [&[][..], &[0], &without_proof, &wrong_proof, &infinity, &key(3).to_bytes()[..288]] {
        assert!(with(bytes).starts_with("committee file:15: public-key of m3: "), "{}", with(bytes));
    }
    // As people copy it.
    assert!(Committee::parse(&file(2, 1, &three()).replace(&third, &format!(" {third}\\n"))).is_ok());
}

fn backends(keys: &[u8]) -> String {
    let one = |i: &u8| {
        let pubkey = base64(&key(*i).to_bytes());
        format!("{{\"url\":\"http://127.0.0.1:{}/x\",\"pubkey\":\"{pubkey}\"}}", 9000 + u32::from(*i))
    };
    format!("[{}]", keys.iter().map(one).collect::<Vec<_>>().join(","))
}

#[test]
fn nitros_options_make_a_committee_of_whole_copies() {
    let committee = Committee::from_nitro(2, &backends(&[1, 2, 3])).unwrap();
    assert_eq!((committee.data_shards(), committee.honest_members(), committee.assumed_honest()), (1, 2, 2));
    assert_eq!(committee.threshold(), 2);
    assert_eq!(committee.members()[1].name, "127.0.0.1:9002/x");
    assert!(committee.members()[1].rest.is_none());
    let same = Committee::parse(&file(2, 1, &three())).unwrap();
    assert_eq!(committee.keyset().hash(), same.keyset().hash());

    let error = |a, text: &str| Committee::from_nitro(a, text).unwrap_err().to_string();
    let option = "data-availability.rpc-aggregator";
    assert!(
        error(4, &backends(&[1, 2, 3])).starts_with(&format!("{option}.assumed-honest: assumed-honest is 4"))
    );
    assert!(error(0, &backends(&[1])).starts_with(&format!("{option}.assumed-honest: ")));
    assert!(error(u64::MAX, &backends(&[1])).starts_with(&format!("{option}.assumed-honest: ")));
    assert!(error(1, "[]").starts_with(&format!("{option}.backends: members is 0")));
    assert!(error(1, "xyz").starts_with(&format!("{option}.backends: is not a list of ")));
    assert!(
        error(1, &backends(&[1, 2, 1])).starts_with(&format!("{option}.backends, entry 3: public-key of "))
    );
    assert!(
        error(1, &backends(&[1]).replace("http", "ws"))
            .starts_with(&format!("{option}.backends, entry 1: url"))
    );
}

#[test]
fn nitros_options_beside_a_file_must_say_the_same() {
    let members: Vec<String> = (1..=6).map(member).collect();
    let committee = Committee::parse(&file(4, 3, &members)).unwrap();
    let check = |a, text: Option<&str>| committee.check_agrees_with_nitro(a, text);
    assert!(check(None, None).is_ok());
    assert!(check(Some(2), Some(&backends(&[1, 2, 3, 4, 5, 6]))).is_ok());
    let text = check(Some(4), None).unwrap_err().to_string();
    assert_eq!(
        text,
        "data-availability.rpc-aggregator.assumed-honest: is 4, but the committee file's H = 4 and k = 3 give A = 2; \
         leave the option out or make them agree"
    );
    assert!(check(None, Some(&backends(&[2, 1, 3, 4, 5, 6]))).is_err());
    assert!(check(None, Some(&backends(&[1, 2, 3]))).is_err());
}

#[test]
fn files_are_named_in_errors_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("committee.toml");
    let error = || Committee::load(&path).unwrap_err().to_string();
    assert!(error().starts_with(&format!("{}: cannot be read: ", path.display())));
    std::fs::write(&path, file(9, 1, &three())).unwrap();
    assert!(error().starts_with(&format!("{}:1: honest-members is 9", path.display())));
    std::fs::write(&path, "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1)).unwrap();
    assert!(error().contains("a committee file has at most"));
    std::fs::write(&path, file(2, 1, &three())).unwrap();
    assert_eq!(Committee::load(&path).unwrap().members().len(), 3);
}

#[test]
fn mirrors_are_named_by_their_peer_ids() {
    let ids: Vec<String> = (1..=3).map(|i| crate::binding::PeerKey::new([i; 32]).to_string()).collect();
    let with = |mirrors: &str| Committee::parse(&format!("{}{mirrors}", file(2, 1, &three())));
    let mirror = |name: &str, rest: &str| format!("[[mirror]]\nname = \"{name}\"\n{rest}\n");
    let id = |i: usize| format!("peer-id = \"{}\"", ids[i]);
    let good =
        mirror("reader", &format!("{}\npeer = \"/ip4/10.0.0.9/tcp/9879\"", id(0))) + &mirror("r2", &id(1));
    let committee = with(&good).unwrap();
    assert_eq!(committee.mirrors().len(), 2);
    assert_eq!(committee.mirrors()[0].peer_key.to_string(), ids[0]);
    assert_eq!(committee.mirrors()[0].peer.as_ref().unwrap().as_str(), "/ip4/10.0.0.9/tcp/9879");
    // Mirrors are no part of what the members sign.
    assert_eq!(committee.coding_id(), with("").unwrap().coding_id());
    let error = |text: &str| with(text).unwrap_err().to_string();
    assert!(error(&mirror("m1", &id(0))).contains("name of m1 is that of m1 already"));
    assert!(error(&mirror("x", "peer-id = \"12D3\"")).contains("peer-id of x is \"12D3\": not the peer id"));
    assert!(error(&mirror("x", "")).contains("missing field `peer-id`"));
    assert!(
        error(&(mirror("x", &id(0)) + &mirror("y", &id(0)))).contains("peer-id of y is that of x already")
    );
    let many: String = (0..=MAX_MIRRORS).map(|i| mirror(&format!("x{i}"), &id(0))).collect();
    assert!(error(&many).contains("65 mirrors; a committee file names at most 64"));
}
