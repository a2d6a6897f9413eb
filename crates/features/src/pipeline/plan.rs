//! From the declaration to a list of steps, before any statistics: which columns are used, and as what.

mod encodings;

pub(super) use encodings::{derived, widened};

use super::Recipe;
use super::bag::Content;
use super::derived::Derived;
use super::step::NumberSource;
use crate::FeatureError;
use std::collections::HashSet;
use vocabulary::contract::{ColumnKind, Contract};
use vocabulary::model::{CountForm, ModelSpec, RecencySpec, ReduceMethod, TextScale, TimePart};
use vocabulary::suggest;

/// What an instant gives when nothing is declared. The day of the year is left out: a model that has seen less than a
/// year takes it for a trend.
const DEFAULT_PARTS: [TimePart; 2] = [TimePart::Hour, TimePart::Weekday];

/// A step without its statistics.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Planned {
    Number(NumberSource),
    /// Numbers that are replaced by fewer.
    Projection {
        method: ReduceMethod,
        sources: Vec<NumberSource>,
        components: usize,
    },
    /// One category of one or several columns: a slot.
    Slot(Vec<String>),
    /// A string column (or an int column that is declared a category) for trees. The number of its categories decides between codes and means, unless the declaration
    /// does.
    Category {
        column: String,
        means: Means,
    },
    /// An int column that is named like a key: a category beside the number, if the values look like it.
    Key(String),
    Means(Vec<String>),
    Parts {
        column: String,
        zone: String,
        parts: Vec<TimePart>,
    },
    Statistics {
        columns: Vec<String>,
        gives: PlannedGives,
        min_rows: u32,
    },
    /// Its columns are checked.
    Recency(RecencySpec),
    Cyclic {
        column: String,
        zone: String,
        parts: Vec<TimePart>,
    },
    Bag {
        column: String,
        content: Content,
        scale: TextScale,
        slots: u32,
    },
}

/// Whether a category for trees becomes target means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// Where it has many values.
    IfMany,
    Always,
    Never,
    /// It has declared statistics; codes beside them where it has few values.
    Declared,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PlannedGives {
    Target { smoothing: f64 },
    Counts(Vec<CountForm>),
}

pub(super) struct Plan {
    pub(super) steps: Vec<Planned>,
    pub(super) notes: Vec<String>,
}

struct Planner<'a> {
    spec: &'a ModelSpec,
    /// With the derived columns behind its own.
    contract: &'a Contract,
    derived: &'a [Derived],
    plan: Plan,
}

/// `contract` has the derived columns behind its own.
pub(super) fn plan(
    spec: &ModelSpec,
    contract: &Contract,
    derived: &[Derived],
    recipe: Recipe,
) -> Result<Plan, FeatureError> {
    let plan = Plan { steps: Vec::new(), notes: Vec::new() };
    let mut planner = Planner { spec, contract, derived, plan };
    let means = planner.target_means()?;
    planner.columns(recipe, &means)?;
    planner.times()?;
    planner.differences()?;
    planner.crosses(recipe, means)?;
    planner.statistics()?;
    planner.recency()?;
    planner.cyclic(recipe)?;
    planner.bags(recipe)?;
    planner.reduce()?;
    let Planner { mut plan, .. } = planner;
    let mut seen: Vec<Planned> = Vec::new();
    plan.steps.retain(|step| {
        let new = !seen.contains(step);
        if new {
            seen.push(step.clone());
        }
        new
    });
    match plan.steps.is_empty() {
        true => Err(declaration(spec, "no column is left to learn from; check features.columns and features.exclude")),
        false => Ok(plan),
    }
}

fn declaration(spec: &ModelSpec, what: impl std::fmt::Display) -> FeatureError {
    FeatureError::Declaration(format!("model \"{}\": {what}", spec.name))
}

/// Whether the last word of a column's name says that its numbers name things, as in `user_id`, `hotelId` or `zip`.
fn is_named_like_a_key(name: &str) -> bool {
    const WORDS: [&str; 7] = ["id", "key", "code", "zip", "zipcode", "postcode", "sku"];
    let last = name.rsplit(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).unwrap_or("");
    let is_word = WORDS.iter().any(|word| last.eq_ignore_ascii_case(word));
    is_word
        || ["Id", "ID", "Key", "Code"]
            .iter()
            .any(|tail| last.strip_suffix(tail).is_some_and(|head| head.ends_with(|c: char| c.is_lowercase())))
}

