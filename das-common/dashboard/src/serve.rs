//! The routes of the page, and the tasks behind it.
//!
//! | path | answer |
//! |---|---|
//! | `/`, `?range=hour`, `day` or `week` | the page |
//! | `/events`, with the same range | server-sent events: first the whole page's sections, then those that changed, as JSON `{"title":"...","sections":{"<id>":"<html>"}}` |
//! | `/status` | what the page says, as JSON |
//!
//! A page is made once for all who look at it. However many look, the work stays the same; how many may is bounded.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use das_common::telemetry::MetricsHandle;
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::json;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::history::{History, HistoryError, Range};
use crate::machine::MachineUse;
use crate::page::{self, Frame, Graphs, View};
use crate::scrape::{Scrape, Tick};

/// How often what is done.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Between two samples.
    sample: Duration,
    /// Between two writes of the history.
    save: Duration,
    /// Between two looks at what changed, for those who look on.
    renew: Duration,
    /// The same for what is large.
    renew_slow: Duration,
    /// A page that was just made is good for so long.
    fresh: Duration,
}

const TIMES: Times = Times {
    sample: Duration::from_secs(Range::Hour.step()),
    save: Duration::from_secs(60),
    renew: Duration::from_secs(2),
    renew_slow: Duration::from_secs(10),
    fresh: Duration::from_secs(1),
};
/// Who look on at once.
const MAX_LOOKING: usize = 64;
/// The file of the history in its folder.
const FILE: &str = "dashboard-history";

/// Why there is no dashboard.
#[derive(Debug, Error)]
pub enum DashboardError {
    /// The folder of the history.
    #[error("{path}: {source}", path = path.display())]
    Folder {
        /// It.
        path: PathBuf,
        /// The system's report.
        source: std::io::Error,
    },
}

/// A page with its history. Cheap to clone.
pub struct Dashboard<V> {
    shared: Arc<Shared<V>>,
}

impl<V> Clone for Dashboard<V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<V> {
    view: V,
    metrics: MetricsHandle,
    history: Mutex<History>,
    /// None: the history does not survive a restart.
    file: Option<PathBuf>,
    /// By range, the page as it was last made.
    made: tokio::sync::Mutex<HashMap<Range, Made>>,
    looking: Arc<Semaphore>,
    times: Times,
}

type Sections = Arc<Vec<(&'static str, String)>>;

#[derive(Clone)]
struct Made {
    at: Instant,
    sections: Sections,
    slow: Arc<Vec<&'static str>>,
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

impl<V: View> Dashboard<V> {
    /// Reads the history in `folder`, which is made if it is not there; without a folder there is none.
    ///
    /// # Errors
    /// When the folder cannot be made. A history that cannot be read is begun anew.
    pub fn open(view: V, metrics: MetricsHandle, folder: Option<&Path>) -> Result<Self, DashboardError> {
        Self::open_with(view, metrics, folder, TIMES)
    }

    fn open_with(
        view: V,
        metrics: MetricsHandle,
        folder: Option<&Path>,
        times: Times,
    ) -> Result<Self, DashboardError> {
        let file = folder.map(|folder| folder.join(FILE));
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)
                .map_err(|source| DashboardError::Folder { path: folder.to_owned(), source })?;
        }
        let history = file.as_deref().map_or_else(|| Ok(History::default()), History::load);
        let history = history.unwrap_or_else(|error| {
            warn!(%error, "the graphs begin anew");
            History::default()
        });
        let shared = Shared {
            view,
            metrics,
            history: Mutex::new(history),
            file,
            made: tokio::sync::Mutex::default(),
            looking: Arc::new(Semaphore::new(MAX_LOOKING)),
            times,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes samples until `stop`, and keeps them.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.shared.times.sample);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before: Option<(Instant, Scrape, MachineUse)> = None;
        let mut saved = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            let shared = Arc::clone(&self.shared);
            let taken = tokio::task::spawn_blocking(move || {
                let after = (Instant::now(), Scrape::parse(&shared.metrics.render()), MachineUse::now());
                if let Some((at, scrape, machine)) = &before {
                    let seconds = after.0.duration_since(*at).as_secs_f64();
                    shared.sample(&Tick { before: scrape, after: &after.1, seconds }, machine, &after.2);
                }
                after
            });
            let Ok(after) = taken.await else { return };
            before = Some(after);
            if saved.elapsed() >= self.shared.times.save {
                saved = Instant::now();
                self.save().await;
            }
        }
        self.save().await;
    }

    async fn save(&self) {
        let shared = Arc::clone(&self.shared);
        let saved = tokio::task::spawn_blocking(move || -> Result<(), HistoryError> {
            let Some(file) = &shared.file else { return Ok(()) };
            shared.history.lock().forget_old(unix_now());
            let history = shared.history.lock().clone();
            history.save(file)
        });
        if let Ok(Err(error)) = saved.await {
            warn!(%error, "what the graphs show will not survive a restart");
        }
    }

    /// The routes. What is streamed ends with `stop`.
    pub fn routes(&self, stop: CancellationToken) -> Router {
        let state = (self.clone(), stop);
        Router::new()
            .route("/", get(show::<V>))
            .route("/events", get(events::<V>))
            .route("/status", get(status::<V>))
            .fallback(nothing)
            .layer(from_fn(protect))
            .with_state(state)
    }
}

