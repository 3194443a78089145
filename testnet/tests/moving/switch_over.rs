//! The way of `docs/migrate-from-nitro.md`, walked with a server of Nitro's kind that lives on meanwhile, and back. The commands
//! are read from the page: what it says is what is tested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::http::answers::AnswerBudget;
use das_common::http::rest::{self, BatchSource, EncodedBatch, Scope};
use das_common::http::server::{Limits, serve};
use das_common::wire::ExpirationPolicy;
use das_testnet::http::Connection;
use das_testnet::load::bodies::unix_now;
use das_testnet::nitro::{Generated, NitroDirectory, generate, tree};
use das_testnet::process::{ServerProcess, binary};
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::member::{assert_gives, folder, launch, store};

/// The REST port over a directory of Nitro's.
struct NitroRest(NitroDirectory);

impl BatchSource for NitroRest {
    type Error = std::io::Error;

    async fn get(&self, hash: &DataHash, _: Scope) -> std::io::Result<Option<EncodedBatch>> {
        let found = self.0.read(hash).ok().and_then(|bytes| VerifiedBatch::check(bytes.into(), hash).ok());
        Ok(found.map(|batch| EncodedBatch::new(&batch)))
    }

    async fn expiration_policy(&self) -> ExpirationPolicy {
        ExpirationPolicy::KeepForever
    }

    async fn healthy(&self) -> bool {
        true
    }

    async fn status(&self) -> String {
        "{}".into()
    }
}

/// A server of Nitro's kind: stores by function call, reads by REST.
struct Nitro {
    directory: NitroDirectory,
    runtime: tokio::runtime::Runtime,
    url: String,
    stop: CancellationToken,
}

impl Nitro {
    fn start(root: &Path) -> Self {
        let directory = NitroDirectory::open(root).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = rest::router(
            Arc::new(NitroRest(directory.clone())),
            AnswerBudget::new(64 << 20, AnswerBudget::PATIENCE),
        );
        runtime.spawn(serve(listener, router, Limits::default(), stop.clone()));
        Self { directory, runtime, url, stop }
    }

    fn stop(self) {
        self.stop.cancel();
        self.runtime.shutdown_background();
    }
}

/// Where the poster stores.
enum Target {
    Nitro(NitroDirectory),
    Das(String),
}

/// The commands of the page, by the word behind `dastool`, in their order; `das-node` has one.
struct Page {
    commands: Vec<Vec<String>>,
    used: BTreeSet<usize>,
    /// What stands for what in the page.
    paths: Vec<(&'static str, String)>,
}

impl Page {
    fn read(paths: Vec<(&'static str, String)>) -> Self {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/migrate-from-nitro.md");
        let text = std::fs::read_to_string(page).unwrap();
        // Indented lines, joined where one ends in a backslash.
        let text = text.replace("\\\n", " ");
        let commands = text
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with("dastool ") || line.starts_with("das-node "))
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        Self { commands, used: BTreeSet::new(), paths }
    }

    /// The next command that begins so, with the test's own paths.
    fn next(&mut self, begins: &str) -> Vec<String> {
        let found = self
            .commands
            .iter()
            .enumerate()
            .position(|(at, command)| !self.used.contains(&at) && command.join(" ").starts_with(begins));
        let at = found.unwrap_or_else(|| panic!("the page has no (further) command {begins}"));
        self.used.insert(at);
        let replaced = |word: &String| {
            self.paths.iter().fold(word.clone(), |word, (of_page, ours)| word.replace(of_page, ours))
        };
        self.commands[at][1..].iter().map(replaced).collect()
    }

