//! Gradient-boosted trees: a thin wrapper around hessboost, so that it can be replaced.

use crate::model::{Contributions, Link, Model, ModelError, check_inputs};
use hessboost::model::{BoostedModel, ModelFormat};
use vocabulary::inputs::{Inputs, Layout};

const MAGIC: &[u8; 8] = b"HSTREES1";

/// Up to this many rows are walked one by one on the calling thread, which neither allocates nor wakes another thread;
/// more go through hessboost's blocks of 256 rows. Both sum the same leaves in the same order, and at 16 rows of 30
/// columns through 150 trees both take some 30 µs (measured on two cores).
const SINGLE_ROWS_MAX: usize = 16;

pub struct TreesModel {
    booster: BoostedModel,
    link: Link,
    layout: Layout,
    /// The form on disk; kept, so that a loaded model gives back the bytes it came from.
    bytes: Vec<u8>,
}

impl TreesModel {
    pub const KIND: &'static str = "trees";

    /// Wraps a single-output model; all of its rounds are used. The score is `link` of the sum of the leaves.
    pub fn new(booster: BoostedModel, link: Link, layout: Layout) -> Result<Self, ModelError> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(link.code());
        bytes.extend(booster.encode(ModelFormat::Binary)?);
        Self::assemble(booster, link, layout, bytes)
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        let damaged = |what: &str| ModelError::Damaged { kind: Self::KIND, what: what.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("they do not begin with HSTREES1"))?;
        let (link, rest) = rest.split_first().ok_or_else(|| damaged("they end after the first word"))?;
        let link = Link::from_code(*link).ok_or_else(|| damaged("the link is unknown"))?;
        let booster = BoostedModel::decode(rest, ModelFormat::Binary)?;
        Self::assemble(booster, link, layout.clone(), bytes.to_vec())
    }

    fn assemble(booster: BoostedModel, link: Link, layout: Layout, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let wrong = |what: String| Err(ModelError::Parts { kind: Self::KIND, what });
        if booster.n_outputs() != 1 {
            return wrong(format!("{} outputs, where one is expected", booster.n_outputs()));
        }
        if booster.n_features() != layout.dense.len() || !layout.slots.is_empty() {
            return wrong(format!(
                "the trees read {} columns, the layout has {} and {} slots",
                booster.n_features(),
                layout.dense.len(),
                layout.slots.len()
            ));
        }
        // The first row lays the trees out for walking; done here, so that no request pays for it.
        booster.predict_margin_row(&vec![f32::NAN; layout.dense.len()], ..)?;
        Ok(TreesModel { booster, link, layout, bytes })
    }

    pub fn link(&self) -> Link {
        self.link
    }

    /// The ensemble itself: for importance, contributions and continued training.
    pub fn booster(&self) -> &BoostedModel {
        &self.booster
    }
}