impl<V: View> Shared<V> {
    fn sample(&self, tick: &Tick<'_>, before: &MachineUse, after: &MachineUse) {
        let now = unix_now();
        let samples = self.view.samples(tick);
        let mut history = self.history.lock();
        for (name, value) in page::machine_samples(tick, before, after).into_iter().chain(samples) {
            history.record(now, &name, value);
        }
    }

    async fn sections(&self, range: Range) -> Made {
        let mut made = self.made.lock().await;
        if let Some(made) = made.get(&range).filter(|made| made.at.elapsed() < self.times.fresh) {
            return made.clone();
        }
        let now = unix_now();
        let graphs = Graphs { history: &self.history, range, now };
        let of_view = self.view.sections(&graphs).await;
        let alarms = page::alarms(&self.view.alarms(), now);
        let all: Vec<_> = std::iter::once(alarms).chain(of_view).collect();
        let slow = all.iter().filter(|section| section.is_slow).map(|section| section.id).collect();
        let sections = all.iter().map(|section| (section.id, section.inner().into_string())).collect();
        let new = Made { at: Instant::now(), sections: Arc::new(sections), slow: Arc::new(slow) };
        made.insert(range, new.clone());
        new
    }
}

type Shown<V> = State<(Dashboard<V>, CancellationToken)>;

fn range_of(query: Option<&str>) -> Range {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| Range::of_name(pair.strip_prefix("range=")?)).next_back().unwrap_or_default()
}

async fn show<V: View>(State((dashboard, _)): Shown<V>, RawQuery(query): RawQuery) -> Html<String> {
    let view = &dashboard.shared.view;
    view.looked_at();
    let range = range_of(query.as_deref());
    let made = dashboard.shared.sections(range).await;
    let frame = Frame {
        title: &view.title(),
        subtitle: &view.subtitle(),
        links: &view.links(),
        range,
        now: unix_now(),
        alarms: view.alarms().len(),
    };
    Html(page::document(&frame, &made.sections).into_string())
}

async fn status<V: View>(State((dashboard, _)): Shown<V>) -> Response {
    let text = format!("{}\n", dashboard.shared.view.status().await);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "the dashboard is at /, its numbers are at /status\n").into_response()
}

/// What one onlooker has seen.
struct Onlooker<V> {
    dashboard: Dashboard<V>,
    range: Range,
    seen: HashMap<&'static str, (u32, Instant)>,
    ticks: tokio::time::Interval,
    _slot: OwnedSemaphorePermit,
}

