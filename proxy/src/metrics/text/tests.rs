//! A strict little parser for both formats, and what the writer owes it.
//!
//! It refuses more than scrapers do: a text that passes here passes there.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Series (name and labels as written) → value.
pub(in crate::metrics) type Series = BTreeMap<String, f64>;

/// A family being read.
#[derive(Debug, Default)]
struct Reading {
    name: String,
    kind: String,
    samples: Vec<Sample>,
}

/// Name, labels, value.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads `text` or says what is wrong with it.
pub(in crate::metrics) fn parse(format: Format, text: &str) -> Result<Series, String> {
    let text = match format {
        Format::Classic => text,
        Format::OpenMetrics => text.strip_suffix("# EOF\n").ok_or("no end mark")?,
    };
    let text = text.strip_suffix('\n').ok_or("the last line has no end")?;
    let mut families = BTreeSet::new();
    let mut series = Series::new();
    let mut reading = Reading::default();
    for line in text.split('\n') {
        let at = |message: &str| format!("{message}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            reading.finish(&mut series)?;
            let (name, help) = rest.split_once(' ').ok_or_else(|| at("a help without text"))?;
            if !is_name(name) || !families.insert(name.to_owned()) || help.is_empty() {
                return Err(at("a bad or repeated family"));
            }
            reading = Reading { name: name.to_owned(), ..Reading::default() };
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| at("a bad type"))?;
            let known = ["counter", "gauge", "histogram"].contains(&kind);
            if name != reading.name || !reading.kind.is_empty() || !known {
                return Err(at("a type out of place"));
            }
            let total = name.ends_with("_total");
            if total != (kind == "counter" && format == Format::Classic) {
                return Err(at("`_total` out of place"));
            }
            reading.kind = kind.to_owned();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').ok_or_else(|| at("a bad unit"))?;
            let fits = name == reading.name && name.ends_with(&format!("_{unit}"));
            if format == Format::Classic || !fits || !reading.samples.is_empty() {
                return Err(at("a unit out of place"));
            }
        } else {
            let (line, exemplar) = match line.split_once(" # ") {
                // A label may hold the mark: then what is behind it is no exemplar.
                Some((line, behind)) if sample(line).is_some() => (line, Some(behind)),
                _ => (line, None),
            };
            let (name, labels, value) = sample(line).ok_or_else(|| at("not a sample"))?;
            if let Some(exemplar) = exemplar
                && !(format == Format::OpenMetrics
                    && name.ends_with("_bucket")
                    && is_exemplar(exemplar, &labels))
            {
                return Err(at("a bad exemplar, or one out of place"));
            }
            if !reading.allows(format, &name, &labels, value) {
                return Err(at("a sample out of place"));
            }
            reading.samples.push((name, labels, value));
        }
    }
    reading.finish(&mut series)?;
    Ok(series)
}

impl Reading {
    fn allows(&self, format: Format, name: &str, labels: &[(String, String)], value: f64) -> bool {
        let Some(ending) = name.strip_prefix(&self.name) else { return false };
        let bound = labels.iter().any(|(label, _)| label == "le");
        value.is_finite()
            && match (self.kind.as_str(), ending) {
                ("counter", "") => format == Format::Classic && value >= 0.0 && !bound,
                ("counter", "_total") => format == Format::OpenMetrics && value >= 0.0 && !bound,
                ("gauge", "") | ("histogram", "_sum") => !bound,
                ("histogram", "_count") => !bound && value >= 0.0,
                ("histogram", "_bucket") => bound,
                _ => false,
            }
    }

