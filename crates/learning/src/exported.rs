//! Trained versions as ONNX files, from raw columns to answers, on the real ONNX Runtime.

use crate::testing::{contract, departures, spec};
use crate::{TrainRequest, train};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use features::Pipeline;
use inference::export::{Export, ExportedInput, InputForm, Member, Missing, Source, export_onnx};
use inference::{Bundle, Data, OnnxOptions, OnnxRuntimeModel, Predictor, Tensor, TensorModel, open_library, section};
use vocabulary::Inputs;
use vocabulary::contract::{ColumnKind, Contract};
use vocabulary::model::{
    CountForm, CountSpec, CyclicSpec, Difference, ExpressionSpec, LearnerKind, LetterCase, ModelSpec, ReduceMethod,
    ReduceSpec, TargetStatistics, Task, TextSpec, TimePart,
};

/// Whether ONNX Runtime is installed; a test without it is skipped by its name, or fails where services are required.
fn library(test: &str) -> bool {
    match open_library(None) {
        Ok(_) => true,
        Err(error) if std::env::var_os("HOMEOSTAT_REQUIRE_SERVICES").is_some_and(|value| value == "1") => {
            panic!("{test}: {error}")
        }
        Err(error) => {
            eprintln!("skipped: {test}: {error}");
            false
        }
    }
}

/// Departures, and the same with other names and types in places: unseen carriers, nulls, and numbers far out.
fn asked() -> RecordBatch {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;
    let rows = departures(300);
    let texts = rows["carrier"].as_string::<i32>();
    let carrier = (0..300).map(|row| match row % 10 {
        3 => None,
        6 => Some("never seen"),
        _ => Some(texts.value(row)),
    });
    let winds = [f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, -0.0, 1e-320, 1e9];
    let known = rows["wind"].as_primitive::<Float64Type>();
    let wind = (0..300).map(|row| match row % 5 {
        1 => None,
        2 => Some(winds[row % 7]),
        _ => known.is_valid(row).then(|| known.value(row)),
    });
    let hours = rows["hour"].as_primitive::<Int64Type>();
    let hour = (0..300).map(|row| match row % 9 {
        4 => None,
        5 => Some(-7),
        _ => Some(hours.value(row)),
    });
    let changed: [(&str, ArrayRef); 3] = [
        ("carrier", Arc::new(carrier.collect::<StringArray>())),
        ("wind", Arc::new(wind.collect::<Float64Array>())),
        ("hour", Arc::new(hour.collect::<Int64Array>())),
    ];
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| {
        let new = changed.iter().find(|(name, _)| name == field.name());
        new.map_or_else(|| Arc::clone(column), |(_, new)| Arc::clone(new))
    });
    let odd = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    concat_batches(&schema, [&rows, &odd]).unwrap()
}

/// What a person would hand to the file.
fn tensor(input: &ExportedInput, rows: &RecordBatch, made: &Inputs, pipeline: &Pipeline) -> Tensor {
    let count = rows.num_rows();
    let data = match input.source {
        Source::Model => panic!("only the pipeline's form is asked for"),
        Source::Derived if rows.column_by_name(&input.name).is_none() => derived(input, rows, made, pipeline),
        Source::Column | Source::Derived => {
            let column = &rows[input.name.as_str()];
            let valid = |row: usize| column.is_valid(row);
            match (&input.missing, column.data_type()) {
                (Missing::Text(null), _) => {
                    let texts = column.as_string::<i32>();
                    let text = |row| if valid(row) { texts.value(row) } else { null };
                    Data::Bytes((0..count).map(|row| text(row).as_bytes().to_vec()).collect())
                }
                (Missing::Int(null), arrow::datatypes::DataType::Int64) => {
                    let values = column.as_primitive::<Int64Type>();
                    Data::Int64((0..count).map(|row| if valid(row) { values.value(row) } else { *null }).collect())
                }
                (Missing::Int(null), _) => {
                    let values = column.as_primitive::<TimestampMicrosecondType>();
                    Data::Int64((0..count).map(|row| if valid(row) { values.value(row) } else { *null }).collect())
                }
                (_, arrow::datatypes::DataType::Int64) => {
                    let values = column.as_primitive::<Int64Type>();
                    let number = |row| if valid(row) { values.value(row) as f64 } else { f64::NAN };
                    Data::Fp64((0..count).map(number).collect())
                }
                _ => {
                    let values = column.as_primitive::<Float64Type>();
                    let number = |row| if valid(row) { values.value(row) } else { f64::NAN };
                    Data::Fp64((0..count).map(number).collect())
                }
            }
        }
    };
    Tensor::new(input.name.clone(), vec![count, input.width], data)
}

