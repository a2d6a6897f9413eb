//! The pipeline's steps as a graph: from raw columns to the model's dense columns and slots, in the precision and with
//! the roundings of the pipeline, so that the values are the same to the bit.

use super::graph::{Graph, Keep, ints, texts};
use super::inputs::{NULL_INT, Registry, kind_of};
use super::{Blocks, ExportError};
use crate::import::onnx::proto::ElementType;
use std::collections::{BTreeMap, HashMap};
use vocabulary::contract::ColumnKind;
use vocabulary::tensors::{Bins, Gives, Key, Part, PartGives, Quantity, Scaled, Table, TensorStep, TensorSteps};

/// What the steps came to.
pub(super) struct Made {
    pub blocks: Blocks,
    pub dense: usize,
    pub slots: usize,
}

pub(super) fn columns(graph: &mut Graph, registry: &mut Registry, steps: &TensorSteps) -> Result<Made, ExportError> {
    let mut maker = Maker {
        graph,
        registry,
        steps,
        quantities: HashMap::new(),
        dense: Vec::new(),
        slots: Vec::new(),
        dense_width: 0,
        slot_width: 0,
    };
    let (mut numbers, mut standards) = (Vec::new(), Vec::new());
    for step in &steps.steps {
        match step {
            TensorStep::Number(from) => numbers.push((from, maker.dense(1))),
            TensorStep::Standard { from, bins } => {
                standards.push((from, maker.dense(2)));
                if let Some(bins) = bins {
                    let value = maker.quantity(&from.from)?;
                    let slot = maker.bin(bins, &value);
                    maker.slot(slot);
                }
            }
            TensorStep::Projection { inputs, factor, weights } => maker.projection(inputs, *factor, weights)?,
            TensorStep::Table(table) => maker.table(table)?,
            TensorStep::Part(part) => maker.part(part),
            TensorStep::Given(given) => {
                let slot = maker.registry.given(maker.graph, given);
                maker.slot(slot);
            }
            TensorStep::GivenDense { given, width } => {
                let width = *width as usize;
                let columns = maker.registry.given_dense(maker.graph, given, width);
                let at = maker.dense(width);
                maker.dense.push((columns, (at..at + width).collect()));
            }
        }
    }
    maker.numbers(&numbers)?;
    maker.standards(&standards)?;
    let Maker { graph, dense, slots, dense_width, slot_width, .. } = maker;
    let blocks = Blocks { dense: graph.arrange(&dense), slots: graph.arrange(&slots) };
    Ok(Made { blocks, dense: dense_width, slots: slot_width })
}

/// Matrices of some of the columns, and the places of these.
type Pieces = Vec<(String, Vec<usize>)>;

struct Maker<'a> {
    graph: &'a mut Graph,
    registry: &'a mut Registry,
    steps: &'a TensorSteps,
    /// In double precision, a matrix of one column each, NaN where missing.
    quantities: HashMap<Quantity, String>,
    dense: Pieces,
    slots: Pieces,
    dense_width: usize,
    slot_width: usize,
}

