//! What the windows mean, computed from all events each time, without tiles: the words of `vocabulary::stream` as code.

use super::super::event::{Event, Value};
use super::super::key::Key;
use std::collections::{BTreeMap, HashSet};
use vocabulary::stream::{AggregateFunction, AggregateSpec, StreamSpec, WindowKind, WindowSpec};

pub const BEGINNING: i64 = -1_000_000_000_000_000_000;

/// An emitted window: (window, key, start) to end, members and how often.
pub type Emitted = BTreeMap<(usize, Key, i64), (i64, Vec<usize>, u32)>;

/// An emission to expect: window, key, start, end, pane, and its values, or none where it is withdrawn.
pub type Expected = (usize, Key, i64, i64, u32, Option<Vec<Value>>);

pub struct Naive {
    pub spec: StreamSpec,
    pub accepted: Vec<Event>,
    pub watermark: i64,
    /// Newest time and whether it is idle, by partition; none where it has ended.
    pub partitions: Vec<(i64, bool)>,
    ids: HashSet<Key>,
    emitted: Emitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Accepted,
    Duplicate,
    /// Its identifier may have been forgotten, because nothing so old is counted any more.
    OldDuplicate,
    TooLate,
}

fn floor(time: i64, step: i64) -> i64 {
    time.div_euclid(step) * step
}

impl Naive {
    pub fn new(spec: &StreamSpec, partitions: usize) -> Naive {
        Naive {
            spec: spec.clone(),
            accepted: Vec::new(),
            watermark: BEGINNING,
            partitions: vec![(BEGINNING, false); partitions],
            ids: HashSet::new(),
            emitted: BTreeMap::new(),
        }
    }

    pub fn horizon(&self) -> i64 {
        self.watermark - self.spec.allowed_lateness.0
    }

    pub fn push(&mut self, partition: usize, event: &Event) -> Fate {
        let time = event.time.0;
        let first_end = self.spec.windows.iter().map(|window| match window.kind {
            WindowKind::Tumbling => floor(time, window.size.unwrap().0) + window.size.unwrap().0,
            WindowKind::Hopping => floor(time, window.slide.unwrap().0) + window.slide.unwrap().0,
            _ => time + 1,
        });
        let too_late = first_end.min().unwrap() <= self.horizon();
        let fate = if event.id.as_ref().is_some_and(|id| self.ids.contains(id)) {
            if too_late { Fate::OldDuplicate } else { Fate::Duplicate }
        } else if too_late {
            Fate::TooLate
        } else {
            self.ids.extend(event.id.clone());
            self.accepted.push(event.clone());
            Fate::Accepted
        };
        let partition = &mut self.partitions[partition];
        *partition = (partition.0.max(time), false);
        fate
    }

    pub fn advance(&mut self) {
        let active = self.partitions.iter().filter(|(_, idle)| !idle).map(|(newest, _)| *newest);
        if let Some(newest) = active.min() {
            self.watermark = self.watermark.max(newest.saturating_sub(self.spec.out_of_order.0));
        }
    }

    /// The emissions that the windows closed at the present watermark ask for, beyond those told before.
    pub fn emissions(&mut self) -> Vec<Expected> {
        let mut expected = Vec::new();
        for (place, window) in self.spec.windows.iter().enumerate() {
            for (key, start, end, members) in self.closed(window) {
                let with_start = self.emitted.get(&(place, key.clone(), start)).cloned();
                if with_start.as_ref().is_some_and(|(_, before, _)| *before == members) {
                    continue;
                }
                if window.kind == WindowKind::Session {
                    let absorbed: Vec<_> = self
                        .emitted
                        .iter()
                        .filter(|((w, k, s), (e, _, _))| {
                            *w == place && *k == key && *s != start && *s < end && start < *e
                        })
                        .map(|(at, (e, _, panes))| (at.clone(), *e, *panes))
                        .collect();
                    for (at, e, panes) in absorbed {
                        self.emitted.remove(&at);
                        expected.push((at.0, at.1, at.2, e, panes, None));
                    }
                }
                let pane = with_start.map_or(0, |(_, _, panes)| panes);
                self.emitted.insert((place, key.clone(), start), (end, members.clone(), pane + 1));
                let events: Vec<&Event> = members.iter().map(|i| &self.accepted[*i]).collect();
                expected.push((place, key, start, end, pane, Some(values(&self.spec, window, &events, end))));
            }
        }
        expected
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.accepted.iter().map(|event| event.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Places of the key's events in the order of time.
    fn of_key(&self, key: &Key) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.accepted.len()).filter(|i| self.accepted[*i].key == *key).collect();
        places.sort_by_key(|i| self.accepted[*i].time);
        places
    }