/// The rows with the columns that the declaration makes by expressions behind them.
fn with_expressions(rows: &RecordBatch, spec: &ModelSpec, contract: &Contract) -> RecordBatch {
    let mut columns: Vec<_> =
        rows.schema().fields().iter().map(|field| field.name().clone()).zip(rows.columns().to_vec()).collect();
    for declared in &spec.features.expression {
        columns.push((declared.name.clone(), features::column_of(&declared.sql, contract, rows).unwrap()));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

/// Parts of the instant by hand, and slots from the pipeline itself.
fn derived(input: &ExportedInput, rows: &RecordBatch, made: &Inputs, pipeline: &Pipeline) -> Data {
    if let Some(slot) = input.name.strip_suffix(":slot") {
        let place = pipeline.layout().slots.iter().position(|name| name == slot).unwrap();
        return Data::Int64((0..made.rows).map(|row| i64::from(made.slot_row(row)[place])).collect());
    }
    if let Some(bag) = input.name.strip_suffix(":dense") {
        let first = pipeline.layout().dense.iter().position(|column| column.name == format!("{bag}:0")).unwrap();
        return Data::Fp32(
            (0..made.rows).flat_map(|row| made.dense_row(row)[first..][..input.width].to_vec()).collect(),
        );
    }
    let micros = rows["at"].as_primitive::<TimestampMicrosecondType>();
    let hours = |row| micros.value(row).div_euclid(3_600_000_000);
    let part = |row| match input.name.as_str() {
        "at:hour" => hours(row) % 24,
        // The first of January 1970 was a Thursday.
        "at:weekday" => (hours(row) / 24 + 3) % 7,
        other => panic!("{other} was not expected"),
    };
    Data::Fp64((0..rows.num_rows()).map(|row| part(row) as f64).collect())
}

struct Case {
    name: String,
    spec: ModelSpec,
    contract: Contract,
    learner: LearnerKind,
}

impl Case {
    fn new(task: Task, learner: LearnerKind) -> Case {
        Case { name: format!("{learner:?} {task:?}"), spec: spec(task), contract: contract(), learner }
    }

    fn named(mut self, what: &str) -> Case {
        self.name = format!("{} {what}", self.name);
        self
    }

    fn bundle(&self) -> Bundle {
        let request = TrainRequest {
            spec: &self.spec,
            contract: &self.contract,
            rows: &departures(3000),
            learner: self.learner,
            seed: 42,
            threads: 1,
            parent: None,
            earlier: &[],
            start: None,
            teacher: None,
            program: "0.0.0",
            progress: &|_| {},
            checkpoints: None,
        };
        train(&request).unwrap().bundle
    }

    /// Trains, exports and compares; gives the names of the inputs that have to be worked out.
    fn check(&self) -> Vec<String> {
        let bundle = self.bundle();
        let pipeline = Pipeline::from_json(bundle.section(section::PIPELINE).unwrap()).unwrap();
        let predictor = Predictor::load(&bundle).unwrap();
        let steps = pipeline.tensor_steps(&self.contract);
        let members = [Member { predictor: &predictor, inputs: InputForm::Pipeline(&steps) }];
        let task = self.spec.task;
        let export = Export { model: "arrival", version: "0", task, target: "late", classes: &[], members: &members };
        let exported = export_onnx(&export).unwrap();
        let model = OnnxRuntimeModel::open(&exported.bytes, &OnnxOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let rows = self.rows();
        let made = pipeline.transform(&rows).unwrap();
        let wide = with_expressions(&rows, &self.spec, &self.contract);
        let given: Vec<Tensor> = exported.inputs.iter().map(|input| tensor(input, &wide, &made, &pipeline)).collect();
        let answers = model.run(&given, &[0]).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let Data::Fp64(found) = &answers[0].data else { panic!("answers are doubles") };
        let mut wanted = Vec::new();
        predictor.predict(&made, &mut wanted).unwrap();
        assert_eq!(found.len(), wanted.len());
        let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
        let off = off.fold(0.0, |most: f64, off| if off > most || off.is_nan() { off } else { most });
        println!("{}: {off:e}, calibration {}", self.name, predictor.calibration.name());
        assert!(off <= 1e-6, "{}: {off:e}", self.name);
        exported.inputs.iter().filter(|input| input.source == Source::Derived).map(|i| i.name.clone()).collect()
    }

    fn rows(&self) -> RecordBatch {
        let rows = asked();
        let closed = self.contract.column("carrier").is_some_and(|column| column.closed);
        if closed { rows.slice(0, 300) } else { rows }
    }
}

const TASKS: [Task; 3] = [Task::Binary, Task::Regression, Task::Multiclass];

#[test]
fn trees_from_raw_columns() {
    if !library("trees_from_raw_columns") {
        return;
    }
    for task in TASKS {
        let mut case = Case::new(task, LearnerKind::Trees);
        assert_eq!(case.check(), ["at:hour", "at:weekday"]);
        case = case.named("with means and crosses");
        case.spec.features.time_parts = Vec::new();
        if task != Task::Multiclass {
            case.spec.features.cross = vec![vec!["carrier".to_owned(), "hour".to_owned()]];
            case.spec.features.target_mean = vec!["carrier".to_owned()];
        }
        case.check();
        for method in [ReduceMethod::Pca, ReduceMethod::RandomProjection] {
            let mut case = Case::new(task, LearnerKind::Trees).named(&format!("{method:?}"));
            case.spec.features.reduce = Some(ReduceSpec { method, columns: Vec::new(), components: 2 });
            case.check();
        }
    }
}

#[test]
fn linear_models_from_raw_columns() {
    if !library("linear_models_from_raw_columns") {
        return;
    }
    for task in TASKS {
        let mut case = Case::new(task, LearnerKind::Linear);
        let derived = case.check();
        // The carrier is what several classes are to be told by.
        let wanted: &[&str] = if task == Task::Multiclass { &[] } else { &["carrier:slot"] };
        assert_eq!(derived, [wanted, &["at:hour", "at:weekday"]].concat());
        case = case.named("closed");
        let carrier = case.contract.columns.iter_mut().find(|column| column.name == "carrier").unwrap();
        assert_eq!(carrier.kind, ColumnKind::String);
        carrier.closed = true;
        carrier.categories = Some(["AA", "B6", "DL", "EV", "UA"].map(str::to_owned).to_vec());
        assert_eq!(case.check(), ["at:hour", "at:weekday"], "a closed column's slots can be listed");
    }
}

#[test]
fn networks_from_raw_columns() {
    if !library("networks_from_raw_columns") {
        return;
    }
    for task in TASKS {
        let mut case = Case::new(task, LearnerKind::Network);
        case.spec.learner.network.epochs = 3;
        assert_eq!(case.check(), ["at:hour", "at:weekday"]);
        let mut case = case.named("with crosses");
        case.spec.learner.network.cross_layers = 1;
        case.spec.learner.network.numeric = vocabulary::model::NumericEncoding::Periodic;
        if task != Task::Multiclass {
            case.spec.features.cross = vec![vec!["carrier".to_owned(), "hour".to_owned()]];
        }
        case.spec.features.numeric_categories = vec!["hour".to_owned()];
        case.check();
    }
}

#[test]
fn encodings_are_made_inside_as_far_as_tensors_can() {
    if !library("encodings_are_made_inside_as_far_as_tensors_can") {
        return;
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expression = |name: &str, sql: &str| ExpressionSpec { name: name.to_owned(), sql: sql.to_owned() };
    // Several classes are to be told by the carrier, which is then no input.
    for task in [Task::Binary, Task::Regression] {
        for learner in [LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network] {
            let mut case = Case::new(task, learner).named("with encodings");
            case.spec.learner.network.epochs = 2;
            let features = &mut case.spec.features;
            features.time_parts = Vec::new();
            features.expression = vec![
                expression("blow", "COALESCE(wind, 0.0) * 2 - hour"),
                expression("first", "UPPER(SUBSTR(carrier, 1, 1))"),
            ];
            features.target_statistics =
                vec![TargetStatistics { columns: names(&["carrier", "hour"]), smoothing: 5.0, min_rows: 2 }];
            features.counts = vec![CountSpec {
                columns: names(&["first"]),
                gives: vec![CountForm::Log, CountForm::Share],
                min_rows: 1,
            }];
            let parts = vec![TimePart::Hour];
            features.cyclic = vec![CyclicSpec { column: "at".to_owned(), zone: "UTC".to_owned(), parts }];
            features.text = vec![TextSpec {
                column: "carrier".to_owned(),
                slots: 4,
                words: vec![1],
                characters: vec![2],
                scale: None,
                case: LetterCase::Keep,
            }];
            let derived = case.check();
            for wanted in ["blow", "first", "at:hour", "carrier:text:dense"] {
                assert!(derived.iter().any(|name| name == wanted), "{}: {wanted} of {derived:?}", case.name);
            }
        }
    }
}

#[test]
fn differences_of_instants_are_made_inside() {
    if !library("differences_of_instants_are_made_inside") {
        return;
    }
    let mut case = Case::new(Task::Binary, LearnerKind::Trees);
    case.spec.features.difference = vec![Difference { later: "at".to_owned(), earlier: "at".to_owned() }];
    case.check();
}
