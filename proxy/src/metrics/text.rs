//! The two text formats of Prometheus, written from gathered families.
//!
//! The encoder of the `prometheus` crate knows only the classic format. Both are
//! alike enough for one writer: OpenMetrics names a counter's family without
//! `_total`, has UNIT lines, floats in `le`, exemplars and an end mark.

use super::{
    exemplar::Exemplar,
    histogram::{Exemplars, TICKS_PER_SECOND},
    names::stem,
};
use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};
use std::{borrow::Cow, fmt::Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text 0.0.4, which every scraper reads.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Units that OpenMetrics wants announced when a name ends in them.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

impl Format {
    /// OpenMetrics where `accept` names it and does not like `text/plain` better.
    pub(super) fn negotiate(accept: Option<&str>) -> Self {
        let mut open = 0.0;
        let mut plain = 0.0;
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let mut weight: f64 = 1.0;
            let mut version = None;
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text"
                    if version.is_none_or(|version| version == "1.0.0") =>
                {
                    open = weight.max(open);
                }
                "text/plain" => plain = weight.max(plain),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The whole text of `families`.
pub(super) fn write(format: Format, families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut writer = Writer { format, exemplars, text: String::with_capacity(16 * 1024) };
    for family in families {
        writer.family(family);
    }
    if format == Format::OpenMetrics {
        writer.text.push_str("# EOF\n");
    }
    writer.text
}

/// The text so far. Writing to a `String` cannot fail, hence the `.ok()`s below.
struct Writer<'a> {
    format: Format,
    exemplars: &'a Exemplars,
    text: String,
}

impl<'a> Writer<'a> {
    fn family(&mut self, family: &MetricFamily) {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            // Never registered here.
            MetricType::SUMMARY | MetricType::UNTYPED => return,
        };
        let name = match self.format {
            Format::Classic => family.name(),
            Format::OpenMetrics => stem(family.name()),
        };
        let help = escaped(family.help(), self.format == Format::OpenMetrics);
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
        let unit = name.rsplit_once('_').map(|(_, unit)| unit).filter(|unit| UNITS.contains(unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            writeln!(self.text, "# UNIT {name} {unit}").ok();
        }
        for metric in family.get_metric() {
            let labels = metric.get_label();
            match family.get_field_type() {
                MetricType::HISTOGRAM => self.histogram(name, labels, metric.get_histogram()),
                MetricType::COUNTER => {
                    self.sample(family.name(), "", labels, None, metric.get_counter().get_value());
                }
                MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {
                    self.sample(name, "", labels, None, metric.get_gauge().get_value());
                }
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[LabelPair], histogram: &Histogram) {
        let shown = self.exemplars_of(name, labels);
        let mut before = 0;
        for (place, bucket) in histogram.get_bucket().iter().enumerate() {
            let bound = match self.format {
                Format::Classic => bucket.upper_bound().to_string(),
                // OpenMetrics wants a float even where it is whole.
                Format::OpenMetrics => {
                    let bound = bucket.upper_bound().to_string();
                    if bound.contains('.') { bound } else { bound + ".0" }
                }
            };
            self.sample(name, "_bucket", labels, Some(&bound), bucket.cumulative_count() as f64);
            // The counts were read earlier: a call may be shown that is not counted yet.
            let counted = bucket.cumulative_count() > before;
            before = bucket.cumulative_count();
            self.exemplar(shown.and_then(|shown| *shown.get(place)?).filter(|_| counted));
        }
        let count = histogram.get_sample_count() as f64;
        self.sample(name, "_bucket", labels, Some("+Inf"), count);
        let counted = histogram.get_sample_count() > before;
        self.exemplar(shown.and_then(|shown| *shown.last()?).filter(|_| counted));
        self.sample(name, "_sum", labels, None, histogram.get_sample_sum());
        self.sample(name, "_count", labels, None, count);
    }

    /// Only OpenMetrics has a place for them.
    fn exemplars_of(&self, name: &str, labels: &[LabelPair]) -> Option<&'a [Option<Exemplar>]> {
        if self.format != Format::OpenMetrics || name != self.exemplars.family {
            return None;
        }
        let values: Vec<String> = labels.iter().map(|pair| pair.value().to_owned()).collect();
        self.exemplars.series.get(&values).map(Vec::as_slice)
    }

    /// Behind the sample that was just written: the record that stands for its bucket, how
    /// long it took, and when it ended.
    #[expect(clippy::float_arithmetic, reason = "ticks to seconds, for the metric's text")]
    fn exemplar(&mut self, exemplar: Option<Exemplar>) {
        let Some(Exemplar { record, ticks }) = exemplar else { return };
        self.text.truncate(self.text.trim_end_matches('\n').len());
        let seconds = ticks as f64 / TICKS_PER_SECOND as f64;
        // A record's id begins with the millisecond of its call.
        let ended_ms = (record.as_u128() >> 80) + u128::from(ticks * 1000 / TICKS_PER_SECOND);
        let (whole, rest) = (ended_ms / 1000, ended_ms % 1000);
        writeln!(self.text, " # {{record=\"{record}\"}} {seconds} {whole}.{rest:03}").ok();
    }

    fn sample(
        &mut self,
        name: &str,
        ending: &str,
        labels: &[LabelPair],
        bound: Option<&str>,
        value: f64,
    ) {
        self.text.push_str(name);
        self.text.push_str(ending);
        let mut before = '{';
        let pairs = labels.iter().map(|pair| (pair.name(), pair.value()));
        for (label, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
            let value = escaped(value, true);
            write!(self.text, "{before}{label}=\"{value}\"").ok();
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").ok();
    }
}

/// Foreign text cannot end a line or a value. Most has nothing to escape.
fn escaped(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    Cow::Owned(if quotes { text.replace('"', "\\\"") } else { text })
}

#[cfg(test)]
pub(in crate::metrics) mod tests;
