//! Key files and keystores.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::member::{FOR, dastool, folder, good, member, public_key, refuses, signature};
use das_testnet::load::bodies::unix_now;

#[test]
fn a_key_moves_from_files_into_a_keystore_and_signs_the_same() {
    let folder = folder();
    let dir = folder.path();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (keys, keystore, data) = (at("keys"), at("key.json"), dir.join("data"));
    good(&["keygen", "--dir", &keys], &[]);
    let key = public_key(&dir.join("keys/das_bls.pub"));
    let timeout = unix_now() + FOR;

    // As Nitro has it; a mode that is too wide is said, and no more.
    fs::set_permissions(dir.join("keys/das_bls"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut node = member(&data, &["--key.key-dir", &keys]).start().unwrap();
    let first = signature(&node, &key, b"one", timeout);
    assert!(node.output().contains("DAS-KEY-004"), "{}", node.output());
    node.stop().unwrap();

    // Into a keystore.
    let (env, options) = ([("OLD", "correct horse")], ["--key.keystore.file", &keystore]);
    let convert = ["key-convert", "--from.key-dir", &keys, "--to.keystore.file", &keystore];
    good(&[&convert[..], &["--to.keystore.password-env", "OLD"]].concat(), &env);
    let again = dastool(&[&convert[..], &["--to.keystore.password-env", "OLD"]].concat(), &env);
    assert!(again.0 == 2 && again.1.contains("is there already"), "{}", again.1);
    assert_eq!(fs::metadata(&keystore).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(public_key(&dir.join("key.json.pub")), key);
    let launch = |variable: &str, value: &str| {
        let more = ["--key.keystore.password-env", variable];
        member(&data, &[&options[..], &more].concat()).env(variable, value)
    };
    let mut node = launch("OLD", "correct horse").start().unwrap();
    assert_eq!(signature(&node, &key, b"one", timeout), first, "equal words, equal signatures");
    node.stop().unwrap();

    // Rotated: the old password opens nothing any more.
    let rotate = ["key-password", &keystore, "--password-env", "OLD", "--new-password-env", "NEW"];
    let wrong = dastool(&rotate, &[("OLD", "wrong"), ("NEW", "n")]);
    assert!(wrong.0 == 2 && wrong.1.contains("DAS-KEY-006"), "{}", wrong.1);
    good(&rotate, &[("OLD", "correct horse"), ("NEW", "battery staple")]);
    let said = refuses(&launch("P", "correct horse"), "DAS-KEY-006", "the password is wrong");
    assert!(!said.contains("correct horse"), "{said}");
    let mut node = launch("P", "battery staple").start().unwrap();
    assert_eq!(signature(&node, &key, b"one", timeout), first);
    node.stop().unwrap();

    // From a password file; without one; with nobody to ask.
    fs::write(dir.join("password"), "battery staple\n").unwrap();
    let file = at("password");
    let from_file = [&options[..], &["--key.keystore.password-file", &file]].concat();
    let mut node = member(&data, &from_file).start().unwrap();
    assert_eq!(signature(&node, &key, b"one", timeout), first);
    assert!(node.output().contains("DAS-KEY-004"), "the password file is too wide: {}", node.output());
    node.stop().unwrap();
    let prompt = [&options[..], &["--key.keystore.password-prompt"]].concat();
    refuses(&member(&data, &prompt), "DAS-KEY-021", "no terminal");
    let missing = [&options[..], &["--key.keystore.password-env", "DAS_NOT_SET"]].concat();
    refuses(&member(&data, &missing), "DAS-KEY-021", "DAS_NOT_SET");

    // Back to files, which are those of the beginning.
    let back = at("back");
    let convert = ["key-convert", "--from.keystore.file", &keystore, "--from.keystore.password-file", &file];
    good(&[&convert[..], &["--to.key-dir", &back]].concat(), &[]);
    for name in ["das_bls", "das_bls.pub"] {
        assert_eq!(
            fs::read(dir.join("back").join(name)).unwrap(),
            fs::read(dir.join("keys").join(name)).unwrap()
        );
    }

    // Which key is it, and whose?
    let committee = |public: &str| {
        let text = format!(
            "honest-members = 1\ndata-shards = 1\n[[member]]\nname = \"alice\"\npublic-key = \"{public}\"\n\
             rpc = \"http://127.0.0.1:1\"\nrest = \"http://127.0.0.1:2\"\n"
        );
        fs::write(dir.join("committee.toml"), text).unwrap();
    };
    let public = fs::read_to_string(dir.join("keys/das_bls.pub")).unwrap();
    committee(&public);
    let file_of_committee = at("committee.toml");
    for source in [
        vec![keystore.as_str()],
        vec!["--key.key-dir", &back],
        vec!["--key.keystore.file", &keystore, "--key.keystore.password-file", &file],
    ] {
        let said = good(&[&["key-check", "--committee", &file_of_committee], &source[..]].concat(), &[]);
        assert!(said.contains(&public) && said.contains("alice, index 0"), "{said}");
    }
    let other = good(&["key-make", "--to.key-dir", &at("other")], &[]);
    committee(other.lines().next().unwrap());
    let (code, said) = dastool(&["key-check", "--committee", &file_of_committee, &keystore], &[]);
    assert!(code == 1 && said.contains("none"), "{said}");
}

#[test]
fn a_key_that_is_not_there_or_twice_is_said_at_the_start() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = folder.path().join("data");
    good(&["key-make", "--to.key-dir", &at("a")], &[]);
    good(&["key-make", "--to.keystore.file", &at("b"), "--to.keystore.password-env", "P"], &[("P", "p")]);
    refuses(&member(&data, &["--key.key-dir", &at("none")]), "DAS-KEY-001", "none/das_bls");
    fs::copy(at("b.pub"), folder.path().join("a/das_bls.pub")).unwrap();
    refuses(&member(&data, &["--key.key-dir", &at("a")]), "DAS-KEY-003", "is not the public key of");
    let mut text = fs::read_to_string(at("b")).unwrap();
    text = text.replace("\"version\": 4", "\"version\": 3");
    fs::write(at("c"), text).unwrap();
    let keystore = ["--key.keystore.file", &at("c"), "--key.keystore.password-env", "P"];
    refuses(&member(&data, &keystore).env("P", "p"), "DAS-KEY-002", "version is not 4");
    let both =
        ["--key.key-dir", &at("a"), "--key.keystore.file", &at("b"), "--key.keystore.password-env", "P"];
    let (status, said) = member(&data, &both).run_to_end(super::member::LONG).unwrap();
    assert!(!status.success() && said.contains("--data-availability.key.key-dir is given too"), "{said}");
}
