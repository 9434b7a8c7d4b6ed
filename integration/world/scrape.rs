//! What a Prometheus would make of `/metrics`: a reader of the text format that lets nothing pass which the format does
//! not allow, and counts as a Prometheus would.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With what a histogram appends.
    pub name: String,
    /// Those of this series.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The help text.
    pub help: String,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// A scrape.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scrape {
    /// By name.
    pub families: BTreeMap<String, Family>,
}

impl Scrape {
    /// Asks for a scrape of a listener without a token, and reads it.
    pub async fn of(address: SocketAddr) -> Self {
        let (status, head, body) = get(address, "/metrics", None).await.unwrap();
        assert_eq!(status, 200, "{head}\n{body}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        Self::parse(&body).unwrap_or_else(|e| panic!("{e} in\n{body}"))
    }

    /// Reads a scrape.
    ///
    /// # Errors
    /// The first line that is not as the format wants it, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        let (mut scrape, mut help, mut current) = (Self::default(), None::<(String, String)>, None::<String>);
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, text)) = rest.split_once(' ') else { return wrong("HELP without text") };
                if !is_name(name) || scrape.families.contains_key(name) || help.is_some() {
                    return wrong("a HELP that comes twice, or out of turn");
                }
                help = Some((
                    name.to_owned(),
                    unescape(text, false).ok_or_else(|| format!("bad escape: {line:?}"))?,
                ));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else { return wrong("TYPE without a type") };
                let Some((_, text)) = help.take().filter(|(of, _)| of == name) else {
                    return wrong("TYPE without its HELP");
                };
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return wrong("not one of our types");
                }
                let family = Family { kind: kind.to_owned(), help: text, samples: Vec::new() };
                scrape.families.insert(name.to_owned(), family);
                current = Some(name.to_owned());
            } else if line.starts_with('#') {
                return wrong("a comment that says nothing");
            } else if !line.is_empty() {
                let sample = sample(line).ok_or_else(|| format!("not a sample: {line:?}"))?;
                let Some(name) = &current else { return wrong("a sample before its TYPE") };
                let Some(family) = scrape.families.get_mut(name) else { return wrong("no family") };
                let of_histogram = ["_bucket", "_sum", "_count"];
                let belongs = match family.kind.as_str() {
                    "histogram" => of_histogram.iter().any(|s| sample.name == format!("{name}{s}")),
                    _ => sample.name == *name,
                };
                if !belongs {
                    return wrong("a sample among those of another metric");
                }
                if family.samples.iter().any(|s| (&s.name, &s.labels) == (&sample.name, &sample.labels)) {
                    return wrong("a series twice");
                }
                if family.kind != "gauge" && !(sample.value.is_finite() && sample.value >= 0.0) {
                    return wrong("not a count");
                }
                family.samples.push(sample);
            }
        }
        for (name, family) in scrape.families.iter().filter(|(_, f)| f.kind == "histogram") {
            buckets(name, family)?;
        }
        Ok(scrape)
    }

    /// The value of the one series with exactly these labels, written as in a scrape, when it is there.
    #[track_caller]
    pub fn find(&self, series: &str) -> Option<f64> {
        let wanted = sample(&format!("{series} 0")).unwrap_or_else(|| panic!("{series} is no series"));
        let mut all = self.families.values().flat_map(|f| &f.samples);
        all.find(|s| (&s.name, &s.labels) == (&wanted.name, &wanted.labels)).map(|s| s.value)
    }

    /// The value of a series that must be there.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        let name = series.split('{').next().unwrap_or(series);
        self.find(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.families.get(name)))
    }

    /// The sum of all series of a metric.
    pub fn sum(&self, name: &str) -> f64 {
        self.families.get(name).map_or(0.0, |f| f.samples.iter().map(|s| s.value).sum())
    }

    /// Every value that some label has.
    pub fn values_of(&self, label: &str) -> BTreeSet<&str> {
        let all = self.families.values().flat_map(|f| &f.samples);
        all.filter_map(|s| s.labels.get(label)).map(String::as_str).collect()
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.families.values().map(|f| f.samples.len()).sum()
    }
}

/// `GET path`: status, head in lower case, body.
pub async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> io::Result<(u16, String, String)> {
    let token = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{token}\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, head.to_ascii_lowercase(), body.to_owned()))
}

fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.starts_with(|c: char| !c.is_ascii_digit()) && text.chars().all(word)
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, pairs(rest.strip_suffix('}')?)?),
        None => (series, Labels::new()),
    };
    let value = match value {
        "+Inf" => f64::INFINITY,
        "NaN" => f64::NAN,
        // Rust reads `inf` and `nan` too; Prometheus's own parser is the stricter one here.
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.parse().ok()?,
        _ => return None,
    };
    is_name(name).then(|| Sample { name: name.to_owned(), labels, value })
}

/// `a="b",c="d"`.
fn pairs(mut text: &str) -> Option<Labels> {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut escaped = false;
        let end = rest.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        })?;
        let (value, rest) = (&rest[..end.0], &rest[end.0 + 1..]);
        if !is_name(name) || name.contains(':') {
            return None;
        }
        if labels.insert(name.to_owned(), unescape(value, true)?).is_some() {
            return None;
        }
        text = match rest.strip_prefix(',') {
            Some(more) => Some(more).filter(|m| !m.is_empty())?,
            None => Some(rest).filter(|r| r.is_empty())?,
        };
    }
    Some(labels)
}

fn unescape(text: &str, quoted: bool) -> Option<String> {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                '"' if quoted => '"',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

/// One histogram: its buckets by their upper end, its sum and its count.
#[derive(Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

/// A histogram's buckets ascend to its count.
fn buckets(name: &str, family: &Family) -> Result<(), String> {
    let mut rows: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le");
        let row = rows.entry(labels).or_default();
        match (sample.name.strip_prefix(name), le) {
            (Some("_bucket"), Some(le)) => {
                let le = if le == "+Inf" {
                    f64::INFINITY
                } else {
                    le.parse().map_err(|_| format!("{name}: le {le}"))?
                };
                row.buckets.push((le, sample.value));
            }
            (Some("_sum"), None) => row.sum = Some(sample.value),
            (Some("_count"), None) => row.count = Some(sample.value),
            _ => return Err(format!("{name}: {sample:?}")),
        }
    }
    for (labels, Histogram { buckets, sum, count }) in rows {
        let ascend = buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
        let last = buckets.last().filter(|(le, _)| le.is_infinite()).map(|(_, n)| *n);
        if !ascend || last.is_none() || last != count || sum.is_none() {
            return Err(format!("{name} {labels:?}: {buckets:?} do not add up to {sum:?}, {count:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_takes_what_the_format_allows_and_nothing_else() {
        let good = "# HELP a_total About a.\n# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"q\\\"\\\\\\n\"} 4\n\n\
                    # HELP h Of h.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.7\nh_count 2\n";
        let scrape = Scrape::parse(good).unwrap();
        assert_eq!((scrape.value("a_total{x=\"1\"}"), scrape.sum("a_total"), scrape.series()), (3.0, 7.0, 6));
        assert!(scrape.values_of("x").contains("q\"\\\n"));
        for (old, new) in [
            ("About a.\n", "About a.\n# HELP a_total Again.\n"),
            ("# HELP a_total About a.\n", ""),
            ("# TYPE a_total counter\n", ""),
            ("counter", "summary"),
            ("x=\"1\"", "x=\"q\\\"\\\\\\n\""),
            ("x=\"1\"", "x=\"1\",x=\"1\""),
            ("x=\"1\"", "x=\"1\","),
            ("x=\"1\"", "x=\"\\t\""),
            ("x=\"1\"", "x=\"a\"b\""),
            ("x=\"1\"", "1x=\"1\""),
            ("} 3", "} -3"),
            ("} 3", "} inf"),
            ("} 3", "} three"),
            ("} 3", "} 3\n# remark"),
            ("a_total{x=\"1\"}", "b_total{x=\"1\"}"),
            ("h_bucket{le=\"+Inf\"} 2\n", ""),
            ("h_bucket{le=\"0.5\"} 1", "h_bucket{le=\"0.5\"} 3"),
            ("h_count 2", "h_count 3"),
            ("h_sum 0.7\n", ""),
            ("h_count 2\n", "h_count 2"),
        ] {
            let bad = good.replacen(old, new, 1);
            assert_ne!(bad, good, "{old}");
            assert!(Scrape::parse(&bad).is_err(), "{bad}");
        }
    }
}