    fn closed(&self, window: &WindowSpec) -> Vec<(Key, i64, i64, Vec<usize>)> {
        let mut closed = Vec::new();
        for key in self.keys() {
            let places = self.of_key(&key);
            let time = |i: usize| self.accepted[i].time.0;
            match window.kind {
                WindowKind::Sliding => {}
                WindowKind::Session => {
                    let gap = window.gap.unwrap().0;
                    for run in places.chunk_by(|a, b| time(*b) - time(*a) < gap) {
                        let (start, end) = (time(run[0]), time(run[run.len() - 1]) + gap);
                        if end <= self.watermark {
                            let mut run = run.to_vec();
                            run.sort_unstable();
                            closed.push((key.clone(), start, end, run));
                        }
                    }
                }
                WindowKind::Tumbling | WindowKind::Hopping => {
                    let size = window.size.unwrap().0;
                    let slide = window.slide.map_or(size, |slide| slide.0);
                    let mut ends: Vec<i64> = Vec::new();
                    for i in &places {
                        let mut end = floor(time(*i), slide) + slide;
                        while end - size <= time(*i) {
                            ends.push(end);
                            end += slide;
                        }
                    }
                    ends.sort_unstable();
                    ends.dedup();
                    for end in ends.into_iter().filter(|end| *end <= self.watermark) {
                        let mut members: Vec<usize> =
                            places.iter().copied().filter(|i| (end - size..end).contains(&time(*i))).collect();
                        members.sort_unstable();
                        closed.push((key.clone(), end - size, end, members));
                    }
                }
            }
        }
        closed
    }
}

/// The features of a key at an instant, of these events.
pub fn lookup(spec: &StreamSpec, events: &[&Event], key: &Key, at: i64) -> Vec<Value> {
    let mut before: Vec<&Event> =
        events.iter().copied().filter(|event| event.key == *key && event.time.0 < at).collect();
    before.sort_by_key(|event| event.time);
    let mut row = Vec::new();
    for window in &spec.windows {
        let within = |from: i64, to: i64| -> Vec<&Event> {
            before.iter().copied().filter(|event| (from..to).contains(&event.time.0)).collect()
        };
        let (members, end) = match window.kind {
            WindowKind::Tumbling | WindowKind::Hopping => {
                let size = window.size.unwrap().0;
                let end = floor(at, window.slide.map_or(size, |slide| slide.0));
                (within(end - size, end), end)
            }
            WindowKind::Sliding => {
                let from = floor(at - window.size.unwrap().0, window.tile().0);
                (within(from, at), at)
            }
            WindowKind::Session => {
                let gap = window.gap.unwrap().0;
                let last = before.chunk_by(|a, b| b.time.0 - a.time.0 < gap).last().unwrap_or(&[]);
                let open = last.last().is_some_and(|event| at - event.time.0 < gap);
                (if open { last.to_vec() } else { Vec::new() }, at)
            }
        };
        row.extend(values(spec, window, &members, end));
    }
    row
}

fn values(spec: &StreamSpec, window: &WindowSpec, events: &[&Event], end: i64) -> Vec<Value> {
    window.aggregates.iter().flat_map(|aggregate| value(spec, aggregate, events, end)).collect()
}

