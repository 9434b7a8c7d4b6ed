//! The recorder behind the handles of [`metrics`](super::metrics), and what it has counted as text for Prometheus.

use ::metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::metrics::Registry;
use super::metrics::table::{ALL, Kind};

/// Counts for one process, or one test.
pub struct Prometheus {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Prometheus {
    /// A recorder that has counted nothing. Every histogram gets the buckets of the table: one without would be a
    /// summary, and its quantiles cannot be added up.
    ///
    /// # Errors
    /// Of the table: buckets that are no buckets.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    /// Makes handles.
    pub const fn registry(&self) -> Registry<'_> {
        Registry::new(&self.recorder)
    }

    /// What was counted, for the end of this line of text.
    pub const fn counted(&self) -> &PrometheusHandle {
        &self.handle
    }
}

#[cfg(test)]
impl Prometheus {
    /// The value of one series, as it would be scraped: `name{label="value"}`.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        let text = self.handle.render();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::{Counters, Values, table, words};

    words! {
        enum Stage {
            Command = "command",
            Content = "content",
        }
    }

    words! {
        enum Reply {
            Temporary = "4xx",
            Permanent = "5xx",
        }
    }

    #[test]
    fn what_is_counted_is_scraped_and_what_never_happened_is_zero() {
        let prometheus = Prometheus::new().unwrap();
        let refusals: Counters<(Stage, Reply)> = prometheus.registry().counters(&table::SUBMISSION_REFUSALS);
        refusals.add((Stage::Content, Reply::Temporary), 7);
        refusals.count((Stage::Content, Reply::Temporary));
        let series = |stage, reply| {
            prometheus
                .value(&format!("sealpost_submission_refusals_total{{stage=\"{stage}\",reply=\"{reply}\"}}"))
        };
        assert_eq!(series("content", "4xx"), 8.0);
        assert_eq!(series("command", "5xx"), 0.0);
        // The same handles, made again, are the same series.
        let again: Counters<(Stage, Reply)> = prometheus.registry().counters(&table::SUBMISSION_REFUSALS);
        again.count((Stage::Command, Reply::Permanent));
        assert_eq!(series("command", "5xx"), 1.0);
    }

    #[test]
    fn every_histogram_has_the_buckets_of_the_table() {
        let prometheus = Prometheus::new().unwrap();
        for metric in ALL {
            let Kind::Histogram(buckets) = metric.kind else { continue };
            let values: Values = prometheus.registry().values(metric);
            values.were(1);
            let name = metric.name;
            for le in buckets {
                let want = f64::from(u8::from(1.0 <= *le));
                assert_eq!(prometheus.value(&format!("{name}_bucket{{le=\"{le}\"}}")), want, "{name}");
            }
            assert_eq!(prometheus.value(&format!("{name}_bucket{{le=\"+Inf\"}}")), 1.0);
            assert_eq!(prometheus.value(&format!("{name}_sum")), 1.0);
        }
    }

    #[test]
    fn a_gauge_counts_those_that_live() {
        let prometheus = Prometheus::new().unwrap();
        let gauge = prometheus.registry().gauge(&table::SUBMISSION_OPEN);
        let (one, two) = (gauge.hold(), gauge.hold());
        assert_eq!(prometheus.value("sealpost_submission_connections_open"), 2.0);
        drop(one);
        assert_eq!(prometheus.value("sealpost_submission_connections_open"), 1.0);
        drop(two);
        assert_eq!(prometheus.value("sealpost_submission_connections_open"), 0.0);
    }
}