    /// Runs the next `dastool` command that begins so.
    fn dastool(&mut self, begins: &str) -> String {
        let args = self.next(begins);
        let output =
            Command::new(binary("dastool").unwrap()).args(&args).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {text} {stderr}");
        println!("{}: {}", args[0], text.trim());
        text
    }
}

#[test]
fn a_living_server_is_replaced_and_no_batch_is_lost_and_back_again() {
    let seed = test_seed();
    println!("seed {seed}");
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let old = generate(&at("nitro"), seed, 20_000_000, 1..=200_000, unix_now()).unwrap();
    let nitro = Nitro::start(&at("nitro"));
    std::fs::create_dir(at("das")).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let mut page = Page::read(vec![
        ("/srv/nitro/data", text(at("nitro"))),
        ("/srv/nitro/new", text(at("nitro-new"))),
        ("/srv/das/data", text(at("das"))),
        ("/srv/das/backup", text(at("backup"))),
        ("/srv/nitro/keys", String::new()),
        ("http://localhost:9877", nitro.url.clone()),
        ("http://localhost:9977", "REST-OF-DAS".into()),
    ]);

    // What was acknowledged by whoever was the poster's at that moment.
    let acknowledged: Mutex<Vec<Vec<u8>>> = Mutex::default();
    let target = Mutex::new(Target::Nitro(nitro.directory.clone()));
    let (stop, das_rest): (AtomicBool, Mutex<Option<String>>) = Default::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = StdRng::seed_from_u64(seed);
            while !stop.load(Ordering::Relaxed) {
                let batch = Generated::make(random.random(), random.random_range(1..100_000));
                let expiry = unix_now() + random.random_range(3600..100_000);
                let stored = match &*target.lock().unwrap() {
                    Target::Nitro(directory) => directory.store(&batch, expiry).is_ok(),
                    Target::Das(rpc) => store(rpc, &batch, expiry).is_ok(),
                };
                if stored {
                    acknowledged.lock().unwrap().push(batch);
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        // Readers of ours find everything from the first moment on.
        scope.spawn(|| {
            let mut random = StdRng::seed_from_u64(!seed);
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(5));
                let Some(rest) = das_rest.lock().unwrap().clone() else { continue };
                let batch = {
                    let all = acknowledged.lock().unwrap();
                    all.get(random.random_range(0..all.len().max(1))).cloned()
                };
                if let Some(batch) = batch {
                    assert_gives(&rest, &DataHash::of(&batch), &batch);
                }
            }
        });
        let ended = EndsIt(&stop);
        let das = walk(&mut page, &at("das"), nitro, &target, &das_rest, &acknowledged);
        drop(ended);
        // The page's check, and ours.
        let all = acknowledged.lock().unwrap().clone();
        println!("{} batches before, {} while it was replaced", old.len(), all.len());
        for batch in &all {
            assert_gives(&das.rest_url(), &DataHash::of(batch), batch);
        }
        for batch in &old {
            assert_gives(&das.rest_url(), &batch.hash, &batch.bytes());
        }
        page.dastool("dastool backup");

        // And out again.
        page.dastool("dastool export");
        drop(das);
        page.dastool("dastool export");
    });
    let all = acknowledged.into_inner().unwrap();
    let new = NitroDirectory::open(&at("nitro-new")).unwrap();
    for batch in &all {
        assert_eq!(&new.read(&DataHash::of(batch)).unwrap(), batch);
    }
    // What was Nitro's is Nitro's again, link for link.
    let (before, after) = (tree(&at("nitro"), false).unwrap(), tree(&at("nitro-new"), false).unwrap());
    for (path, what) in before {
        assert_eq!(after.get(&path), Some(&what), "{}", path.display());
    }
    assert_eq!(page.used.len(), page.commands.len(), "every command of the page: {:?}", page.commands);
}

/// Ends the threads also when a check fails.
struct EndsIt<'a>(&'a AtomicBool);

impl Drop for EndsIt<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn walk(
    page: &mut Page,
    data: &Path,
    nitro: Nitro,
    target: &Mutex<Target>,
    das_rest: &Mutex<Option<String>>,
    acknowledged: &Mutex<Vec<Vec<u8>>>,
) -> ServerProcess {
    // 1. Beside it, on ports of its own, reading from it what is not here.
    let of_page = page.next("das-node");
    for option in ["--data-availability.rest-aggregator.enable", "--data-availability.rest-aggregator.urls"] {
        assert!(of_page.iter().any(|word| word == option), "{option} in {of_page:?}");
    }
    let reading = [
        "--data-availability.rest-aggregator.enable",
        "--data-availability.rest-aggregator.urls",
        &nitro.url,
    ];
    let das = launch(data, &reading).start().unwrap();
    *das_rest.lock().unwrap() = Some(das.rest_url());
    page.paths.retain(|(of_page, _)| *of_page != "http://localhost:9977");
    page.paths.push(("http://localhost:9977", das.rest_url()));

    // 2. The bulk, while the old one takes stores.
    let said = page.dastool("dastool import");
    assert!(said.contains("batches imported"), "{said}");
    let some = acknowledged.lock().unwrap().last().cloned();
    // 3. The poster goes over.
    *target.lock().unwrap() = Target::Das(das.rpc_url());
    // 4. What came to the old one meanwhile.
    page.dastool("dastool import");
    // 5. The old one ends, and nothing has come since.
    nitro.stop();
    let again = page.dastool("dastool import");
    assert!(again.starts_with("0 batches imported"), "{again}");
    // One batch by hand, as the page says, from ours alone.
    if let Some(batch) = some {
        page.paths.push(("0xHASH", format!("0x{}", DataHash::of(&batch))));
        page.dastool("dastool get");
    } else {
        panic!("nothing was stored while it was imported");
    }
    assert_eq!(Connection::new(&das.rest_url()).unwrap().get("/health").unwrap().status, 200);
    das
}