async fn events<V: View>(State((dashboard, stop)): Shown<V>, RawQuery(query): RawQuery) -> Response {
    let Ok(slot) = Arc::clone(&dashboard.shared.looking).try_acquire_owned() else {
        debug!("too many look on");
        let text = format!("{MAX_LOOKING} are looking on already; the page itself is at /\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], text).into_response();
    };
    let mut ticks = tokio::time::interval(dashboard.shared.times.renew);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let range = range_of(query.as_deref());
    let onlooker = Onlooker { dashboard, range, seen: HashMap::new(), ticks, _slot: slot };
    let news = news(onlooker).take_until(stop.cancelled_owned());
    let mut response = Sse::new(news).keep_alive(KeepAlive::default()).into_response();
    // Proxies that collect an answer before they pass it on would keep the news.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn news<V: View>(onlooker: Onlooker<V>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(onlooker, |mut onlooker| async move {
        onlooker.ticks.tick().await;
        let view = &onlooker.dashboard.shared.view;
        view.looked_at();
        let made = onlooker.dashboard.shared.sections(onlooker.range).await;
        let (now, slow_pause) = (Instant::now(), onlooker.dashboard.shared.times.renew_slow);
        let mut changed = serde_json::Map::new();
        for (id, inner) in made.sections.iter() {
            let print = crc32fast::hash(inner.as_bytes());
            let is_known = onlooker.seen.get(id).is_some_and(|(known, at)| {
                *known == print || made.slow.contains(id) && now.duration_since(*at) < slow_pause
            });
            if !is_known {
                onlooker.seen.insert(id, (print, now));
                changed.insert((*id).to_owned(), inner.clone().into());
            }
        }
        // An event without changes tells that the page is as it was: the page says of when it is.
        let title = page::tab(&view.title(), view.alarms().len());
        let news = json!({ "title": title, "sections": changed });
        Some((Ok(Event::default().data(news.to_string())), onlooker))
    })
}

/// A page may use its own stylesheet and script, ask this server, and nothing else.
fn policy() -> HeaderValue {
    let digest = |text: &str| {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        base64_simd::STANDARD.encode_to_string(digest.as_ref())
    };
    let (style, script) = (digest(page::STYLE), digest(page::SCRIPT));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("the policy is made of printable characters")
}

