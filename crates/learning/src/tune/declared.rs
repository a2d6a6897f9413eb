//! From a model's declaration to the space that is searched, and from a point back to a declaration. A parameter is a key
//! of the declaration by its path, such as `learner.trees.leaves`; nothing here knows what a key means.

use super::error::TuneError;
use super::space::{Condition, Domain, Parameter, Point, Scale, Space};
use serde_json::{Map, Value, json};
use vocabulary::model::{LearnerKind, ParameterSpec};
use vocabulary::{Contract, ModelSpec};

/// The key whose value is the learner.
const KIND: &str = "learner.kind";

/// What is searched where the declaration says nothing else: ranges around the values that are common in the libraries'
/// own guides and in published searches of such learners (L. Grinsztajn et al., "Why do tree-based models still outperform
/// deep learning on typical tabular data?", NeurIPS 2022, appendix A; P. Probst et al., "Tunability", JMLR 2019). Rounds
/// and epochs are found by early stopping and not searched.
fn usual(kind: LearnerKind) -> Vec<(&'static str, Domain)> {
    let choices = |values: Value| match values {
        Value::Array(values) => Domain::Choice { values },
        _ => Domain::Choice { values: Vec::new() },
    };
    match kind {
        LearnerKind::Trees => vec![
            ("learner.trees.leaves", Domain::log_integer(7, 255)),
            ("learner.trees.learning_rate", Domain::log_real(0.015, 0.25)),
            ("learner.trees.min_rows", Domain::log_integer(2, 200)),
            ("learner.trees.column_share", Domain::real(0.3, 1.0)),
            ("learner.trees.row_share", Domain::real(0.5, 1.0)),
            ("learner.trees.l2", Domain::log_real(0.01, 100.0)),
        ],
        LearnerKind::Linear => vec![
            ("learner.linear.alpha", Domain::log_real(0.002, 1.0)),
            ("learner.linear.beta", Domain::log_real(0.1, 10.0)),
            ("learner.linear.l1", Domain::log_real(0.001, 20.0)),
            ("learner.linear.l2", Domain::log_real(0.001, 100.0)),
        ],
        LearnerKind::Network => vec![
            ("learner.network.hidden", choices(json!([[64], [128, 64], [256, 128], [256, 128, 64], [512, 256]]))),
            ("learner.network.learning_rate", Domain::log_real(1e-4, 0.02)),
            ("learner.network.embedding_rate", Domain::log_real(0.003, 0.5)),
            ("learner.network.batch_rows", choices(json!([128, 256, 512, 1024]))),
        ],
        LearnerKind::Auto => Vec::new(),
    }
}

/// The learners that a request asks for.
pub(super) fn kinds(learner: LearnerKind) -> &'static [LearnerKind] {
    match learner {
        LearnerKind::Auto => &[LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network],
        LearnerKind::Trees => &[LearnerKind::Trees],
        LearnerKind::Linear => &[LearnerKind::Linear],
        LearnerKind::Network => &[LearnerKind::Network],
    }
}

/// A declaration as a tree of values, and the space around it.
pub(super) struct Declared {
    whole: Value,
    kinds: Vec<LearnerKind>,
    pub space: Space,
    /// The declaration's own values, one point for each learner.
    pub first: Vec<Point>,
}

impl Declared {
    pub fn new(spec: &ModelSpec, contract: &Contract, learner: LearnerKind) -> Result<Declared, TuneError> {
        let whole = serde_json::to_value(spec).map_err(|error| TuneError::Space(error.to_string()))?;
        let kinds = kinds(learner).to_vec();
        let mut parameters = Vec::new();
        if kinds.len() > 1 {
            let values = kinds.iter().map(|kind| Value::from(kind.name())).collect();
            parameters.push(Parameter::always(KIND, Domain::Choice { values }));
        }
        for (place, kind) in kinds.iter().enumerate() {
            let when = (kinds.len() > 1).then_some(Condition { parameter: 0, value: place });
            for (name, domain) in searched(spec, *kind, &whole) {
                parameters.push(Parameter { name, domain, when: when.clone() });
            }
        }
        let mut declared = Declared { whole, kinds, space: Space { parameters }, first: Vec::new() };
        declared.first = (0..declared.kinds.len()).filter_map(|place| declared.own_point(place)).collect();
        declared.check(contract)?;
        Ok(declared)
    }