impl Maker<'_> {
    /// Reserves places for dense columns and gives the first.
    fn dense(&mut self, width: usize) -> usize {
        self.dense_width += width;
        self.dense_width - width
    }

    fn slot(&mut self, name: String) {
        self.slots.push((name, vec![self.slot_width]));
        self.slot_width += 1;
    }

    fn kind(&self, column: &str, wanted: &'static str) -> Result<ColumnKind, ExportError> {
        let missing = || ExportError::Column { column: column.to_owned(), found: "no type", wanted };
        kind_of(self.steps, column).ok_or_else(missing)
    }

    fn wrong<T>(column: &str, kind: ColumnKind, wanted: &'static str) -> Result<T, ExportError> {
        Err(ExportError::Column { column: column.to_owned(), found: kind.name(), wanted })
    }

    fn quantity(&mut self, from: &Quantity) -> Result<String, ExportError> {
        if let Some(name) = self.quantities.get(from) {
            return Ok(name.clone());
        }
        let name = match from {
            Quantity::Column(column) => self.number(column)?,
            Quantity::Difference { later, earlier } => self.difference(later, earlier)?,
        };
        self.quantities.insert(from.clone(), name.clone());
        Ok(name)
    }

    fn number(&mut self, column: &str) -> Result<String, ExportError> {
        let kind = self.kind(column, "a number")?;
        if matches!(kind, ColumnKind::String | ColumnKind::Timestamp) {
            return Self::wrong(column, kind, "a number");
        }
        let raw = self.registry.raw(self.graph, column, kind);
        if !(kind == ColumnKind::Int && self.registry.is_category(column)) {
            return Ok(raw);
        }
        let null = self.graph.int(NULL_INT);
        let missing = self.graph.node("Equal", &[&raw, &null]);
        let value = self.graph.cast(&raw, ElementType::Double);
        Ok(self.missing(&missing, &value))
    }

    /// NaN where `missing` is true.
    fn missing(&mut self, missing: &str, value: &str) -> String {
        let none = self.graph.double(f64::NAN);
        self.graph.node("Where", &[missing, &none, value])
    }

    fn difference(&mut self, later: &str, earlier: &str) -> Result<String, ExportError> {
        let mut instant = |column: &str| match self.kind(column, "an instant")? {
            ColumnKind::Timestamp => Ok(self.registry.raw(self.graph, column, ColumnKind::Timestamp)),
            kind => Self::wrong(column, kind, "an instant"),
        };
        let (later, earlier) = (instant(later)?, instant(earlier)?);
        let null = self.graph.int(NULL_INT);
        let first = self.graph.node("Equal", &[&later, &null]);
        let second = self.graph.node("Equal", &[&earlier, &null]);
        let missing = self.graph.node("Or", &[&first, &second]);
        let micros = self.graph.node("Sub", &[&later, &earlier]);
        let micros = self.graph.cast(&micros, ElementType::Double);
        let million = self.graph.double(1e6);
        let seconds = self.graph.node("Div", &[&micros, &million]);
        Ok(self.missing(&missing, &seconds))
    }

    fn quantities<'q>(&mut self, from: impl Iterator<Item = &'q Quantity>) -> Result<String, ExportError> {
        let names = from.map(|from| self.quantity(from)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(self.graph.beside(&names))
    }

    /// In single precision; what that cannot hold becomes its largest magnitude, and what was missing `missing`.
    fn rounded(&mut self, value: &str, missing: &str, instead: f32) -> String {
        let (low, high) = (self.graph.double(f64::from(f32::MIN)), self.graph.double(f64::from(f32::MAX)));
        let raised = self.graph.node("Max", &[value, &low]);
        let kept = self.graph.node("Min", &[&raised, &high]);
        let single = self.graph.cast(&kept, ElementType::Float);
        let instead = self.graph.float(instead);
        self.graph.node("Where", &[missing, &instead, &single])
    }

    fn numbers(&mut self, numbers: &[(&Quantity, usize)]) -> Result<(), ExportError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let values = self.quantities(numbers.iter().map(|(from, _)| *from))?;
        let missing = self.graph.node("IsNaN", &[&values]);
        let rounded = self.rounded(&values, &missing, f32::NAN);
        self.dense.push((rounded, numbers.iter().map(|(_, at)| *at).collect()));
        Ok(())
    }

    fn standards(&mut self, standards: &[(&Scaled, usize)]) -> Result<(), ExportError> {
        if standards.is_empty() {
            return Ok(());
        }
        let (scaled, missing) = self.scaled(standards.iter().map(|(scaled, _)| *scaled))?;
        let rounded = self.rounded(&scaled, &missing, 0.0);
        let flags = self.graph.cast(&missing, ElementType::Float);
        self.dense.push((rounded, standards.iter().map(|(_, at)| *at).collect()));
        self.dense.push((flags, standards.iter().map(|(_, at)| at + 1).collect()));
        Ok(())
    }

    /// Standardised quantities side by side, and which are missing.
    fn scaled<'q>(
        &mut self,
        scaled: impl Iterator<Item = &'q Scaled> + Clone,
    ) -> Result<(String, String), ExportError> {
        let mut value = self.quantities(scaled.clone().map(|scaled| &scaled.from))?;
        let missing = self.graph.node("IsNaN", &[&value]);
        for (place, operator) in ["Max", "Min", "Sub", "Div"].into_iter().enumerate() {
            let figure = |scaled: &Scaled| [scaled.low, scaled.high, scaled.mean, scaled.scale][place];
            let figures: Vec<f64> = scaled.clone().map(figure).collect();
            let figures = self.graph.doubles(&[1, figures.len()], &figures);
            value = self.graph.node(operator, &[&value, &figures]);
        }
        Ok((value, missing))
    }

    /// The sum goes in the pipeline's order, quantity by quantity: a product of matrices may add in another.
    fn projection(&mut self, inputs: &[Scaled], factor: f64, weights: &[Vec<f64>]) -> Result<(), ExportError> {
        let (scaled, missing) = self.scaled(inputs.iter())?;
        let zero = self.graph.double(0.0);
        let values = self.graph.node("Where", &[&missing, &zero, &scaled]);
        let mut sum: Option<String> = None;
        for place in 0..inputs.len() {
            let value = self.graph.columns(&values, &[place]);
            let row: Vec<f64> = weights.iter().map(|weights| weights[place]).collect();
            let row = self.graph.doubles(&[1, row.len()], &row);
            let product = self.graph.node("Mul", &[&value, &row]);
            sum = Some(match sum {
                Some(sum) => self.graph.node("Add", &[&sum, &product]),
                None => product,
            });
        }
        let Some(sum) = sum else { return Err(ExportError::NoInputs) };
        let factor = self.graph.double(factor);
        let outputs = self.graph.node("Mul", &[&factor, &sum]);
        let none = self.graph.node("IsNaN", &[&outputs]);
        let rounded = self.rounded(&outputs, &none, f32::NAN);
        let at = self.dense(weights.len());
        self.dense.push((rounded, (at..at + weights.len()).collect()));
        Ok(())
    }

    /// The slot of a value's bin, by how many edges are below it.
    fn bin(&mut self, bins: &Bins, value: &str) -> String {
        let missing = self.graph.node("IsNaN", &[value]);
        let (zero, one) = (self.graph.int(0), self.graph.int(1));
        let place = if bins.edges.is_empty() {
            one
        } else {
            let edges = self.graph.doubles(&[1, bins.edges.len()], &bins.edges);
            let below = self.graph.node("Less", &[&edges, value]);
            let below = self.graph.cast(&below, ElementType::Int64);
            let count = self.graph.sum(&below, Keep::Dimension);
            self.graph.node("Add", &[&count, &one])
        };
        let place = self.graph.node("Where", &[&missing, &zero, &place]);
        self.looked_up(&bins.slots, &place)
    }

    fn looked_up(&mut self, slots: &[u32], place: &str) -> String {
        let slots: Vec<i64> = slots.iter().map(|slot| i64::from(*slot)).collect();
        let table = self.graph.ints(&[slots.len()], &slots);
        self.graph.gather(&table, place)
    }

    fn part(&mut self, part: &Part) {
        let value = self.registry.part(self.graph, part);
        match &part.gives {
            PartGives::Value => {
                let at = self.dense(1);
                let single = self.graph.cast(&value, ElementType::Float);
                self.dense.push((single, vec![at]));
            }
            PartGives::Binned(bins) => {
                let slot = self.bin(bins, &value);
                self.slot(slot);
            }
            PartGives::Indexed { least, slots, circle } => {
                let place = self.place(&value, *least);
                let slot = self.looked_up(slots, &place);
                self.slot(slot);
                self.circle(circle, &place);
            }
            PartGives::Circle { least, points } => {
                let place = self.place(&value, *least);
                self.circle(points, &place);
            }
        }
    }

    /// The place of a part's value in a table that begins with a missing one and goes on with `least`.
    fn place(&mut self, value: &str, least: i32) -> String {
        let missing = self.graph.node("IsNaN", &[value]);
        let (zero, before) = (self.graph.int(0), self.graph.double(f64::from(least) - 1.0));
        let place = self.graph.node("Sub", &[value, &before]);
        let place = self.graph.cast(&place, ElementType::Int64);
        self.graph.node("Where", &[&missing, &zero, &place])
    }

    /// Sine and cosine, where there are any.
    fn circle(&mut self, points: &[[f32; 2]], place: &str) {
        for side in (0..2).filter(|_| !points.is_empty()) {
            let values: Vec<f32> = points.iter().map(|point| point[side]).collect();
            let table = self.graph.floats(&[values.len()], &values);
            let at = self.dense(1);
            self.dense.push((self.graph.gather(&table, place), vec![at]));
        }
    }

    fn table(&mut self, table: &Table) -> Result<(), ExportError> {
        let place = self.entry(table)?;
        for gives in &table.gives {
            match gives {
                Gives::Dense { values, unseen, missing } => {
                    let values: Vec<f32> = [&[*missing], values.as_slice(), &[*unseen]].concat();
                    let list = self.graph.floats(&[values.len()], &values);
                    let at = self.dense(1);
                    self.dense.push((self.graph.gather(&list, &place), vec![at]));
                }
                Gives::Slot { values, unseen, missing } => {
                    let slots: Vec<u32> = [&[*missing], values.as_slice(), &[*unseen]].concat();
                    let slot = self.looked_up(&slots, &place);
                    self.slot(slot);
                }
            }
        }
        Ok(())
    }

    /// The place of a row's entry from 1 on; 0 for null (of a single column), the place after the last for any other.
    fn entry(&mut self, table: &Table) -> Result<String, ExportError> {
        let unseen = table.keys.len() as i64 + 1;
        if let [column] = &table.columns[..] {
            let places = table.keys.iter().zip(1..).filter_map(|(key, place)| Some((key[0].as_ref()?, place)));
            return self.code(column, &places.collect::<Vec<_>>(), unseen);
        }
        // Each column's values have a code; the codes of an entry, as the digits of a number, are its key.
        let mut key: Option<String> = None;
        let mut keys = vec![0i64; table.keys.len()];
        let too_many = || ExportError::Steps(format!("{:?} have too many values together", table.columns));
        let mut room = 1i64;
        for (at, column) in table.columns.iter().enumerate() {
            let known: BTreeMap<&Key, i64> =
                table.keys.iter().filter_map(|key| key[at].as_ref()).map(|key| (key, 0)).collect();
            let known: BTreeMap<&Key, i64> = known.into_keys().zip(1..).collect();
            let base = known.len() as i64 + 2;
            room = room.checked_mul(base).ok_or_else(too_many)?;
            for (key, values) in keys.iter_mut().zip(&table.keys) {
                *key = *key * base + values[at].as_ref().map_or(0, |value| known[value]);
            }
            let pairs: Vec<(&Key, i64)> = known.iter().map(|(key, code)| (*key, *code)).collect();
            let code = self.code(column, &pairs, base - 1)?;
            key = Some(match key {
                Some(key) => {
                    let base = self.graph.int(base);
                    let raised = self.graph.node("Mul", &[&key, &base]);
                    self.graph.node("Add", &[&raised, &code])
                }
                None => code,
            });
        }
        let key = key.ok_or(ExportError::NoInputs)?;
        if keys.is_empty() {
            // Nothing is known: every key is unseen, and has the place after the last.
            let zero = self.graph.int(0);
            let nothing = self.graph.node("Mul", &[&key, &zero]);
            let place = self.graph.int(unseen);
            return Ok(self.graph.node("Add", &[&nothing, &place]));
        }
        let places = (1..=keys.len() as i64).collect();
        let attributes =
            vec![ints("keys_int64s", keys), ints("values_int64s", places), super::graph::int("default_int64", unseen)];
        Ok(self.graph.classical("LabelEncoder", &key, attributes))
    }

    /// A column's code: that of its value, 0 for null, `unseen` for any other.
    fn code(&mut self, column: &str, codes: &[(&Key, i64)], unseen: i64) -> Result<String, ExportError> {
        let kind = self.kind(column, "a category")?;
        let raw = match kind {
            ColumnKind::Float | ColumnKind::Timestamp => return Self::wrong(column, kind, "a category"),
            kind => self.registry.raw(self.graph, column, kind),
        };
        let values = codes.iter().map(|(_, code)| *code).chain([0]).collect();
        let default = super::graph::int("default_int64", unseen);
        if kind == ColumnKind::String {
            let null = self.registry.null_text().as_bytes().to_vec();
            let text = |key: &Key| match key {
                Key::Text(text) => text.as_bytes().to_vec(),
                Key::Bool(value) => value.to_string().into_bytes(),
                Key::Int(value) => value.to_string().into_bytes(),
            };
            let keys = codes.iter().map(|(key, _)| text(key)).chain([null]).collect();
            let attributes = vec![texts("keys_strings", keys), ints("values_int64s", values), default];
            return Ok(self.graph.classical("LabelEncoder", &raw, attributes));
        }
        let number = |key: &Key| match key {
            Key::Int(value) => *value,
            Key::Bool(value) => i64::from(*value),
            Key::Text(_) => NULL_INT,
        };
        let whole = if kind == ColumnKind::Int {
            raw
        } else {
            let missing = self.graph.node("IsNaN", &[&raw]);
            let whole = self.graph.cast(&raw, ElementType::Int64);
            let null = self.graph.int(NULL_INT);
            self.graph.node("Where", &[&missing, &null, &whole])
        };
        let keys = codes.iter().map(|(key, _)| number(key)).chain([NULL_INT]).collect();
        let attributes = vec![ints("keys_int64s", keys), ints("values_int64s", values), default];
        Ok(self.graph.classical("LabelEncoder", &whole, attributes))
    }
}
