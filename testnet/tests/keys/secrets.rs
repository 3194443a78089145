//! Secrets are looked for wherever a process could leave them.

use std::fs;
use std::path::Path;

use das_common::bls::read_secret_key_file;
use das_testnet::load::bodies::unix_now;
use das_testnet::process::{Launch, ServerProcess};
use rustix::process::Signal;

use super::authority::Authority;
use super::member::{FOR, LONG, folder, good, member, public_key, signature, store};

const PASSWORD: &str = "zebra-Quagga-okapi-7731";

/// A key and a password in every form in which they could be printed.
struct Secrets(Vec<(&'static str, Vec<u8>)>);

impl Secrets {
    fn of(key_file: &Path) -> Self {
        let (key, _) = read_secret_key_file(key_file).unwrap();
        let bytes = key.to_be_bytes();
        let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
        Self(vec![
            ("the key", bytes.to_vec()),
            ("the key in hex", const_hex::encode(*bytes).into_bytes()),
            ("the key in upper-case hex", const_hex::encode_upper(*bytes).into_bytes()),
            ("the key in base64", base64_simd::STANDARD.encode_to_string(*bytes).into_bytes()),
            ("the key as a list", list.join(", ").into_bytes()),
            ("the password", PASSWORD.as_bytes().to_vec()),
        ])
    }

    #[track_caller]
    fn assert_absent(&self, from: &str, text: &[u8]) {
        for (what, secret) in &self.0 {
            let found = memchr::memmem::find(text, secret).is_some();
            assert!(!found, "{what} is in {from}");
        }
    }

    /// Output, arguments and environment of a process.
    #[track_caller]
    fn assert_absent_around(&self, process: &ServerProcess) {
        self.assert_absent("what it printed", process.output().as_bytes());
        for file in ["cmdline", "environ", "comm", "status", "maps"] {
            let text = fs::read(format!("/proc/{}/{file}", process.id())).unwrap_or_default();
            self.assert_absent(file, &text);
        }
        let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<_> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core}");
        // What the kernel lets others of the same user look into belongs to root.
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        assert!(!locked.trim().starts_with("0 "), "no memory is locked: {locked}");
    }
}

#[test]
fn no_secret_is_in_logs_dumps_panics_arguments_environment_or_cores() {
    let folder = folder();
    let dir = folder.path();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    good(&["key-make", "--to.key-dir", &at("keys")], &[]);
    fs::write(at("password"), PASSWORD).unwrap();
    let (from, to) = (at("keys"), at("keystore"));
    let convert = ["key-convert", "--from.key-dir", &from, "--to.keystore.file", &to];
    let secrets = Secrets::of(&dir.join("keys/das_bls"));
    let said =
        good(&[&convert[..], &["--to.keystore.password-file", &at("password"), "--json"]].concat(), &[]);
    secrets.assert_absent("what dastool printed", said.as_bytes());
    let key = public_key(&dir.join("keys/das_bls.pub"));

    // A member, talkative.
    let keystore = ["--key.keystore.file", &to, "--key.keystore.password-file", &at("password")];
    let launch = member(&dir.join("data"), &keystore).args(["--log-level", "TRACE"]);
    let mut node = launch.start().unwrap();
    signature(&node, &key, b"one", unix_now() + FOR);
    store(&node, b"two", u64::MAX);
    secrets.assert_absent_around(&node);
    // What a bug would leave.
    node.signal(Signal::ABORT).unwrap();
    node.wait_for_exit(LONG).unwrap();
    secrets.assert_absent("what it printed at its end", node.output().as_bytes());
    let bare = fs::read_to_string(dir.join("keys/das_bls")).unwrap();
    for options in [&keystore[..], &["--key.priv-key", bare.trim()], &["--key.key-dir", &at("keys")]] {
        let dumped = member(&dir.join("data"), options).arg("--conf.dump").run_to_end(LONG).unwrap();
        assert!(dumped.0.success(), "{}", dumped.1);
        secrets.assert_absent("--conf.dump", dumped.1.as_bytes());
    }
    // A key where something else is expected is not repeated.
    for (option, file) in [("keystore.file", "keys/das_bls"), ("kms.envelope", "keys/das_bls")] {
        let option = format!("--key.{option}");
        let file = at(file);
        let wrong = [option.as_str(), &file, "--key.keystore.password-file", &at("password")];
        let (status, said) = member(&dir.join("data"), &wrong).run_to_end(LONG).unwrap();
        assert!(!status.success());
        secrets.assert_absent("an error", said.as_bytes());
    }

    // A signer, talkative.
    let authority = Authority::new(&dir.join("tls"));
    let server = authority.issue("localhost");
    let mut signer = Launch::new("das-signer")
        .args(["--port", "0", "--allowed-clients", "alice", "--log-level", "TRACE"])
        .args(["--audit-log", &at("audit"), "--key.keystore.file", &to])
        .args(["--key.keystore.password-file", &at("password"), "--tls.cert"])
        .arg(&server.certificate)
        .arg("--tls.key")
        .arg(&server.key)
        .arg("--tls.client-ca")
        .arg(authority.file())
        .start()
        .unwrap();
    secrets.assert_absent_around(&signer);
    signer.signal(Signal::ABORT).unwrap();
    signer.wait_for_exit(LONG).unwrap();
    secrets.assert_absent("what the signer printed", signer.output().as_bytes());
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && name != "password" {
            secrets.assert_absent(&name, &fs::read(&path).unwrap());
        }
    }
}