    /// The declared values with this learner; none where one of them is no value of its choice.
    fn own_point(&self, place: usize) -> Option<Point> {
        self.space.point(|name| match name {
            KIND => Some(self.kinds[place].name().into()),
            _ => at(&self.whole, name).cloned(),
        })
    }

    pub fn kinds(&self) -> &[LearnerKind] {
        &self.kinds
    }

    /// Makes sure that every key exists and takes the values of its domain, before hours are spent.
    fn check(&self, contract: &Contract) -> Result<(), TuneError> {
        if let Some(problem) = self.problem(&Map::new(), contract) {
            return Err(TuneError::Space(problem));
        }
        for parameter in &self.space.parameters {
            let ends = match &parameter.domain {
                Domain::Choice { values } => values.clone(),
                Domain::Real { low, high, .. } => vec![(*low).into(), (*high).into()],
                Domain::Integer { low, high, .. } => vec![(*low).into(), (*high).into()],
            };
            for end in ends {
                let values = Map::from_iter([(parameter.name.clone(), end.clone())]);
                if let Some(problem) = self.problem(&values, contract) {
                    return Err(TuneError::Key { key: parameter.name.clone(), value: end.to_string(), problem });
                }
            }
        }
        Ok(())
    }

    fn problem(&self, values: &Map<String, Value>, contract: &Contract) -> Option<String> {
        match self.patched(values) {
            Ok(spec) => spec.problems(contract).first().map(|problem| problem.what.clone()),
            Err(problem) => Some(problem),
        }
    }

    /// The declaration with the point's values.
    pub fn spec(&self, point: &Point) -> Result<ModelSpec, TuneError> {
        self.with(&self.space.json(point))
    }

    /// The declaration with these values by their keys.
    pub fn with(&self, values: &Map<String, Value>) -> Result<ModelSpec, TuneError> {
        self.patched(values).map_err(TuneError::Space)
    }

    /// Which learner the point is of.
    pub fn kind(&self, point: &Point) -> LearnerKind {
        match (self.kinds.len(), point.0.first()) {
            (2.., Some(Some(place))) => self.kinds[*place as usize],
            _ => self.kinds[0],
        }
    }

    fn patched(&self, values: &Map<String, Value>) -> Result<ModelSpec, String> {
        let mut whole = self.whole.clone();
        if let [kind] = self.kinds[..] {
            put(&mut whole, KIND, kind.name().into());
        }
        for (key, value) in values {
            put(&mut whole, key, value.clone());
        }
        serde_json::from_value(whole).map_err(|error| vocabulary::suggest::explained(&error.to_string()))
    }
}

/// The parameters of one learner: the usual ones, each replaced by what `[tuning.space]` says of it, and those that only
/// it names. A usual range is widened to hold the declared value.
fn searched(spec: &ModelSpec, kind: LearnerKind, whole: &Value) -> Vec<(String, Domain)> {
    let own = &spec.tuning.space;
    let mut all: Vec<(String, Domain)> = usual(kind)
        .into_iter()
        .filter(|(name, _)| !own.contains_key(*name))
        .map(|(name, domain)| (name.to_owned(), at(whole, name).map_or(domain.clone(), |value| widened(domain, value))))
        .collect();
    let prefix = format!("learner.{}.", kind.name());
    let named = own.iter().filter(|(name, _)| name.starts_with(&prefix));
    all.extend(named.map(|(name, parameter)| (name.clone(), domain_of(parameter))));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// `ModelSpec::problems` has checked the ranges.
fn domain_of(parameter: &ParameterSpec) -> Domain {
    let scale = if parameter.log { Scale::Log } else { Scale::Linear };
    match (parameter.low, parameter.high) {
        (Some(low), Some(high)) if parameter.integer => Domain::Integer { low: low as i64, high: high as i64, scale },
        (Some(low), Some(high)) => Domain::Real { low, high, scale },
        _ => Domain::Choice { values: parameter.values.iter().map(|value| json!(value)).collect() },
    }
}

fn widened(domain: Domain, value: &Value) -> Domain {
    let holds = |value: f64, scale: Scale| value > 0.0 || scale == Scale::Linear;
    match (domain, value.as_f64()) {
        (Domain::Real { low, high, scale }, Some(value)) if holds(value, scale) => {
            Domain::Real { low: low.min(value), high: high.max(value), scale }
        }
        (Domain::Integer { low, high, scale }, Some(value)) if holds(value, scale) => {
            Domain::Integer { low: low.min(value as i64), high: high.max(value as i64), scale }
        }
        (Domain::Choice { mut values }, _) => {
            if !values.contains(value) {
                values.insert(0, value.clone());
            }
            Domain::Choice { values }
        }
        (domain, _) => domain,
    }
}

fn at<'a>(whole: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(whole, |value, key| value.get(key))
}

