//! Metrics: the table of them ([`table`]), and handles that count without a lookup and without an allocation.
//!
//! A room that makes something happen holds [`Counters`] and [`Values`] of its own, made once by a [`Registry`], and
//! counts next to the line of the log about the same fact. Without a registry (`Default`) nothing is counted, which is
//! what tests and the command line take. What is not counted but looked up, such as the depth of the queue, is written
//! into the scrape by [`text`].
//!
//! The value of a label is a [`Word`] of a closed list, or comes from the configuration. So no peer, whatever it says,
//! makes a series, and a scrape has the same series on the first day as after a year.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge as Handle, Histogram, Key, Label, Level, Metadata, Recorder};

pub mod table;
pub mod text;

pub use table::{Kind, Metric};

/// The value of a label: one of a closed list.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value.
    const ALL: &'static [Self];
    /// As it stands in a scrape.
    fn word(self) -> &'static str;
}

/// Declares a closed list of values of a label, from which none can be missing.
macro_rules! words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $crate::observe::metrics::Word for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}
pub(crate) use words;

/// The values of all labels of one metric: nothing, a [`Word`], or a few of them.
pub trait Labels: Copy {
    /// Every combination, each at its place.
    fn all() -> Vec<Vec<&'static str>>;
    /// The place of this one.
    fn place(self) -> usize;
}

fn place_of<W: Word>(word: W) -> usize {
    W::ALL.iter().position(|w| *w == word).unwrap_or(usize::MAX)
}

/// Every row of the first, followed by every word of the second.
fn times<W: Word>(rows: &[Vec<&'static str>]) -> Vec<Vec<&'static str>> {
    let longer = |row: &Vec<&'static str>| {
        let row = row.clone();
        W::ALL.iter().map(move |w| [row.as_slice(), &[w.word()]].concat())
    };
    rows.iter().flat_map(longer).collect()
}

impl Labels for () {
    fn all() -> Vec<Vec<&'static str>> {
        vec![Vec::new()]
    }

    fn place(self) -> usize {
        0
    }
}

impl<A: Word> Labels for A {
    fn all() -> Vec<Vec<&'static str>> {
        times::<A>(&<()>::all())
    }

    fn place(self) -> usize {
        place_of(self)
    }
}

impl<A: Word, B: Word> Labels for (A, B) {
    fn all() -> Vec<Vec<&'static str>> {
        times::<B>(&A::all())
    }

    fn place(self) -> usize {
        place_of(self.0).saturating_mul(B::ALL.len()).saturating_add(place_of(self.1))
    }
}

impl<A: Word, B: Word, C: Word> Labels for (A, B, C) {
    fn all() -> Vec<Vec<&'static str>> {
        times::<C>(&<(A, B)>::all())
    }

    fn place(self) -> usize {
        (self.0, self.1).place().saturating_mul(C::ALL.len()).saturating_add(place_of(self.2))
    }
}

/// A counter for every combination of labels.
#[derive(Clone)]
pub struct Counters<L> {
    counters: Arc<[Counter]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Counters<L> {
    /// It happened once.
    pub fn count(&self, labels: L) {
        self.add(labels, 1);
    }

    /// It happened `n` times, or to `n` of them.
    pub fn add(&self, labels: L, n: u64) {
        if let Some(counter) = self.counters.get(labels.place()) {
            counter.increment(n);
        }
    }
}

impl<L> Default for Counters<L> {
    /// Counts nothing.
    fn default() -> Self {
        Self { counters: Arc::default(), labels: PhantomData }
    }
}

impl<L> fmt::Debug for Counters<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counters({})", self.counters.len())
    }
}

/// Values in buckets.
#[derive(Debug, Clone)]
pub struct Values(Histogram);

impl Values {
    /// It took so long.
    pub fn took(&self, time: Duration) {
        self.0.record(time.as_secs_f64());
    }

    /// There were so many.
    pub fn were(&self, n: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a bucket need not be exact")]
        self.0.record(n as f64);
    }
}

