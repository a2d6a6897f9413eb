//! Planning of derived columns, statistics, circles and bags: what is declared is checked against the columns there are.

use super::super::Recipe;
use super::super::bag::Content;
use super::super::calendar;
use super::super::derived::{Derivation, Derived};
use super::{Planned, PlannedGives, Planner, declaration};
use crate::FeatureError;
use crate::expression;
use chrono_tz::{TZ_VARIANTS, Tz};
use vocabulary::contract::{Column, ColumnKind, Contract};
use vocabulary::model::{ListForm, ModelSpec, TextScale, TimePart};
use vocabulary::suggest;

/// Kinds of columns whose values can be a key.
const KEYS: [ColumnKind; 3] = [ColumnKind::String, ColumnKind::Int, ColumnKind::Bool];

/// The columns that the declaration makes, in its order.
pub(in crate::pipeline) fn derived(spec: &ModelSpec, contract: &Contract) -> Result<Vec<Derived>, FeatureError> {
    let features = &spec.features;
    if let Some(problem) = features.problems().first() {
        return Err(declaration(spec, problem));
    }
    let never = [Some(&spec.target), spec.outcome_at.as_ref(), spec.key.as_ref(), spec.weight.as_ref()];
    let never = |name: &str| never.iter().flatten().any(|reserved| *reserved == name);
    let scope = contract.columns.iter().filter(|column| !never(&column.name));
    let scope: Vec<(&str, ColumnKind)> = scope.map(|column| (column.name.as_str(), column.kind)).collect();
    let expect = |role: &str, name: &String, kinds: &[ColumnKind]| {
        let found = scope.iter().find(|(known, _)| known == name);
        match found {
            Some((_, kind)) if kinds.contains(kind) => Ok(()),
            Some((_, kind)) => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                let (found, wanted) = (kind.name(), names.join(" or "));
                Err(declaration(spec, format!("{role} names column \"{name}\" of type {found}; {wanted} is expected")))
            }
            None => {
                let hint = suggest::hint(name, scope.iter().map(|(name, _)| *name));
                Err(declaration(spec, format!("{role} names column \"{name}\", which is no input{hint}")))
            }
        }
    };
    let mut made = Vec::new();
    for declared in &features.expression {
        let (expression, kind) = expression::parse(&declared.sql, &scope)
            .map_err(|error| declaration(spec, format!("features.expression \"{}\": {error}", declared.name)))?;
        made.push(Derived { name: declared.name.clone(), kind, from: Derivation::Expression(expression) });
    }
    for distance in &features.distance {
        let [[from_lat, from_lon], [to_lat, to_lon]] = [distance.from.clone(), distance.to.clone()];
        let columns = [from_lat, from_lon, to_lat, to_lon];
        for name in &columns {
            expect("features.distance", name, &[ColumnKind::Int, ColumnKind::Float])?;
        }
        let (name, kind) = (distance.name.clone(), ColumnKind::Float);
        made.push(Derived { name, kind, from: Derivation::Distance(columns) });
    }
    for list in &features.lists {
        expect("features.lists", &list.column, &[ColumnKind::String])?;
        for gives in list.gives.iter().filter(|gives| **gives != ListForm::Items) {
            let kind = if *gives == ListForm::Count { ColumnKind::Int } else { ColumnKind::Float };
            let (column, separator) = (list.column.clone(), list.separator.clone());
            let from = Derivation::ListFigure { column, separator, gives: *gives };
            made.push(Derived { name: format!("{}:{}", list.column, gives.name()), kind, from });
        }
    }
    match made.iter().find(|derived| contract.column(&derived.name).is_some()) {
        Some(derived) => {
            let what = format!("features make a column \"{}\", which the contract declares too", derived.name);
            Err(declaration(spec, what + "; give it another name"))
        }
        None => Ok(made),
    }
}

/// The contract with the derived columns behind its own.
pub(in crate::pipeline) fn widened(contract: &Contract, derived: &[Derived]) -> Contract {
    let mut wide = contract.clone();
    wide.columns.extend(derived.iter().map(|derived| Column::new(&derived.name, derived.kind)));
    wide
}