async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use das_common::alarm::Alarm;
    use das_common::telemetry::init_metrics;
    use http_body_util::BodyExt as _;
    use maud::html;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tower::ServiceExt as _;

    use super::*;
    use crate::chart::Unit;
    use crate::page::Section;

    #[derive(Default)]
    struct Example(AtomicU64);

    impl View for Example {
        fn title(&self) -> String {
            "Example <b>".to_owned()
        }
        fn subtitle(&self) -> String {
            "one & only".to_owned()
        }
        fn alarms(&self) -> Vec<Alarm> {
            let alarm = Alarm { code: "DAS-TEST-001", text: "<script>".to_owned(), cure: "look", since: 1 };
            if self.0.load(Ordering::Relaxed) > 1 { vec![alarm] } else { vec![] }
        }
        async fn sections(&self, graphs: &Graphs<'_>) -> Vec<Section> {
            let count = self.0.load(Ordering::Relaxed);
            let chart = graphs.chart("Things", Unit::Count, &[("", "things")]);
            vec![
                Section::new("count", "Count", html! { p { (count) } }),
                Section::new("same", "Same", html! { p { "always" } }),
                Section::new("graphs", "", chart).slow(),
            ]
        }
        fn samples(&self, _: &Tick<'_>) -> Vec<(String, f64)> {
            vec![("things".to_owned(), 7.0)]
        }
        async fn status(&self) -> String {
            json!({ "count": self.0.load(Ordering::Relaxed) }).to_string()
        }
    }

    fn dashboard(folder: &Path) -> Dashboard<Example> {
        let ms = Duration::from_millis;
        let times = Times {
            sample: ms(5),
            save: TIMES.save,
            renew: ms(5),
            renew_slow: TIMES.renew_slow,
            fresh: ms(0),
        };
        Dashboard::open_with(Example::default(), init_metrics(), Some(folder), times).unwrap()
    }

    async fn get(routes: &Router, path: &str) -> (StatusCode, http::HeaderMap, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    #[tokio::test]
    async fn a_page_is_whole_without_its_script_and_lets_nothing_foreign_in() {
        let folder = tempfile::tempdir().unwrap();
        let dashboard = dashboard(folder.path());
        let routes = dashboard.routes(CancellationToken::new());
        dashboard.shared.view.0.store(5, Ordering::Relaxed);
        let (status, headers, text) = get(&routes, "/?range=week&range=nonsense").await;
        assert_eq!(status, StatusCode::OK);
        for part in [
            "<h1>",
            "Example &lt;b&gt;",
            "one &amp; only",
            "&lt;script&gt;",
            "To do: look",
            "<p>5</p>",
            "over the last week",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(text.contains("<title>(1) Example"), "alarms are counted in the title");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for (tag, source) in [("style", page::STYLE), ("script", page::SCRIPT)] {
            let inner =
                text.split(&format!("<{tag}>")).nth(1).unwrap().split(&format!("</{tag}>")).next().unwrap();
            assert_eq!(inner, source);
            let digest = ring::digest::digest(&ring::digest::SHA256, inner.as_bytes());
            assert!(policy.contains(&base64_simd::STANDARD.encode_to_string(digest.as_ref())));
        }
        let (_, _, json) = get(&routes, "/status").await;
        assert_eq!(json, "{\"count\":5}\n");
        assert_eq!(get(&routes, "/nowhere").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn the_news_are_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        let dashboard = dashboard(folder.path());
        let stop = CancellationToken::new();
        let request = http::Request::get("/events").body(axum::body::Body::empty()).unwrap();
        let response = dashboard.routes(stop.clone()).oneshot(request).await.unwrap();
        let mut body = response.into_body();
        let mut next = async || {
            let frame = body.frame().await.unwrap().unwrap();
            let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            let value: serde_json::Value =
                serde_json::from_str(text.strip_prefix("data: ").unwrap().trim()).unwrap();
            let ids: Vec<String> = value["sections"].as_object().unwrap().keys().cloned().collect();
            (value["title"].as_str().unwrap().to_owned(), ids)
        };
        assert_eq!(next().await.1, ["alarms", "count", "graphs", "same"], "all at first");
        assert_eq!(next().await.1, [""; 0], "nothing changed");
        let mut next_change = async || {
            loop {
                let news = next().await;
                if !news.1.is_empty() {
                    return news;
                }
            }
        };
        dashboard.shared.view.0.store(1, Ordering::Relaxed);
        assert_eq!(next_change().await.1, ["count"]);
        dashboard.shared.view.0.store(2, Ordering::Relaxed);
        assert_eq!(
            next_change().await,
            ("(1) Example <b>".to_owned(), vec!["alarms".to_owned(), "count".to_owned()])
        );
        stop.cancel();
    }

    #[tokio::test]
    async fn only_so_many_look_on() {
        let folder = tempfile::tempdir().unwrap();
        let dashboard = dashboard(folder.path());
        let routes = dashboard.routes(CancellationToken::new());
        let open = || {
            let request = http::Request::get("/events").body(axum::body::Body::empty()).unwrap();
            routes.clone().oneshot(request)
        };
        let mut looking = Vec::new();
        for _ in 0..MAX_LOOKING {
            looking.push(open().await.unwrap());
            assert_eq!(looking.last().unwrap().status(), StatusCode::OK);
        }
        assert_eq!(open().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        looking.pop();
        assert_eq!(open().await.unwrap().status(), StatusCode::OK, "who leaves makes room");
    }

    #[tokio::test]
    async fn what_was_sampled_survives_a_restart_and_a_damaged_file_does_not_stop_it() {
        let folder = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let first = dashboard(folder.path());
        let running = tokio::spawn(first.clone().run(stop.clone()));
        while first.shared.history.lock().names("things").count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        running.await.unwrap();
        let known = |dashboard: &Dashboard<Example>| {
            let values = dashboard.shared.history.lock().values("things", Range::Day, unix_now());
            values.into_iter().filter(|value| *value == 7.0).count()
        };
        let second = dashboard(folder.path());
        assert!(known(&second) >= 1);
        std::fs::write(folder.path().join(FILE), "damaged").unwrap();
        assert_eq!(known(&dashboard(folder.path())), 0);
    }
}
