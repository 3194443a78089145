//! Keys of the service that exist and do not decrypt: disabled, about to be deleted, of another region, not for this caller.

use das_testnet::load::bodies::unix_now;
use das_testnet::process::Launch;
use serde_json::{Value, json};

use super::envelope::CREDENTIALS;
use super::member::{FOR, dastool, folder, good, member, public_key, refuses, signature};
use super::moto::Moto;
use super::strict::Strict;

/// What the table says to do about it.
fn cure() -> &'static str {
    das_common::fault::find("DAS-KEY-014").unwrap().cure
}

fn with<'a>(launch: Launch, credentials: &[(&'a str, &'a str)], changed: &[(&'a str, &'a str)]) -> Launch {
    let all = credentials.iter().chain(changed);
    all.fold(launch, |launch, (name, value)| launch.env(name, value))
}

#[test]
fn a_key_that_is_disabled_deleted_or_elsewhere_is_said_and_nothing_is_signed() {
    let folder = folder();
    let moto = Moto::start();
    let strict = Strict::start(&moto);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (envelope, url, service_key) = (at("envelope.json"), strict.url(), moto.make_key());
    let kms = ["--key.kms.envelope", &envelope, "--key.kms.endpoint", &url];
    good(
        &["key-make", "--to.kms.envelope", &envelope, "--to.kms.endpoint", &url, "--kms-key", &service_key],
        CREDENTIALS,
    );
    let key = public_key(&folder.path().join("envelope.json.pub"));
    let data = folder.path().join("data");
    let launch = |changed: &[(&str, &str)]| with(member(&data, &kms), CREDENTIALS, changed);
    let timeout = unix_now() + FOR;
    let mut node = launch(&[]).start().unwrap();
    let first = signature(&node, &key, b"one", timeout);

    let set = |action: &str, more: &Value| {
        let mut body = json!({ "KeyId": service_key });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        moto.call(action, &body);
    };
    let none = json!({});
    // Who holds the key in memory goes on; who starts does not get it.
    set("DisableKey", &none);
    assert_eq!(signature(&node, &key, b"one", timeout), first);
    node.stop().unwrap();
    let said = refuses(&launch(&[]), "DAS-KEY-014", "DisabledException");
    assert!(
        said.contains("aws-kms refuses") && said.contains("is disabled") && said.contains(cure()),
        "{said}"
    );
    let (code, said) = dastool(&[&["key-check"], &kms[..]].concat(), CREDENTIALS);
    assert!(code == 2 && said.contains("DAS-KEY-014") && said.contains("DisabledException"), "{code} {said}");
    // Nor is a key encrypted with it.
    let make = ["--to.kms.envelope", &at("other.json"), "--to.kms.endpoint", &url, "--kms-key", &service_key];
    let (code, said) = dastool(&[&["key-make"], &make[..]].concat(), CREDENTIALS);
    assert!(code == 2 && said.contains("DisabledException"), "{code} {said}");
    assert!(!folder.path().join("other.json").exists());
    set("EnableKey", &none);

    set("ScheduleKeyDeletion", &json!({ "PendingWindowInDays": 7 }));
    let said = refuses(&launch(&[]), "DAS-KEY-014", "KMSInvalidStateException");
    assert!(said.contains("pending deletion") && said.contains("CancelKeyDeletion"), "{said}");
    set("CancelKeyDeletion", &none);
    set("EnableKey", &none);

    // The key is where it was, but the caller asks elsewhere.
    let said = refuses(&launch(&[("AWS_REGION", "eu-central-1")]), "DAS-KEY-014", "NotFoundException");
    assert!(said.contains("does not exist") && said.contains("region"), "{said}");

    let mut node = launch(&[]).start().unwrap();
    assert_eq!(signature(&node, &key, b"one", timeout), first, "the same key as before");
    node.stop().unwrap();
}

#[test]
fn a_caller_without_the_right_to_decrypt_gets_no_key() {
    let folder = folder();
    let moto = Moto::start();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (envelope, url, service_key) = (at("envelope.json"), moto.url(), moto.make_key());
    good(
        &["key-make", "--to.kms.envelope", &envelope, "--to.kms.endpoint", &url, "--kms-key", &service_key],
        CREDENTIALS,
    );
    let key = public_key(&folder.path().join("envelope.json.pub"));
    let user = moto.make_user("member");
    moto.allow("member", &json!({ "Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*" }));
    let caller = [("AWS_ACCESS_KEY_ID", user.id.as_str()), ("AWS_SECRET_ACCESS_KEY", user.secret.as_str())];
    let kms = ["--key.kms.envelope", &envelope, "--key.kms.endpoint", &url];
    let data = folder.path().join("data");
    let launch = |changed: &[(&str, &str)]| with(member(&data, &kms), CREDENTIALS, changed);

    moto.enforce(true);
    let said = refuses(&launch(&caller), "DAS-KEY-014", "AccessDenied");
    assert!(said.contains("kms:Decrypt") && said.contains(cure()) && !said.contains(&user.secret), "{said}");
    // A secret that is not that of the id, and an id that nobody has: moto gives no code that the SDK reads.
    let wrong = [caller[0], ("AWS_SECRET_ACCESS_KEY", "not-that-secret-access-key")];
    let said = refuses(&launch(&wrong), "DAS-KEY-014", "aws-kms refuses");
    assert!(!said.contains("not-that-secret"), "{said}");
    refuses(
        &launch(&[("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), caller[1]]),
        "DAS-KEY-014",
        "aws-kms refuses",
    );

    moto.enforce(false);
    moto.allow("member", &json!({ "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*" }));
    moto.enforce(true);
    let mut node = launch(&caller).start().unwrap();
    signature(&node, &key, b"one", unix_now() + FOR);
    node.stop().unwrap();
}
