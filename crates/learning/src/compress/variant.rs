//! A smaller version from a version: a student learns from it, what does little is removed, numbers take fewer bits. Each
//! step is done twice: to the version itself, which is what ships, and to its twin that has not seen the test rows, which
//! is what is measured.

use super::smaller::{self, Aid};
use crate::data;
use crate::error::LearnError;
use crate::start;
use crate::train::{Measured, Teacher, TrainRequest, train};
use arrow::record_batch::RecordBatch;
use features::Pipeline;
use inference::{Bundle, Manifest, Predictor, load_model, section};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use vocabulary::model::LearnerKind;
use vocabulary::{Digest, Inputs, ModelSpec};

/// Share of the teacher's word in what a student learns; the rest is what came true. A judgement, in the range that
/// Hinton et al. (2015) and later work use.
const TEACHER_SHARE: f64 = 0.7;

/// What is done to a version, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// A student of this kind learns from the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<LearnerKind>,
    /// This share of units, trees or weights is removed, those that do least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantize {
    /// Dense layers and tables in 8 bits; trees' thresholds by number, their leaves in 16 bits.
    Int8,
    /// As `Int8`, with tables in 4 bits and leaves in 8.
    Int4,
}

impl Steps {
    /// In words, such as `distill linear, prune 30 %, int8`.
    pub fn name(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.distill.map(|learner| format!("distill {}", learner.name())));
        words.extend(self.prune.map(|share| format!("prune {:.0} %", share * 100.0)));
        words.extend(self.quantize.map(|bits| match bits {
            Quantize::Int8 => "int8".to_owned(),
            Quantize::Int4 => "int4".to_owned(),
        }));
        words.join(", ")
    }
}

/// A version and what is needed to make others of it.
pub struct Ground<'a> {
    request: TrainRequest<'a>,
    manifest: Manifest,
    bundle: &'a Bundle,
    pub(super) whole: Measured,
    /// The same training without the test rows; none where the version itself has not seen them.
    twin: Option<Measured>,
    /// What teaches students: the twin's answers to all rows, or other versions'.
    teacher: Vec<f64>,
    /// Rows that choose what to remove and set ranges.
    validation: RecordBatch,
    validation_target: Vec<f64>,
    /// Rows that were not held out.
    train: Vec<u32>,
    target: Vec<f64>,
    pub(super) test: RecordBatch,
    pub(super) test_target: Vec<f64>,
    /// By their learners' names.
    students: RefCell<BTreeMap<&'static str, Beginning>>,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

/// What a variant is made from: the version, or a student of it.
struct Beginning {
    whole: Measured,
    twin: Option<Measured>,
    manifest: Manifest,
    bundle: Bundle,
    notes: Vec<String>,
}

/// A smaller version.
pub struct Variant {
    pub steps: Steps,
    pub bundle: Bundle,
    pub digest: Digest,
    pub manifest: Manifest,
    pub encoded: Vec<u8>,
    pub(super) whole: Measured,
    twin: Option<Measured>,
    pub notes: Vec<String>,
}

impl Variant {
    pub(super) fn measured(&self) -> &Measured {
        self.twin.as_ref().unwrap_or(&self.whole)
    }
}

impl<'a> Ground<'a> {
    /// Trains the version in `bundle` again by the request that it was trained by, to have its twin. `taught_by` are other
    /// versions' answers to the request's rows, row-major, where not the version itself is to teach.
    pub fn prepare(
        request: TrainRequest<'a>,
        bundle: &'a Bundle,
        taught_by: Option<Vec<f64>>,
    ) -> Result<Self, LearnError> {
        let manifest: Manifest = bundle.json(section::MANIFEST)?;
        if let Some(steps) = manifest.made_by.as_ref().filter(|made_by| !start::is_continued(made_by)) {
            return Err(LearnError::Compressed { model: manifest.model, steps: steps.clone() });
        }
        let trained = train(&TrainRequest { teacher: None, earlier: &[], parent: manifest.parent, ..request })?;
        let mut notes = Vec::new();
        if trained.bundle.section(section::MODEL)? != bundle.section(section::MODEL)? {
            notes.push(
                "the version could not be made again from its data and declaration; its loss is that of a version \
                 trained on what there is now"
                    .to_owned(),
            );
        }
        let target = features::target_values(request.spec, request.rows)?;
        let select = |rows: &[u32]| -> Result<(RecordBatch, Vec<f64>), LearnError> {
            Ok((data::select(request.rows, rows)?, rows.iter().map(|row| target[*row as usize]).collect()))
        };
        let (validation, validation_target) = select(&trained.held_out.validation)?;
        let held_out =
            if trained.held_out.test.is_empty() { &trained.held_out.validation } else { &trained.held_out.test };
        let (test, test_target) = select(held_out)?;
        let held = &trained.held_out;
        let out: std::collections::HashSet<u32> = held.validation.iter().chain(&held.test).copied().collect();
        let learned = |row: &u32| !out.contains(row) && !target[*row as usize].is_nan();
        let train = (0..target.len() as u32).filter(learned).collect();
        let whole = opened(bundle)?;
        let teacher = match taught_by {
            Some(answers) => answers,
            None => answers(trained.measured.as_ref().unwrap_or(&whole), request.rows)?,
        };
        let twin = trained.measured;
        Ok(Ground {
            request,
            manifest,
            bundle,
            whole,
            twin,
            teacher,
            validation,
            validation_target,
            train,
            target,
            test,
            test_target,
            students: RefCell::default(),
            notes,
        })
    }

    pub fn spec(&self) -> &ModelSpec {
        self.request.spec
    }