/// Puts `value` at the path; parts of it that are missing are made.
fn put(whole: &mut Value, path: &str, value: Value) {
    let mut place = whole;
    for key in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[key];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{contract, spec};
    use vocabulary::Task;
    use vocabulary::model::{TuningSpec, TuningValue};

    fn with_space(json: &str) -> ModelSpec {
        let tuning: TuningSpec = serde_json::from_str(&format!("{{\"space\": {json}}}")).unwrap();
        ModelSpec { tuning, ..spec(Task::Binary) }
    }

    #[test]
    fn a_point_becomes_a_declaration_with_its_learner() {
        let declared = Declared::new(&spec(Task::Binary), &contract(), LearnerKind::Auto).unwrap();
        assert_eq!(declared.first.len(), 3);
        for (point, kind) in declared.first.iter().zip(kinds(LearnerKind::Auto)) {
            assert_eq!(declared.kind(point), *kind);
            let mut expected = spec(Task::Binary);
            expected.learner.kind = *kind;
            assert_eq!(declared.spec(point).unwrap(), expected, "the declared values are the first points");
        }
        let mut point = declared.first[0].clone();
        let leaves = declared.space.parameters.iter().position(|one| one.name == "learner.trees.leaves").unwrap();
        point.0[leaves] = Some(100.0);
        assert_eq!(declared.spec(&point).unwrap().learner.trees.leaves, 100);
    }

    #[test]
    fn the_declaration_replaces_adds_and_fixes() {
        let spec = with_space(
            r#"{"learner.trees.leaves": {"low": 3, "high": 9, "integer": true}, "learner.trees.l2": {"values": [0.25]},
                "learner.trees.patience": {"values": [10, 20]}, "learner.linear.epochs": {"low": 1, "high": 4, "integer": true}}"#,
        );
        let trees = Declared::new(&spec, &contract(), LearnerKind::Trees).unwrap();
        let domain = |name: &str| &trees.space.parameters.iter().find(|one| one.name == name).unwrap().domain;
        assert_eq!(*domain("learner.trees.leaves"), Domain::integer(3, 9));
        assert_eq!(*domain("learner.trees.l2"), Domain::Choice { values: vec![json!(0.25)] });
        assert_eq!(trees.space.parameters.len(), 7, "patience comes on top, the other learner's key is none of its");
        assert_eq!(trees.first, [], "l2 = 0.5 is no value of its choice");
    }

    #[test]
    fn keys_and_values_that_do_not_exist_are_said_before_the_search() {
        for (json, expected) in [
            (r#"{"learner.trees.leafs": {"values": [1]}}"#, "did you mean \"leaves\"?"),
            (r#"{"learner.trees.leaves": {"values": [31, "many"]}}"#, "\"many\""),
            (r#"{"learner.trees.leaves": {"low": 2.5, "high": 8}}"#, "learner.trees.leaves"),
            (r#"{"learner.trees.row_share": {"low": 0.5, "high": 2}}"#, "outside 0.01 to 1"),
        ] {
            let error = match Declared::new(&with_space(json), &contract(), LearnerKind::Trees) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{json} should have been refused"),
            };
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn usual_ranges_hold_the_declared_value() {
        let mut spec = spec(Task::Binary);
        spec.learner.trees.leaves = 400;
        spec.learner.network.hidden = vec![7];
        let declared = Declared::new(&spec, &contract(), LearnerKind::Auto).unwrap();
        assert_eq!(declared.spec(&declared.first[0]).unwrap().learner.trees.leaves, 400);
        assert_eq!(declared.spec(&declared.first[2]).unwrap().learner.network.hidden, [7]);
        assert_eq!(json!(TuningValue::List(vec![TuningValue::Integer(7)])), json!([7]));
    }
}