impl Planner<'_> {
    /// The columns taken for themselves, in the contract's order.
    fn columns(&mut self, recipe: Recipe, means: &[Vec<String>]) -> Result<(), FeatureError> {
        let features = &self.spec.features;
        for name in &features.columns {
            self.kind("features.columns", name)?;
        }
        for name in &features.numeric_categories {
            self.expect("features.numeric_categories", name, &[ColumnKind::Int])?;
        }
        let listed: HashSet<&str> = features.columns.iter().map(String::as_str).collect();
        let reserved: HashSet<&str> = self.spec.reserved_columns().chain(self.contract.key.as_deref()).collect();
        for column in &self.contract.columns {
            let name = column.name.as_str();
            let made = self.derived.iter().any(|derived| derived.name == name);
            let wanted = made || if listed.is_empty() { !reserved.contains(name) } else { listed.contains(name) };
            if !wanted || features.exclude.contains(&column.name) || self.is_taken_apart(name) {
                continue;
            }
            let named = features.numeric_categories.contains(&column.name);
            let kind = if named { ColumnKind::String } else { column.kind };
            let step = match (kind, recipe) {
                (ColumnKind::Timestamp, _) => continue,
                (ColumnKind::Int | ColumnKind::Float, _) | (ColumnKind::Bool, Recipe::Trees) => {
                    Planned::Number(NumberSource::Column(name.to_owned()))
                }
                (ColumnKind::Bool | ColumnKind::String, Recipe::Linear | Recipe::Network) => {
                    Planned::Slot(vec![name.to_owned()])
                }
                (ColumnKind::String, Recipe::Trees) => {
                    let named = means.iter().any(|columns| *columns == [name]);
                    let means = match (features.target_mean.is_empty(), named) {
                        (_, true) => Means::Always,
                        (_, false) if self.has_statistics(name) => Means::Declared,
                        (true, _) => Means::IfMany,
                        (false, _) => Means::Never,
                    };
                    Planned::Category { column: name.to_owned(), means }
                }
            };
            self.plan.steps.push(step);
            let declared = recipe == Recipe::Trees && !means.is_empty();
            let planned = declared || features.cross.iter().any(|columns| columns.contains(&column.name));
            let planned = planned || self.has_statistics(name);
            if kind == ColumnKind::Int && is_named_like_a_key(name) && !planned {
                self.plan.steps.push(Planned::Key(name.to_owned()));
            }
        }
        Ok(())
    }

    /// Puts one step in place of the numbers that are to be brought together.
    fn reduce(&mut self) -> Result<(), FeatureError> {
        let Some(reduce) = &self.spec.features.reduce else { return Ok(()) };
        for name in &reduce.columns {
            self.expect("features.reduce", name, &[ColumnKind::Int, ColumnKind::Float])?;
        }
        let is_number = |name: &str| {
            let kind = self.contract.column(name).map(|column| column.kind);
            matches!(kind, Some(ColumnKind::Int | ColumnKind::Float))
        };
        let wanted = |from: &NumberSource| match from {
            NumberSource::Column(name) if reduce.columns.is_empty() => is_number(name),
            NumberSource::Column(name) => reduce.columns.contains(name),
            NumberSource::Difference { .. } => reduce.columns.is_empty(),
        };
        let mut sources = Vec::new();
        self.plan.steps.retain(|step| match step {
            Planned::Number(from) if wanted(from) => {
                sources.push(from.clone());
                false
            }
            _ => true,
        });
        let missing = reduce.columns.iter().find(|name| !sources.contains(&NumberSource::Column((*name).clone())));
        if let Some(name) = missing {
            let what = format!(
                "features.reduce names column \"{name}\", which is not used as a number; use it, or take it out"
            );
            return Err(declaration(self.spec, what));
        }
        if sources.is_empty() {
            return Err(declaration(self.spec, "features.reduce finds no numeric column; leave it out"));
        }
        let (method, components) = (reduce.method, reduce.components as usize);
        self.plan.steps.push(Planned::Projection { method, sources, components });
        Ok(())
    }

    /// Parts of instants: those declared, or else hour and weekday in UTC of the time column and of each timestamp
    /// column in use.
    fn times(&mut self) -> Result<(), FeatureError> {
        let features = &self.spec.features;
        for declared in &features.time_parts {
            let role = "features.time_parts";
            self.expect(role, &declared.column, &[ColumnKind::Timestamp])?;
            self.zone(role, &declared.zone)?;
            let (column, zone, parts) = (declared.column.clone(), declared.zone.clone(), declared.parts.clone());
            self.plan.steps.push(Planned::Parts { column, zone, parts });
        }
        for column in &self.contract.columns {
            let name = &column.name;
            let own_time = self.spec.time.as_ref() == Some(name);
            let reserved = self.spec.reserved_columns().chain(self.contract.key.as_deref()).any(|r| r == name);
            let listed = features.columns.contains(name);
            let wanted = own_time || listed || (features.columns.is_empty() && !reserved);
            if column.kind != ColumnKind::Timestamp || !wanted || features.exclude.contains(name) {
                continue;
            }
            if features.time_parts.is_empty() {
                let (column, zone, parts) = (name.clone(), "UTC".to_owned(), DEFAULT_PARTS.to_vec());
                self.plan.steps.push(Planned::Parts { column, zone, parts });
            } else if !own_time
                && !features.time_parts.iter().any(|declared| declared.column == *name)
                && !features.cyclic.iter().any(|declared| declared.column == *name)
            {
                let note = format!("column \"{name}\" is an instant without features.time_parts; it is left out");
                self.plan.notes.push(note);
            }
        }
        Ok(())
    }

    fn differences(&mut self) -> Result<(), FeatureError> {
        for difference in &self.spec.features.difference {
            for name in [&difference.later, &difference.earlier] {
                self.expect("features.difference", name, &[ColumnKind::Timestamp])?;
            }
            let (later, earlier) = (difference.later.clone(), difference.earlier.clone());
            self.plan.steps.push(Planned::Number(NumberSource::Difference { later, earlier }));
        }
        Ok(())
    }

    fn crosses(&mut self, recipe: Recipe, means: Vec<Vec<String>>) -> Result<(), FeatureError> {
        let categories = [ColumnKind::String, ColumnKind::Int, ColumnKind::Bool];
        let crosses = self.spec.features.cross.clone();
        for cross in &crosses {
            if cross.len() < 2 {
                let what = format!("features.cross {cross:?} needs two columns at least");
                return Err(declaration(self.spec, what));
            }
            for name in cross {
                self.expect("features.cross", name, &categories)?;
            }
        }
        match recipe {
            Recipe::Linear | Recipe::Network => self.plan.steps.extend(crosses.into_iter().map(Planned::Slot)),
            Recipe::Trees => {
                // A single string column among the means was planned with the columns, if it is used at all.
                let planned = |columns: &[String]| {
                    self.plan.steps.iter().any(|step| match step {
                        Planned::Category { column, .. } | Planned::Key(column) => {
                            columns == std::slice::from_ref(column)
                        }
                        _ => false,
                    })
                };
                let rest: Vec<_> = crosses.into_iter().chain(means).filter(|columns| !planned(columns)).collect();
                self.plan.steps.extend(rest.into_iter().map(Planned::Means));
            }
        }
        Ok(())
    }

    /// The columns of each entry of `features.target_mean`.
    fn target_means(&self) -> Result<Vec<Vec<String>>, FeatureError> {
        let role = "features.target_mean";
        let categories = [ColumnKind::String, ColumnKind::Int, ColumnKind::Bool];
        let split = |entry: &String| {
            let columns: Vec<String> = match self.contract.column(entry) {
                Some(_) => vec![entry.clone()],
                None => entry.split('*').map(|name| name.trim().to_owned()).collect(),
            };
            columns.iter().try_for_each(|name| self.expect(role, name, &categories).map(|_| ()))?;
            Ok(columns)
        };
        self.spec.features.target_mean.iter().map(split).collect()
    }

    /// The kind of a column that may be an input.
    fn kind(&self, role: &str, name: &str) -> Result<ColumnKind, FeatureError> {
        let spec = self.spec;
        let Some(column) = self.contract.column(name) else {
            let hint = suggest::hint(name, self.contract.column_names());
            let contract = &self.contract.name;
            let what = format!("{role} names column \"{name}\", which contract \"{contract}\" does not declare{hint}");
            return Err(declaration(spec, what));
        };
        let never = [Some(&spec.target), spec.outcome_at.as_ref(), spec.key.as_ref(), spec.weight.as_ref()];
        if never.into_iter().flatten().any(|reserved| reserved == name) {
            let what = format!(
                "{role} names column \"{name}\", which is the target, the key, the weight or outcome_at; these are never inputs"
            );
            return Err(declaration(spec, what));
        }
        if spec.features.exclude.iter().any(|excluded| excluded == name) {
            let what = format!("{role} names column \"{name}\", which features.exclude rules out; take it out of one");
            return Err(declaration(spec, what));
        }
        Ok(column.kind)
    }

    fn expect(&self, role: &str, name: &str, kinds: &[ColumnKind]) -> Result<ColumnKind, FeatureError> {
        let kind = self.kind(role, name)?;
        if kinds.contains(&kind) {
            return Ok(kind);
        }
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let what =
            format!("{role} names column \"{name}\" of type {}; {} is expected", kind.name(), names.join(" or "));
        Err(declaration(self.spec, what))
    }
}
