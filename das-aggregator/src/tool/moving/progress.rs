//! How far a long work is: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Counts bytes done, of how many as far as is known.
#[derive(Debug, Default)]
pub(super) struct Meter {
    done: AtomicU64,
    of: AtomicU64,
    batches: AtomicU64,
}

impl Meter {
    pub(super) fn expect(&self, bytes: u64) {
        self.of.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes over what another process has counted.
    pub(super) fn set(&self, done: u64, of: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64, u64) {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (read(&self.done), read(&self.of), read(&self.batches))
    }
}

/// Shows a meter until it is dropped.
pub(super) struct Shown {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Shown {
    /// To be called on the runtime.
    pub(super) fn start(what: &'static str, meter: Arc<Meter>, wanted: bool) -> Self {
        let bar = (wanted && std::io::stderr().is_terminal()).then(|| bar(what));
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            loop {
                tokio::time::sleep(if shown.is_some() { BAR_EVERY } else { LINE_EVERY }).await;
                let (done, of, batches) = meter.read();
                match &shown {
                    Some(bar) => {
                        bar.set_length(of.max(done));
                        bar.set_position(done);
                        bar.set_message(format!("{batches} batches"));
                    }
                    None if wanted => {
                        let text = line(what, done, of, batches, begun.elapsed());
                        // Nobody may be there to read it.
                        let _ = writeln!(std::io::stderr(), "{text}");
                    }
                    None => {}
                }
            }
        });
        Self { task, bar }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template =
        "{prefix} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_prefix(what)
}

/// The same as a line of text.
fn line(what: &str, done: u64, of: u64, batches: u64, elapsed: Duration) -> String {
    const MB: u64 = 1_000_000;
    let of = of.max(done);
    let rate = u128::from(done) * 1000 / elapsed.as_millis().max(1);
    let left = match rate {
        0 => "time left unknown".to_owned(),
        rate => format!("{} s left", u128::from(of - done) / rate),
    };
    format!(
        "{what}: {} of {} MB, {batches} batches, {} MB/s, {left}",
        done / MB,
        of / MB,
        rate / u128::from(MB)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let shown = line("import", 500_000_000, 2_000_000_000, 9, Duration::from_secs(5));
        assert_eq!(shown, "import: 500 of 2000 MB, 9 batches, 100 MB/s, 15 s left");
        assert!(line("import", 0, 5, 0, Duration::ZERO).ends_with("time left unknown"));
        assert!(line("import", 7, 5, 0, Duration::from_secs(1)).contains("0 of 0 MB"));
    }
}