    /// Checks what a family owes as a whole.
    fn finish(&mut self, series: &mut Series) -> Result<(), String> {
        if self.name.is_empty() && series.is_empty() && self.samples.is_empty() {
            return Ok(());
        }
        if self.samples.is_empty() || self.kind.is_empty() {
            return Err(format!("an empty family: {}", self.name));
        }
        let mut last = (String::new(), f64::NEG_INFINITY, 0.0);
        for (name, labels, value) in &self.samples {
            let (bounds, labels): (Vec<_>, Vec<_>) =
                labels.iter().partition(|(label, _)| label == "le");
            let whole = |name: &str| format!("{name}{labels:?}");
            if let [(_, bound)] = bounds[..] {
                let edge = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                let (of, edge_before, count_before) = &last;
                let same = *of == whole(name);
                if same && (edge <= *edge_before || value < count_before) {
                    return Err(format!("buckets out of order: {}", whole(name)));
                }
                last = (whole(name), edge, *value);
            } else if name.ends_with("_count") && self.kind == "histogram" {
                let bucket = format!("{}_bucket", self.name);
                if last != (whole(&bucket), f64::INFINITY, *value) {
                    return Err(format!("the last bucket is not the count: {}", whole(name)));
                }
            }
            let labels: Vec<_> =
                labels.into_iter().chain(bounds).map(|(l, v)| format!("{l}={v}")).collect();
            let key = format!("{name}{{{}}}", labels.join(","));
            if series.insert(key.clone(), *value).is_some() {
                return Err(format!("a series twice: {key}"));
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `name{label="value",…} value`, nothing before, between or behind.
fn sample(line: &str) -> Option<Sample> {
    let name_len = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_len);
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = rest.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            if !is_name(label) || labels.iter().any(|(known, _)| known == label) {
                return None;
            }
            labels.push((label.to_owned(), value));
            match behind.strip_prefix(',') {
                Some(next) => rest = next,
                None => break rest = behind.strip_prefix('}')?,
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    let plain = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-'));
    (is_name(name) && plain).then_some(())?;
    Some((name.to_owned(), labels, value.parse().ok()?))
}

/// `{label="value",…} value timestamp`, for a bucket with these labels.
fn is_exemplar(text: &str, bucket: &[(String, String)]) -> bool {
    let Some((rest, at)) = text.rsplit_once(' ') else { return false };
    let Some((_, labels, value)) = sample(&format!("exemplar{rest}")) else { return false };
    let length: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bound = bucket.iter().find(|(label, _)| label == "le").map(|(_, bound)| bound.as_str());
    let in_bucket = match bound {
        Some("+Inf") => true,
        Some(bound) => bound.parse().is_ok_and(|bound: f64| value <= bound),
        None => false,
    };
    let is_time = at.split_once('.').is_some_and(|(whole, rest)| {
        [whole, rest].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    !labels.is_empty() && length <= 128 && value >= 0.0 && in_bucket && is_time
}

/// Reads up to the closing quote; what is behind it is the second part.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(place + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            plain => value.push(plain),
        }
    }
    None
}

#[test]
fn the_strict_parser_is_strict() {
    let classic = |text: &str| parse(Format::Classic, text);
    let head = "# HELP a_total x\n# TYPE a_total counter\n";
    assert!(classic(&format!("{head}a_total 1\n")).is_ok());
    for wrong in [
        "a_total 1",
        "a_total NaN\n",
        "a_total -1\n",
        "b_total 1\n",
        "a_total 1\na_total 1\n",
        "a_total{x=\"1\",x=\"2\"} 1\n",
        "a_total{x=\"\\t\"} 1\n",
        "a_total{} 1\n",
        "a_total  1\n",
        "\na_total 1\n",
        "",
    ] {
        assert!(classic(&format!("{head}{wrong}")).is_err(), "{wrong:?}");
    }
    assert!(parse(Format::OpenMetrics, "# HELP a x\n# TYPE a counter\na_total 1\n# EOF\n").is_ok());
    assert!(parse(Format::OpenMetrics, "# HELP a x\n# TYPE a counter\na 1\n# EOF\n").is_err());
    assert!(parse(Format::OpenMetrics, "# HELP a x\n# TYPE a counter\na_total 1\n").is_err());
    let histogram = |buckets: &str| {
        classic(&format!("# HELP h x\n# TYPE h histogram\n{buckets}h_sum 1\nh_count 2\n"))
    };
    assert!(histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n").is_ok());
    assert!(histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\n").is_err());
    assert!(histogram("h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n").is_err());
    assert!(histogram("h_bucket{le=\"+Inf\"} 2\nh_bucket{le=\"1\"} 2\n").is_err());
    assert!(histogram("h_bucket{le=\"1\"} 2\n").is_err());
    let shown = |exemplar: &str| {
        let last = "h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n# EOF\n";
        let text =
            format!("# HELP h x\n# TYPE h histogram\nh_bucket{{le=\"1.0\"}} 2{exemplar}\n{last}");
        parse(Format::OpenMetrics, &text)
    };
    assert!(shown("").is_ok());
    assert!(shown(" # {record=\"a\"} 0.5 1700000000.123").is_ok());
    for wrong in
        ["{record=\"a\"} 1.5 1.0", "{} 0.5 1.0", "{record=\"a\"} 0.5", "{record=\"a\"} -1 1.0"]
    {
        assert!(shown(&format!(" # {wrong}")).is_err(), "{wrong}");
    }
    assert!(shown(&format!(" # {{record=\"{}\"}} 0.5 1.0", "x".repeat(123))).is_err());
    assert!(
        histogram("h_bucket{le=\"1\"} 1 # {record=\"a\"} 0.5 1.0\nh_bucket{le=\"+Inf\"} 2\n")
            .is_err()
    );
}

#[test]
fn openmetrics_is_given_to_who_asks_for_it_and_classic_to_everybody_else() {
    use Format::{Classic, OpenMetrics};
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
         text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, format) in [
        (None, Classic),
        (Some(""), Classic),
        (Some("*/*"), Classic),
        (Some("text/html, */*;q=0.8"), Classic),
        (Some(prometheus), OpenMetrics),
        (Some("application/openmetrics-text"), OpenMetrics),
        (Some("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"), OpenMetrics),
        (Some("application/openmetrics-text; version=0.0.1"), Classic),
        (Some("application/openmetrics-text; version=2.0.0, text/plain;q=0.1"), Classic),
        (Some("application/openmetrics-text;q=0"), Classic),
        (Some("application/openmetrics-text;q=NaN"), Classic),
        (Some("application/openmetrics-text;q=0.2, text/plain"), Classic),
        (Some(";;=,q=,"), Classic),
    ] {
        assert_eq!(Format::negotiate(accept), format, "{accept:?}");
    }
}

proptest! {
    /// A route's name is the operator's, a model's the provider's: neither can break a line.
    #[test]
    fn foreign_label_values_come_back_as_they_were(value in any::<String>(), open in any::<bool>()) {
        let format = if open { Format::OpenMetrics } else { Format::Classic };
        let registry = prometheus::Registry::new();
        let family = prometheus::IntCounterVec::new(
            prometheus::Opts::new("calls_total", "Said \"x\\y\"."), &["route"]).unwrap();
        registry.register(Box::new(family.clone())).unwrap();
        family.with_label_values(&[&value]).inc();
        let series = parse(format, &write(format, &registry.gather(), &Exemplars::default())).unwrap();
        prop_assert_eq!(series.len(), 1);
        let expected = format!("calls_total{{route={value}}}");
        prop_assert_eq!(series.get(&expected), Some(&1.0));
    }

    #[test]
    fn no_accept_header_makes_it_panic(accept in any::<String>()) {
        Format::negotiate(Some(&accept)).content_type();
    }
}