    /// Of the version's own training, in bytes.
    pub(super) fn bytes(&self) -> Result<u64, LearnError> {
        Ok(self.bundle.own().encode().len() as u64)
    }

    /// The version as it is measured: without the test rows.
    pub(super) fn measured(&self) -> &Measured {
        self.twin.as_ref().unwrap_or(&self.whole)
    }

    /// Makes the version that these steps give. Its metrics are filled in by [`Ground::measure`].
    pub fn make(&self, steps: &Steps) -> Result<Variant, LearnError> {
        let Beginning { mut whole, mut twin, mut manifest, bundle, notes } = match steps.distill {
            None => Beginning::of(&self.whole, self.twin.as_ref(), &self.manifest, self.bundle, &[])?,
            Some(learner) => self.student(learner)?,
        };
        for part in std::iter::once(&mut whole).chain(twin.as_mut()) {
            let pipeline = &part.pipeline;
            let learned = || self.learned(pipeline, steps.distill);
            let inputs = pipeline.transform(&self.validation)?;
            let (spec, target) = (self.request.spec, self.validation_target.as_slice());
            let aid = Aid { spec, inputs, target, train: &learned, seed: self.request.seed };
            if let Some(share) = steps.prune {
                part.predictor.model = smaller::prune(part.predictor.model.as_ref(), share, &aid)?;
            }
            if let Some(bits) = steps.quantize {
                part.predictor.model = smaller::quantize(part.predictor.model.as_ref(), bits, &aid)?;
            }
        }
        manifest.learner = whole.predictor.model.kind().to_owned();
        manifest.layout = whole.predictor.model.layout().clone();
        manifest.parent = Some(self.bundle.digest());
        manifest.made_by = Some(steps.name());
        manifest.averaged_with = Vec::new();
        manifest.metrics = self.metrics(twin.as_ref().unwrap_or(&whole))?;
        let bundle = bundle.own().with([
            Bundle::json_section(section::MANIFEST, &manifest)?,
            (section::PIPELINE.to_owned(), whole.pipeline.to_json()),
            (section::MODEL.to_owned(), whole.predictor.model.to_bytes()),
            Bundle::json_section(section::CALIBRATION, &whole.predictor.calibration)?,
        ])?;
        let encoded = bundle.encode();
        let digest = Digest::of(&encoded);
        Ok(Variant { steps: steps.clone(), bundle, digest, manifest, encoded, whole, twin, notes })
    }

    /// A student of the learner, which learns once however many variants are made of it.
    fn student(&self, learner: LearnerKind) -> Result<Beginning, LearnError> {
        let mut students = self.students.borrow_mut();
        if !students.contains_key(learner.name()) {
            let teacher = Some(Teacher { answers: &self.teacher, share: TEACHER_SHARE });
            let mut spec = self.request.spec.clone();
            smaller::student(&mut spec.learner, learner);
            let parts = TrainRequest { start: None, earlier: &[], checkpoints: None, ..self.request };
            let trained = train(&TrainRequest { spec: &spec, learner, teacher, ..parts })?;
            let student = Beginning {
                whole: opened(&trained.bundle)?,
                twin: trained.measured,
                manifest: trained.manifest,
                bundle: trained.bundle,
                notes: trained.notes,
            };
            students.insert(learner.name(), student);
        }
        let Beginning { whole, twin, manifest, bundle, notes } = &students[learner.name()];
        Beginning::of(whole, twin.as_ref(), manifest, bundle, notes)
    }

    /// The train rows by a pipeline, with their outcomes; for a student, mixed with what the teacher says of them.
    fn learned(&self, pipeline: &Pipeline, student: Option<LearnerKind>) -> Result<(Inputs, Vec<f64>), LearnError> {
        let target: Vec<f64> = self.train.iter().map(|row| self.target[*row as usize]).collect();
        let inputs =
            pipeline.transform_training(&data::select(self.request.rows, &self.train)?, &target, self.request.seed)?;
        // The place of a class cannot be mixed with a row of probabilities.
        if student.is_none() || self.spec().outputs() > 1 {
            return Ok((inputs, target));
        }
        let mixed = |row: &u32| {
            TEACHER_SHARE * self.teacher[*row as usize] + (1.0 - TEACHER_SHARE) * self.target[*row as usize]
        };
        Ok((inputs, self.train.iter().map(mixed).collect()))
    }
}

impl Beginning {
    fn of(
        whole: &Measured,
        twin: Option<&Measured>,
        manifest: &Manifest,
        bundle: &Bundle,
        notes: &[String],
    ) -> Result<Beginning, LearnError> {
        Ok(Beginning {
            whole: copied(whole)?,
            twin: twin.map(copied).transpose()?,
            manifest: manifest.clone(),
            bundle: bundle.clone(),
            notes: notes.to_vec(),
        })
    }
}

/// The answers of a part to rows, row-major.
pub(super) fn answers(part: &Measured, rows: &RecordBatch) -> Result<Vec<f64>, LearnError> {
    let mut out = Vec::new();
    part.predictor.predict(&part.pipeline.transform(rows)?, &mut out)?;
    Ok(out)
}

fn opened(bundle: &Bundle) -> Result<Measured, LearnError> {
    let predictor = Predictor::load(bundle)?;
    Ok(Measured { pipeline: bundle.json(section::PIPELINE)?, predictor })
}

fn copied(part: &Measured) -> Result<Measured, LearnError> {
    let model = &part.predictor.model;
    let model = load_model(model.kind(), &model.to_bytes(), model.layout())?;
    let predictor = Predictor { model, calibration: part.predictor.calibration.clone() };
    Ok(Measured { pipeline: part.pipeline.clone(), predictor })
}