/// The scenarios' numbers are multiples of this below 2^20, so that plain sums of them are exact.
pub const UNIT: f64 = 1.0 / 1024.0;

fn value(spec: &StreamSpec, aggregate: &AggregateSpec, events: &[&Event], end: i64) -> Vec<Value> {
    let columns = super::super::reader::value_columns(spec);
    let of = aggregate.of.as_ref().map(|of| columns.iter().position(|(name, _)| name == of).unwrap());
    let cell = |event: &&Event| of.map_or(Value::Number(1.0), |column| event.values[column].clone());
    let some: Vec<(&Event, Value)> =
        events.iter().map(|event| (*event, cell(event))).filter(|(_, value)| *value != Value::Null).collect();
    let numbers: Vec<f64> = some.iter().filter_map(|(_, value)| value.as_number()).collect();
    let n = numbers.len() as f64;
    let sum: f64 = numbers.iter().sum();
    let one = |value: Option<f64>| vec![value.map_or(Value::Null, Value::Number)];
    match aggregate.function {
        AggregateFunction::Count => one(Some(some.len() as f64)),
        AggregateFunction::Sum => one((n > 0.0).then_some(sum)),
        AggregateFunction::Mean => one((n > 0.0).then_some(sum / n)),
        AggregateFunction::Variance => {
            let units: Vec<i128> = numbers.iter().map(|value| (value / UNIT) as i128).collect();
            let (s, q): (i128, i128) = (units.iter().sum(), units.iter().map(|unit| unit * unit).sum());
            let spread = (units.len() as i128 * q - s * s) as f64 * UNIT * UNIT;
            one((n > 1.0).then_some(spread / (n * (n - 1.0))))
        }
        AggregateFunction::Min => one(numbers.iter().copied().reduce(f64::min)),
        AggregateFunction::Max => one(numbers.iter().copied().reduce(f64::max)),
        AggregateFunction::Distinct => {
            let different: HashSet<String> = some.iter().map(|(_, value)| format!("{value:?}")).collect();
            one(Some(different.len() as f64))
        }
        AggregateFunction::Quantile => {
            let mut sorted = numbers.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = ((n - 1.0) * aggregate.q.unwrap()).floor();
            one((n > 0.0).then(|| sorted[rank as usize]))
        }
        AggregateFunction::Last => {
            let mut sorted = some;
            let shown = |value: &Value| match value {
                Value::Number(number) => (*number, String::new()),
                Value::Text(text) => (0.0, text.to_string()),
                Value::Null => unreachable!(),
            };
            sorted.sort_by(|(a, x), (b, y)| {
                let (x, y) = (shown(x), shown(y));
                (b.time, &b.id).cmp(&(a.time, &a.id)).then(y.0.total_cmp(&x.0)).then(y.1.cmp(&x.1))
            });
            let mut sorted = sorted.into_iter().map(|(_, value)| value);
            (0..aggregate.k.unwrap_or(1)).map(|_| sorted.next().unwrap_or_default()).collect()
        }
        AggregateFunction::Decayed => {
            let half_life = aggregate.half_life.unwrap().0 as f64;
            let weigh = |(event, value): &(&Event, Value)| {
                value.as_number().unwrap() * (-((end - event.time.0) as f64) / half_life).exp2()
            };
            one((n > 0.0).then(|| some.iter().map(weigh).sum()))
        }
    }
}

/// Whether two rows are the same to the last bit; decayed sums, which the platform's functions compute here, nearly.
#[track_caller]
pub fn assert_same(spec: &StreamSpec, ours: &[Value], naive: &[Value], what: &str) {
    assert_eq!(ours.len(), naive.len(), "{what}");
    let decayed = |place: usize| spec.features()[place].name.contains("decayed");
    for (place, (a, b)) in ours.iter().zip(naive).enumerate() {
        let near = match (a, b) {
            (Value::Number(a), Value::Number(b)) if decayed(place) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
            _ => a.same(b),
        };
        assert!(near, "{what}: {} is {a:?} and should be {b:?}", spec.features()[place].name);
    }
}
