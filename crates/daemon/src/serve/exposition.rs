//! Metrics as text: the Prometheus format 0.0.4 and `OpenMetrics` 1.0, from one description of each family.
//!
//! Own code, as the crates for this write one of the two formats only and want every figure registered and set, while
//! most of ours are read from the control state at the moment of asking.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use std::fmt::{Display, Write as _};

/// Before every name.
const PREFIX: &str = "shardwright_";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// Its name ends in `_total`.
    Counter,
    Histogram,
}

impl Format {
    /// The one that the client prefers; Prometheus text for whoever says nothing.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accepted.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let weight = weight.unwrap_or(0.0);
            if media.eq_ignore_ascii_case("application/openmetrics-text") {
                open = open.max(weight);
            } else if ["text/plain", "text/*", "*/*"].iter().any(|one| media.eq_ignore_ascii_case(one)) {
                text = text.max(weight);
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page under construction.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    format: Format,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::with_capacity(32 << 10), format }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// What the samples that follow mean.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let described = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {PREFIX}{described} {help}\n# TYPE {PREFIX}{described} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{PREFIX}{name}");
        for (index, (key, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{key}=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// The samples of one histogram of the family.
    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        let bounds = histogram.bounds.iter().map(|bound| format!("{bound:?}"));
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&histogram.counts) {
            sum += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, sum);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, sum);
    }

    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Seconds that a person waits for, and operations take.
pub(super) const LONG_SECONDS: &[f64] =
    &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0];
/// Seconds that a request or a write takes.
pub(super) const SHORT_SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Counts by fixed bounds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(super) fn observe(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at] += 1;
        self.sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_prefers() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header"));
            Format::wanted(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(wanted(prometheus), Format::OpenMetrics);
        assert_eq!(wanted("application/openmetrics-text;q=0"), Format::Prometheus);
        assert_eq!(wanted("application/openmetrics-text;q=0.2, text/plain"), Format::Prometheus);
        assert_eq!(wanted("*/*"), Format::Prometheus);
        assert_eq!(wanted("application/json"), Format::Prometheus);
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Prometheus);
    }

    #[test]
    fn a_histogram_counts_up_to_and_with_its_bounds() {
        let mut histogram = Histogram::new(&[1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 3.0] {
            histogram.observe(value);
        }
        let mut page = Page::new(Format::OpenMetrics);
        page.family("d_seconds", Kind::Histogram, "D.");
        page.histogram("d_seconds", &[("kind", "a\"\\\n")], &histogram);
        let expected = "# HELP shardwright_d_seconds D.\n# TYPE shardwright_d_seconds histogram\n\
            shardwright_d_seconds_bucket{kind=\"a\\\"\\\\\\n\",le=\"1.0\"} 2\n\
            shardwright_d_seconds_bucket{kind=\"a\\\"\\\\\\n\",le=\"2.5\"} 3\n\
            shardwright_d_seconds_bucket{kind=\"a\\\"\\\\\\n\",le=\"+Inf\"} 4\n\
            shardwright_d_seconds_sum{kind=\"a\\\"\\\\\\n\"} 6.5\n\
            shardwright_d_seconds_count{kind=\"a\\\"\\\\\\n\"} 4\n# EOF\n";
        assert_eq!(page.end(), expected);
    }
}