impl Default for Values {
    /// Keeps nothing.
    fn default() -> Self {
        Self(Histogram::noop())
    }
}

/// How many there are now.
#[derive(Debug, Clone)]
pub struct Gauge(Handle);

/// One of those that a [`Gauge`] counts, until it is dropped.
#[must_use = "it is counted for as long as it lives"]
pub struct Held(Handle);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Gauge {
    /// There is one more.
    pub fn hold(&self) -> Held {
        self.0.increment(1.0);
        Held(self.0.clone())
    }

    /// There are `n` now.
    pub fn set(&self, n: usize) {
        #[expect(clippy::cast_precision_loss, reason = "never that many")]
        self.0.set(n as f64);
    }
}

impl Default for Gauge {
    /// Keeps nothing.
    fn default() -> Self {
        Self(Handle::noop())
    }
}

/// Makes the handles, each with its help text and at 0, so that a series is there before its first event.
pub struct Registry<'r>(&'r dyn Recorder);

impl<'r> Registry<'r> {
    /// Makes handles of `recorder`.
    pub const fn new(recorder: &'r dyn Recorder) -> Self {
        Self(recorder)
    }

    /// Counters of a metric, for every combination of its labels.
    pub fn counters<L: Labels>(&self, metric: &'static Metric) -> Counters<L> {
        let counters = L::all().into_iter().map(|values| self.counter(metric, values)).collect();
        Counters { counters, labels: PhantomData }
    }

    /// One counter of a metric whose labels come from the configuration.
    pub fn of_configuration(&self, metric: &'static Metric, values: [String; 2]) -> Counters<()> {
        Counters { counters: Arc::new([self.counter(metric, values)]), labels: PhantomData }
    }

    /// A histogram without labels.
    pub fn values(&self, metric: &'static Metric) -> Values {
        self.0.describe_histogram(metric.name.into(), None, metric.help.into());
        Values(self.0.register_histogram(&Key::from_static_name(metric.name), &METADATA))
    }

    /// A gauge without labels.
    pub fn gauge(&self, metric: &'static Metric) -> Gauge {
        self.0.describe_gauge(metric.name.into(), None, metric.help.into());
        Gauge(self.0.register_gauge(&Key::from_static_name(metric.name), &METADATA))
    }

    fn counter<V>(&self, metric: &'static Metric, values: impl IntoIterator<Item = V>) -> Counter
    where
        V: Into<::metrics::SharedString>,
    {
        self.0.describe_counter(metric.name.into(), None, metric.help.into());
        let labels = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.into()));
        let key = Key::from_parts(metric.name, labels.collect::<Vec<_>>());
        self.0.register_counter(&key, &METADATA)
    }
}

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

#[cfg(test)]
mod tests {
    use super::*;

    words! {
        enum Colour {
            Red = "red",
            Blue = "blue",
        }
    }

    words! {
        enum Answer {
            No = "no",
            Yes = "yes",
        }
    }

    fn at<L: Labels>(labels: L) -> Vec<&'static str> {
        L::all()[labels.place()].clone()
    }

    #[test]
    fn every_combination_has_a_place_of_its_own() {
        assert!(at(()).is_empty());
        assert_eq!(at(Colour::Blue), ["blue"]);
        assert_eq!(<(Answer, Colour, Answer)>::all().len(), 8);
        for a in [Answer::No, Answer::Yes] {
            for b in [Colour::Red, Colour::Blue] {
                assert_eq!(at((b, a)), [b.word(), a.word()]);
                for c in [Answer::No, Answer::Yes] {
                    assert_eq!(at((a, b, c)), [a.word(), b.word(), c.word()]);
                }
            }
        }
    }

    #[test]
    fn without_a_registry_nothing_is_counted_and_nothing_breaks() {
        Counters::<(Colour, Answer)>::default().count((Colour::Red, Answer::Yes));
        Values::default().took(Duration::from_secs(1));
        Gauge::default().set(7);
        drop(Gauge::default().hold());
    }
}
