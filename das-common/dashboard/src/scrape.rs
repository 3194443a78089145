//! Numbers out of the process's own metrics: what is graphed is what Prometheus would see.

use std::collections::HashMap;

/// One exposition, by the name of each sample with its labels.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: HashMap<String, Vec<Sample>>,
}

#[derive(Debug, Clone)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

impl Scrape {
    /// Reads Prometheus' text form. Lines that are none are left out.
    pub fn parse(text: &str) -> Self {
        let mut samples: HashMap<String, Vec<Sample>> = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, sample)) = parse_line(line) {
                samples.entry(name.to_owned()).or_default().push(sample);
            }
        }
        Self { samples }
    }

    /// The sum of the samples of this name with these labels; none when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found = self.samples.get(name)?.iter().filter(|sample| sample.has(labels));
        found.map(|sample| sample.value).reduce(|a, b| a + b)
    }

    /// Values that a label has, in order.
    pub fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let of = self.samples.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut values: Vec<_> =
            of.iter().filter_map(|sample| sample.label(label)).map(str::to_owned).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Cumulative counts of a histogram by upper bound, the bounds ascending.
    fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let Some(samples) = self.samples.get(&format!("{name}_bucket")) else { return Vec::new() };
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in samples.iter().filter(|sample| sample.has(labels)) {
            let Some(bound) = sample.label("le").and_then(|bound| bound.parse::<f64>().ok()) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

fn parse_line(line: &str) -> Option<(&str, Sample)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            if let Some(end) = rest.strip_prefix('}') {
                rest = end;
                break;
            }
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Sample { labels, value }))
}

/// A label's value up to its closing quote, and what comes after.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

/// What happened between two expositions.
#[derive(Debug)]
pub struct Tick<'a> {
    /// The earlier one.
    pub before: &'a Scrape,
    /// The later one.
    pub after: &'a Scrape,
    /// Seconds between them.
    pub seconds: f64,
}

impl Tick<'_> {
    /// By how much a counter grew per second; none when it is not there. One that began anew began at nothing.
    pub fn rate(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let after = self.after.sum(name, labels)?;
        let before = self.before.sum(name, labels).unwrap_or(0.0);
        let grown = if after >= before { after - before } else { after };
        (self.seconds > 0.0).then(|| grown / self.seconds)
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.after.sum(name, labels)
    }

    /// The quantile `q` of what a histogram counted in between, within its bucket by proportion; none when it counted
    /// nothing. What is above the last bound counts as the last bound.
    pub fn quantile(&self, name: &str, labels: &[(&str, &str)], q: f64) -> Option<f64> {
        let before = self.before.buckets(name, labels);
        let count_before =
            |bound: f64| before.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, n)| *n);
        let counted: Vec<(f64, f64)> = self
            .after
            .buckets(name, labels)
            .into_iter()
            .map(|(bound, count)| (bound, (count - count_before(bound)).max(0.0)))
            .collect();
        let total = counted.last()?.1;
        if total <= 0.0 {
            return None;
        }
        let rank = q * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in counted {
            if count >= rank && count > below {
                let share = (rank - below) / (count - below);
                return Some(if bound.is_finite() { lower + (bound - lower) * share } else { lower });
            }
            if bound.is_finite() {
                (lower, below) = (bound, count);
            }
        }
        Some(lower)
    }

    /// The mean of what a histogram was told in between.
    pub fn mean(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let count = self.rate(&format!("{name}_count"), labels)?;
        let sum = self.rate(&format!("{name}_sum"), labels)?;
        (count > 0.0).then(|| sum / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# TYPE s histogram\ns_bucket{result=\"ok\",le=\"0.1\"} 10\ns_bucket{result=\"ok\",le=\"1\"} 20\n\
        s_bucket{result=\"ok\",le=\"+Inf\"} 20\ns_count{result=\"ok\"} 20\ns_sum{result=\"ok\"} 4\nc 100\n";
    const AFTER: &str = "s_bucket{result=\"ok\",le=\"0.1\"} 60\ns_bucket{result=\"ok\",le=\"1\"} 120\n\
        s_bucket{result=\"ok\",le=\"+Inf\"} 120\ns_count{result=\"ok\"} 120\ns_sum{result=\"ok\"} 24\nc 3\n\
        up{member=\"a \\\"b\\\"\"} 1\nup{member=\"c\",x=\"}\"} 0\nbroken{x=\"1\nbroken two\n";

    #[test]
    fn rates_and_quantiles_are_of_what_came_in_between() {
        let (before, after) = (Scrape::parse(BEFORE), Scrape::parse(AFTER));
        let tick = Tick { before: &before, after: &after, seconds: 10.0 };
        assert_eq!(tick.rate("s_count", &[("result", "ok")]), Some(10.0));
        assert_eq!(tick.rate("s_count", &[("result", "error")]), None);
        assert_eq!(tick.rate("c", &[]), Some(0.3), "a counter that began anew");
        // 50 of 100 are below 0.1, the other 50 between 0.1 and 1.
        assert_eq!(tick.quantile("s", &[], 0.5), Some(0.1));
        assert!((tick.quantile("s", &[], 0.75).unwrap() - 0.55).abs() < 1e-9);
        assert_eq!(tick.mean("s", &[]), Some(0.2));
        assert_eq!(Tick { before: &after, after: &after, seconds: 1.0 }.quantile("s", &[], 0.5), None);
        assert_eq!(after.values_of("up", "member"), ["a \"b\"", "c"]);
        assert_eq!(tick.gauge("up", &[("member", "c")]), Some(0.0));
        assert_eq!(tick.gauge("broken", &[]), None);
    }
}
