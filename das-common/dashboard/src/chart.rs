//! Graphs, drawn at the server as SVG.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::history::Range;
use crate::words;

/// What the numbers of a graph are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of something.
    Count,
    /// A time.
    Milliseconds,
    /// A size.
    Bytes,
    /// A size every second.
    BytesPerSecond,
    /// A share of 1.
    Share,
}

impl Unit {
    /// A number with this unit.
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Count => words::number(value),
            Self::Milliseconds => words::milliseconds(value),
            Self::Bytes => words::bytes(value),
            Self::BytesPerSecond => format!("{}/s", words::bytes(value)),
            Self::Share => words::percent(value),
        }
    }

    /// The upper end of a scale that shows `max`, a round number.
    fn ceiling(self, max: f64) -> f64 {
        if self == Self::Share {
            return 1.0;
        }
        let max = if max > 0.0 { max } else { 1.0 };
        let power = 10_f64.powf(max.log10().floor());
        let ceiling =
            [1.0, 1.5, 2.0, 3.0, 5.0, 7.5].map(|n| n * power).into_iter().find(|n| *n >= max * 0.999);
        ceiling.unwrap_or(10.0 * power)
    }
}

/// One line of a graph.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its numbers, the last of them now; gaps are not a number.
    pub values: Vec<f32>,
}

const WIDTH: f32 = 360.0;
const HEIGHT: f32 = 96.0;
/// Steps drawn as one point.
const TOGETHER: usize = 3;
/// Lines that can be told apart; more are not drawn.
pub const MAX_LINES: usize = 8;

fn drawn(values: &[f32]) -> Vec<Option<f32>> {
    let mean = |group: &[f32]| {
        let known: Vec<f32> = group.iter().copied().filter(|value| value.is_finite()).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32)
    };
    values.chunks(TOGETHER).map(mean).collect()
}

fn path(points: &[Option<f32>], ceiling: f32) -> String {
    let mut path = String::new();
    let step = WIDTH / (points.len().max(2) - 1) as f32;
    let mut pen_up = true;
    for (n, point) in points.iter().enumerate() {
        let Some(value) = point else {
            pen_up = true;
            continue;
        };
        let (x, y) = (n as f32 * step, HEIGHT - (value / ceiling).clamp(0.0, 1.0) * (HEIGHT - 2.0) - 1.0);
        let alone = pen_up && points.get(n + 1).is_none_or(Option::is_none);
        // Writing to a text does not fail. A point between two gaps is drawn as a short line.
        let _ = match (pen_up, alone) {
            (_, true) => write!(path, "M{x:.1} {y:.1}h.8"),
            (true, false) => write!(path, "M{x:.1} {y:.1}"),
            (false, _) => write!(path, "L{x:.1} {y:.1}"),
        };
        pen_up = false;
    }
    path
}

fn last(values: &[f32]) -> Option<f64> {
    // The step under way may have no number yet.
    values.iter().rev().take(2 * TOGETHER).copied().find(|value| value.is_finite()).map(f64::from)
}

/// A graph over `range`.
pub fn chart(title: &str, unit: Unit, range: Range, lines: &[Line]) -> Markup {
    let lines = &lines[..lines.len().min(MAX_LINES)];
    let points: Vec<_> = lines.iter().map(|line| drawn(&line.values)).collect();
    let highest = points.iter().flatten().flatten().copied().reduce(f32::max);
    let ceiling = unit.ceiling(f64::from(highest.unwrap_or(0.0)));
    let over = match range {
        Range::Hour => "the last hour",
        Range::Day => "the last day",
        Range::Week => "the last week",
    };
    let now =
        |line: &Line| last(&line.values).map_or_else(|| "nothing".to_owned(), |value| unit.shown(value));
    let told: Vec<String> = lines.iter().map(|line| format!("{} {}", line.name, now(line))).collect();
    let most = highest
        .map_or_else(|| "no numbers yet".to_owned(), |n| format!("at most {}", unit.shown(f64::from(n))));
    let label = format!("{title} over {over}: {most}; now {}", told.join(", "));
    html! {
        figure.chart {
            figcaption {
                span.name { (title) }
                @if let [only] = lines { " " b { (now(only)) } }
            }
            div.plot {
                span.top aria-hidden="true" { (unit.shown(ceiling)) }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
                    line.grid x1="0" x2=(WIDTH) y1="1" y2="1" {}
                    line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 2.0) y2=(HEIGHT / 2.0) {}
                    line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - 1.0) y2=(HEIGHT - 1.0) {}
                    @for (n, points) in points.iter().enumerate() {
                        path class={ "l" (n) } d=(path(points, ceiling as f32)) {}
                    }
                }
                @if highest.is_none() { span.none aria-hidden="true" { "no numbers yet" } }
            }
            @if lines.len() > 1 {
                ul.legend aria-hidden="true" {
                    @for (n, line) in lines.iter().enumerate() {
                        li { i class={ "k" (n) } {} (line.name) " " b { (now(line)) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_not_drawn_and_a_point_alone_is() {
        let value = |n: f32| Some(n);
        assert_eq!(
            path(&[value(1.0), value(0.0), None, value(1.0), None], 1.0),
            "M0.0 1.0L90.0 95.0M270.0 1.0h.8"
        );
        assert_eq!(path(&[None], 1.0), "");
        assert_eq!(drawn(&[1.0, f32::NAN, 3.0, f32::NAN]), [Some(2.0), None]);
    }

    #[test]
    fn scales_end_at_round_numbers() {
        for (max, ceiling) in
            [(0.0, 1.0), (0.9, 1.0), (1.2, 1.5), (42.0, 50.0), (750.0, 750.0), (99.0, 100.0)]
        {
            assert!((Unit::Count.ceiling(max) - ceiling).abs() < 1e-9, "{max}: {}", Unit::Count.ceiling(max));
        }
    }

    #[test]
    fn a_graph_tells_its_numbers_to_those_who_do_not_see_it() {
        let line = |name: &str, value: f32| Line { name: name.to_owned(), values: vec![value; 720] };
        let page =
            chart("Stores <p>", Unit::Milliseconds, Range::Day, &[line("p50", 2.0), line("p99", 40.0)])
                .into_string();
        let label = "Stores &lt;p&gt; over the last day: at most 40 ms; now p50 2.0 ms, p99 40 ms";
        assert!(page.contains(label), "{page}");
        assert!(chart("None", Unit::Count, Range::Hour, &[]).into_string().contains("no numbers yet"));
    }
}
