//! One metric with its series, in the making.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// A metric whose series with equal labels are added up.
pub(super) struct Family {
    name: String,
    help: String,
    kind: MetricType,
    series: BTreeMap<Vec<(String, String)>, f64>,
    histogram: Option<Histogram>,
}

impl Family {
    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Family::new(name, help, MetricType::GAUGE)
    }

    pub(super) fn counter(name: &str, help: &str) -> Self {
        Family::new(name, help, MetricType::COUNTER)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Self {
        Family::new(name, help, MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        Family {
            name: format!("tortie_{name}"),
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
            histogram: None,
        }
    }

    /// Adds to the series with these labels.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        labels.sort_unstable();
        *self.series.entry(labels).or_default() += value;
    }

    /// Sets the one series of a histogram; the buckets are cumulative.
    pub(super) fn observed(&mut self, bounds: &[f64], buckets: &[u64], sum: f64, count: u64) {
        let bucket = |(bound, count): (&f64, &u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(bounds.iter().zip(buckets).map(bucket).collect());
        histogram.set_sample_sum(sum);
        histogram.set_sample_count(count);
        self.histogram = Some(histogram);
    }

    /// The metric; `None` when it has no series, which is not allowed in the text.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        let kind = self.kind;
        let metric = |(labels, value): (Vec<(String, String)>, f64)| {
            let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
            if kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            metric
        };
        let mut metrics: Vec<Metric> = self.series.into_iter().map(metric).collect();
        if let Some(histogram) = self.histogram {
            let mut metric = Metric::default();
            metric.set_histogram(histogram);
            metrics.push(metric);
        }
        if metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name);
        family.set_help(self.help);
        family.set_field_type(kind);
        family.set_metric(metrics);
        Some(family)
    }
}

fn pair((name, value): (String, String)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name);
    pair.set_value(value);
    pair
}