impl Model for TreesModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        if let Some(at) = inputs.dense.iter().position(|value| value.is_infinite()) {
            let (row, column) = (at / inputs.dense_width, &self.layout.dense[at % inputs.dense_width].name);
            let what = format!("column \"{column}\" is infinite in row {row}");
            return Err(ModelError::Inputs { kind: Self::KIND, what });
        }
        out.clear();
        out.reserve(inputs.rows);
        if inputs.rows <= SINGLE_ROWS_MAX {
            for row in 0..inputs.rows {
                let sum = self.booster.predict_margin_row(inputs.dense_row(row), ..)?;
                out.push(self.link.apply(f64::from(sum)));
            }
        } else {
            let sums = self.booster.predict_margin_rows(&inputs.dense, ..)?;
            out.extend(sums.as_slice().iter().map(|&sum| self.link.apply(f64::from(sum))));
        }
        Ok(())
    }

    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        todo!()
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_model;
    use hessboost::config::TrainingParams;
    use hessboost::data::{DMatrix, FeatureType};
    use hessboost::objective::{Objective, RegLoss};
    use vocabulary::inputs::DenseColumn;

    /// 4,000 rows: two numbers with gaps and a category of 12 codes.
    fn rows() -> Inputs {
        let mut dense = Vec::new();
        for i in 0u32..4000 {
            let a = (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6;
            let b = if i % 7 == 0 { f32::NAN } else { (i % 101) as f32 };
            dense.extend([a, b, (i % 12) as f32]);
        }
        Inputs { rows: 4000, dense_width: 3, dense, ..Inputs::default() }
    }

    fn model() -> TreesModel {
        let inputs = rows();
        let labels: Vec<f32> =
            (0..inputs.rows).map(|i| f32::from(inputs.dense_row(i)[0] > 6.0 || i % 12 == 3)).collect();
        let types = [FeatureType::Numerical, FeatureType::Numerical, FeatureType::Categorical];
        let matrix = DMatrix::from_dense(&inputs.dense, inputs.rows, 3).unwrap();
        let matrix = matrix.with_labels(&labels).unwrap().with_feature_types(&types).unwrap();
        let params = TrainingParams::builder().objective(Objective::BinaryLogistic(RegLoss::default())).build();
        let booster = hessboost::training::train(&params.unwrap(), &matrix, 30).unwrap();
        let column = |name: &str, categorical| DenseColumn { name: name.to_owned(), categorical };
        let dense = vec![column("a", false), column("b", false), column("c", true)];
        TreesModel::new(booster, Link::Logistic, Layout { dense, ..Layout::default() }).unwrap()
    }

    fn part(inputs: &Inputs, from: usize, to: usize) -> Inputs {
        let dense = inputs.dense[from * 3..to * 3].to_vec();
        Inputs { rows: to - from, dense_width: 3, dense, ..Inputs::default() }
    }

    #[test]
    fn the_same_bits_in_any_batch_on_any_number_of_threads() {
        let (model, inputs) = (model(), rows());
        let bits = |out: &[f64]| out.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
        let mut whole = Vec::new();
        model.predict(&inputs, &mut whole).unwrap();
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for size in [1, 3, 16, 17, 255, 1000] {
                let mut parts = Vec::new();
                let mut out = Vec::new();
                for from in (0..inputs.rows).step_by(size) {
                    let batch = part(&inputs, from, (from + size).min(inputs.rows));
                    pool.install(|| model.predict(&batch, &mut out)).unwrap();
                    parts.extend(&out);
                }
                assert_eq!(bits(&parts), bits(&whole), "threads {threads}, batches of {size}");
            }
        }
    }

    #[test]
    fn bytes_come_back_and_unseen_codes_have_an_answer() {
        let model = model();
        let loaded = load_model("trees", &model.to_bytes(), model.layout()).unwrap();
        assert_eq!(loaded.to_bytes(), model.to_bytes());
        let odd = Inputs {
            rows: 2,
            dense_width: 3,
            dense: vec![1.0, 2.0, 4000.0, f32::NAN, 0.0, f32::NAN],
            ..Inputs::default()
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        model.predict(&odd, &mut ours).unwrap();
        loaded.predict(&odd, &mut theirs).unwrap();
        assert_eq!(ours, theirs);
        assert!(ours.iter().all(|p| (0.0..=1.0).contains(p)));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let model = model();
        let mut out = Vec::new();
        let narrow = Inputs { rows: 1, dense_width: 2, dense: vec![0.0; 2], ..Inputs::default() };
        let error = model.predict(&narrow, &mut out).unwrap_err().to_string();
        assert!(error.contains("2 dense columns and 0 slots were given, 3 and 0 are expected"), "{error}");
        let infinite = Inputs { rows: 1, dense_width: 3, dense: vec![0.0, f32::INFINITY, 0.0], ..Inputs::default() };
        assert!(model.predict(&infinite, &mut out).unwrap_err().to_string().contains("column \"b\" is infinite"));
        assert!(load_model("trees", b"HSTREES1\x01junk", model.layout()).is_err());
        assert!(load_model("forest", b"", model.layout()).is_err());
    }
}
