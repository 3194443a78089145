//! Traces: one from the poster's request over the fan-out to each member's disk, and nothing else that a collector can do.

// Helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use das_common::store_auth::StoreKey;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{BodyMaker, StoreBody};
use das_testnet::network::{Network, Plan, Who};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;

const MEMBERS: usize = 3;
const SOON: Duration = Duration::from_secs(60);

/// What a collector does with a message.
#[derive(Clone, Copy)]
enum Conduct {
    Takes,
    Hangs,
    Refuses,
    Babbles,
}

#[derive(Debug, Clone)]
struct Seen {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
}

/// A collector as far as one is needed.
struct Collector {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Heads of the requests that came.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (seen, heads) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let collector = Self { url, seen: seen.clone(), heads: heads.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, heads) = (seen.clone(), heads.clone());
                // A client that goes away ends its thread.
                std::thread::spawn(move || serve(stream.unwrap(), conduct, &seen, &heads));
            }
        });
        collector
    }

    /// The spans of the trace, once they are as many as expected.
    fn trace(&self, trace: &str, at_least: usize) -> Vec<Seen> {
        let begun = Instant::now();
        loop {
            let all = self.seen.lock().unwrap().clone();
            let of_it: Vec<_> = all.iter().filter(|span| span.trace == trace).cloned().collect();
            if of_it.len() >= at_least {
                return of_it;
            }
            assert!(begun.elapsed() < SOON, "only {of_it:#?} of {all:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn serve(
    stream: TcpStream,
    conduct: Conduct,
    seen: &Mutex<Vec<Seen>>,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? <= 2 {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        heads.lock().unwrap().push(head);
        match conduct {
            Conduct::Takes => {
                let message = ExportTraceServiceRequest::decode(&*body).expect("a message of OTLP");
                seen.lock().unwrap().extend(spans(&message));
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
            }
            Conduct::Hangs => std::thread::sleep(SOON),
            Conduct::Refuses => {
                stream.get_mut().write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").ok()?;
            }
            Conduct::Babbles => {
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
                loop {
                    stream.get_mut().write_all(b"5\r\nbabel\r\n").ok()?;
                }
            }
        }
    }
}

fn spans(message: &ExportTraceServiceRequest) -> Vec<Seen> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let mut seen = Vec::new();
    for of_service in &message.resource_spans {
        let attribute = |key: &str| {
            let all = &of_service.resource.as_ref().unwrap().attributes;
            let found = all.iter().find(|attribute| attribute.key == key);
            found.and_then(|found| found.value.as_ref()?.value.as_ref().map(text)).unwrap()
        };
        assert!(!attribute("service.version").is_empty() && !attribute("service.instance.id").is_empty());
        for span in of_service.scope_spans.iter().flat_map(|scope| &scope.spans) {
            let attributes = span.attributes.iter().filter_map(|attribute| {
                Some((attribute.key.clone(), text(attribute.value.as_ref()?.value.as_ref()?)))
            });
            seen.push(Seen {
                service: attribute("service.name"),
                name: span.name.clone(),
                trace: const_hex::encode(&span.trace_id),
                id: const_hex::encode(&span.span_id),
                parent: const_hex::encode(&span.parent_span_id),
                attributes: attributes.collect(),
            });
        }
    }
    seen
}

fn network(dir: &std::path::Path, options: &[String]) -> (Network, BodyMaker) {
    let plan = Plan { members: MEMBERS, honest: 2, shards: 2, base_port: 0 };
    let mut network = Network::open(dir, &plan)
        .unwrap()
        .with_node_options(options.to_vec())
        .with_aggregator_options(options.to_vec());
    network.start_all(|_, _| ()).unwrap();
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let maker = BodyMaker::new(StoreKey::from_hex(key.trim()).unwrap().into(), 1);
    (network, maker)
}

/// Stores as a poster that makes traces itself.
fn store(network: &Network, body: &StoreBody, headers: &str) {
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    let address = rpc.split("//").nth(1).unwrap().trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.json.len();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.json).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&body.hash.to_string()), "{answer}");
}

