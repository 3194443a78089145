//! The programs start with the sample configurations, as their services start them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use das_common::http::client::{ClientLimits, Endpoint, HttpClient};
use das_testnet::network::{Network, Plan};
use das_testnet::process::{Launch, ServerProcess};
use das_testnet::tls;

fn sample(program: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(program).join("sample").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The program as its service starts it, with another folder than `/das` and with ports that are free.
fn launch(program: &str, dir: &Path) -> Launch {
    let here = |text: String| text.replace("/das/", &format!("{}/", dir.display()));
    let unit = here(sample(program, &format!("{program}.service")));
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = start.split_whitespace().collect();
    assert_eq!(words[0], format!("/usr/local/bin/{program}"));
    let file = Path::new(words.last().unwrap());
    fs::write(file, here(sample(program, file.file_name().unwrap().to_str().unwrap()))).unwrap();
    let free = ["--rpc-port=0", "--rest-port=0", "--metrics-server.port=0", "--dashboard.port=0"];
    Launch::new(program).args(&words[1..]).args(free)
}

async fn good(server: &ServerProcess, dir: &Path, path: &str) {
    let http = HttpClient::with_tls(ClientLimits::default(), &tls::client_files(dir)).unwrap();
    let url = Endpoint::parse(&server.rest_url().replace("0.0.0.0", "localhost")).unwrap();
    let answer = http.get(&url, path, Duration::from_secs(30), 1 << 20).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", server.output()));
    assert_eq!(answer.status, 200, "{path}: {}", server.output());
}

#[tokio::test]
async fn the_programs_start_with_the_samples() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    let plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };
    let network = Network::open_with_tls(dir, &plan).unwrap();
    // What docs/operate.md has an operator put there.
    fs::create_dir_all(dir.join("data")).unwrap();
    fs::create_dir_all(dir.join("keys")).unwrap();
    fs::copy(network.poster_key_file(), dir.join("keys/ecdsa")).unwrap();
    for file in ["das_bls", "das_bls.pub"] {
        fs::copy(dir.join("member-1/keys").join(file), dir.join("keys").join(file)).unwrap();
    }
    let files = tls::identity(dir, "member-1");
    fs::copy(files.certificate, dir.join("tls/member.pem")).unwrap();
    fs::copy(files.key, dir.join("tls/member.key")).unwrap();

    let member = launch("das-node", dir).start().unwrap();
    good(&member, dir, "/health").await;
    assert!(!member.output().contains("PLAIN HTTP"), "{}", member.output());
    drop(member);

    let aggregator =
        launch("das-aggregator", dir).arg("--tls.outgoing.ca").arg(tls::authority(dir)).start().unwrap();
    good(&aggregator, dir, "/status").await;
    drop(aggregator);

    // Without the certificate there is no start, rather than plain HTTP.
    let (status, said) = launch("das-node", dir)
        .args(["--tls.cert=", "--tls.key="])
        .run_to_end(Duration::from_secs(60))
        .unwrap();
    assert!(!status.success() && said.contains("require-tls"), "{said}");
}