impl Planner<'_> {
    pub(super) fn statistics(&mut self) -> Result<(), FeatureError> {
        let features = &self.spec.features;
        let targets = features.target_statistics.iter().map(|declared| {
            let gives = PlannedGives::Target { smoothing: declared.smoothing };
            ("features.target_statistics", &declared.columns, gives, declared.min_rows)
        });
        let counts = features.counts.iter().map(|declared| {
            let gives = PlannedGives::Counts(declared.gives.clone());
            ("features.counts", &declared.columns, gives, declared.min_rows)
        });
        for (role, columns, gives, min_rows) in targets.chain(counts) {
            for name in columns {
                self.expect(role, name, &KEYS)?;
            }
            self.plan.steps.push(Planned::Statistics { columns: columns.clone(), gives, min_rows });
        }
        Ok(())
    }

    pub(super) fn recency(&mut self) -> Result<(), FeatureError> {
        for declared in &self.spec.features.recency {
            for name in &declared.columns {
                self.expect("features.recency", name, &KEYS)?;
            }
            if self.spec.time.is_none() {
                let what = "features.recency needs the instant of a row: set time to the model's time column";
                return Err(declaration(self.spec, what));
            }
            self.plan.steps.push(Planned::Recency(declared.clone()));
        }
        Ok(())
    }

    pub(super) fn cyclic(&mut self, recipe: Recipe) -> Result<(), FeatureError> {
        let role = "features.cyclic";
        for declared in &self.spec.features.cyclic {
            self.expect(role, &declared.column, &[ColumnKind::Timestamp])?;
            self.zone(role, &declared.zone)?;
            // A network has the circles of some declared parts already.
            let there = |part: &TimePart| {
                self.plan.steps.iter().any(|step| match step {
                    Planned::Parts { column, zone, parts } => {
                        (column, zone) == (&declared.column, &declared.zone) && parts.contains(part)
                    }
                    _ => false,
                })
            };
            let given = |part: &TimePart| recipe == Recipe::Network && calendar::comes_round(*part) && there(part);
            let parts: Vec<_> = declared.parts.iter().filter(|part| !given(part)).copied().collect();
            if !parts.is_empty() {
                let (column, zone) = (declared.column.clone(), declared.zone.clone());
                self.plan.steps.push(Planned::Cyclic { column, zone, parts });
            }
        }
        Ok(())
    }

    pub(super) fn bags(&mut self, recipe: Recipe) -> Result<(), FeatureError> {
        for declared in &self.spec.features.text {
            self.expect("features.text", &declared.column, &[ColumnKind::String])?;
            let usual = if recipe == Recipe::Trees { TextScale::Count } else { TextScale::Unit };
            let (words, characters) = (declared.words.clone(), declared.characters.clone());
            self.plan.steps.push(Planned::Bag {
                column: declared.column.clone(),
                content: Content::Text { words, characters, case: declared.case },
                scale: declared.scale.unwrap_or(usual),
                slots: declared.slots,
            });
        }
        for declared in self.spec.features.lists.iter().filter(|list| list.gives.contains(&ListForm::Items)) {
            self.plan.steps.push(Planned::Bag {
                column: declared.column.clone(),
                content: Content::Items { separator: declared.separator.clone() },
                scale: TextScale::Presence,
                slots: declared.slots,
            });
        }
        Ok(())
    }

    /// Whether a column's own text is taken apart, so that it is no category by itself.
    pub(super) fn is_taken_apart(&self, name: &str) -> bool {
        let features = &self.spec.features;
        let mut taken =
            features.text.iter().map(|text| &text.column).chain(features.lists.iter().map(|list| &list.column));
        taken.any(|column| column == name) && !features.columns.iter().any(|column| column == name)
    }

    /// Whether a single column's categories have target statistics by declaration.
    pub(super) fn has_statistics(&self, name: &str) -> bool {
        self.spec.features.target_statistics.iter().any(|declared| declared.columns == [name])
    }

    pub(super) fn zone(&self, role: &str, zone: &str) -> Result<(), FeatureError> {
        if zone.parse::<Tz>().is_ok() {
            return Ok(());
        }
        let hint = suggest::hint(zone, TZ_VARIANTS.iter().map(|zone| zone.name()));
        Err(declaration(self.spec, format!("{role}: \"{zone}\" is not in the time-zone database{hint}")))
    }
}