fn counted(network: &Network, who: Who, result: &str) -> f64 {
    let text =
        Connection::new(&network.addresses(who).unwrap().metrics).unwrap().get("/metrics").unwrap().text();
    let start = format!("das_trace_spans_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0.0)
}

#[test]
fn one_trace_leads_from_the_poster_to_each_members_disk() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(Conduct::Takes);
    let credentials = dir.path().join("headers");
    std::fs::write(&credentials, "x-scope: das\n").unwrap();
    let (network, mut maker) = network(
        &dir.path().join("net"),
        &[
            format!("--traces.endpoint={}", collector.url),
            format!("--traces.header-file={}", credentials.display()),
        ],
    );
    let (trace, poster) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    // Sampling is not asked for: these servers trace everything, whatever a caller says.
    store(&network, &maker.store(50_000), &format!("traceparent: 00-{trace}-{poster}-00\r\n"));
    // The aggregator's request, call and certificate; and for each member its call, and there request, call and four stages.
    let spans = collector.trace(trace, 3 + MEMBERS * 7);
    let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.id.clone(), span)).collect();
    assert_eq!(by_id.len(), spans.len());
    let way = |span: &Seen| {
        let (mut way, mut parent) = (vec![span.name.clone()], span.parent.clone());
        while let Some(span) = by_id.get(&parent) {
            way.push(format!("{}:{}", span.service, span.name));
            parent.clone_from(&span.parent);
        }
        assert_eq!(parent, poster, "{span:?} belongs to nobody");
        way.join(" < ")
    };
    for stage in ["authorize", "hash", "disk", "sign"] {
        let of_stage: Vec<_> =
            spans.iter().filter(|span| span.name == stage && span.service == "das-node").collect();
        assert_eq!(of_stage.len(), MEMBERS, "{stage}: {spans:#?}");
        for span in &of_stage {
            assert_eq!(
                way(span),
                format!(
                    "{stage} < das-node:das_store < das-node:request < das-aggregator:member < das-aggregator:certificate \
                     < das-aggregator:das_store < das-aggregator:request"
                )
            );
        }
    }
    let members: Vec<_> = spans.iter().filter(|span| span.name == "member").collect();
    let names: std::collections::BTreeSet<_> =
        members.iter().map(|span| &span.attributes["member"]).collect();
    assert_eq!(names.len(), MEMBERS, "{members:#?}");
    assert!(collector.heads.lock().unwrap().iter().all(|head| head.to_lowercase().contains("x-scope: das")));
    // No payload is in them.
    let all = format!("{spans:?}");
    assert!(all.len() < 40_000, "{} bytes of spans for one store", all.len());

    // Parents that are none begin a trace of their own.
    let body = maker.store(1_000);
    store(&network, &body, &format!("traceparent: 00-{trace}-{poster}\r\n"));
    let begun = Instant::now();
    loop {
        let seen = collector.seen.lock().unwrap().clone();
        let is_of_it = |span: &&Seen| {
            span.name == "certificate" && span.attributes["hash"].contains(&body.hash.to_string())
        };
        if let Some(certificate) = seen.iter().find(is_of_it) {
            assert_ne!(certificate.trace, trace);
            break;
        }
        assert!(begun.elapsed() < SOON, "{seen:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_collector_costs_spans_and_nothing_else() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    for url in [
        gone,
        Collector::start(Conduct::Hangs).url,
        Collector::start(Conduct::Refuses).url,
        Collector::start(Conduct::Babbles).url,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = [
            format!("--traces.endpoint={url}"),
            "--traces.queue=8".to_owned(),
            "--traces.timeout=1s".to_owned(),
        ];
        let (mut network, mut maker) = network(dir.path(), &options);
        for who in [Who::Aggregator, Who::Member(0)] {
            let begun = Instant::now();
            while counted(&network, who, "failed") == 0.0 || counted(&network, who, "dropped") == 0.0 {
                for _ in 0..5 {
                    store(&network, &maker.store(1_000), "");
                }
                assert!(begun.elapsed() < SOON, "{url}: nothing was lost");
            }
        }
        assert!(counted(&network, Who::Aggregator, "sent") == 0.0);
        // The end waits for the collector as long as it may, and no longer.
        assert!(network.stop_all().is_empty());
    }
}

#[test]
fn wrong_settings_end_the_start_with_the_options_name() {
    let dir = tempfile::tempdir().unwrap();
    for (option, words) in [
        ("--traces.endpoint=ftp://there", "--traces.endpoint"),
        ("--traces.sample-ratio=1.5", "--traces.sample-ratio: 1.5"),
        ("--traces.queue=0", "--traces.queue"),
        ("--traces.header-file=/nowhere/at/all", "--traces.header-file: cannot read /nowhere/at/all"),
    ] {
        let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
        let options = ["--traces.endpoint=http://127.0.0.1:1/v1/traces", option];
        let mut network = Network::open(dir.path(), &plan).unwrap().with_node_options(options);
        let error = network.start(Who::Member(0)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
