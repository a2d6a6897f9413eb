//! The interpreter: nodes in the file's order, each a function from tensors to tensors. It takes only graphs that treat
//! each row by itself, and finds that out by a trial.

use super::attributes::{Attributes, Labels};
use super::proto::{GraphProto, ModelProto, NodeProto, TypeProto, TypeValue, ValueInfoProto};
use super::{Unsupported, elementwise, encode, ensemble, linear, numbers, shapes, tensors, unsupported};
use crate::import::onnx::proto::DimensionValue;
use crate::tensor::{Data, Datatype, RunError, Signature, Tensor, TensorModel, TensorSpec};
use std::borrow::Cow;
use std::collections::HashMap;

/// More nodes than this belong to no classical model.
const NODES_MAX: usize = 10_000;

/// A value may have this many elements a row: a graph that doubles its columns again and again must end.
const ROW_MAX: usize = 1 << 20;

/// Rows of the trial: a number that is hardly the length of anything else in a graph.
const TRIAL_ROWS: usize = 7;

/// How a run ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The values are at fault.
    Value(String),
    /// The types or shapes are.
    Type(String),
}

pub(super) type Outputs = Result<Vec<Tensor>, Stop>;

pub(super) fn mismatch<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Type(what.into()))
}

/// What an operator may know beside its inputs.
pub(super) struct Context {
    /// Made-up values flow: those that an operator would refuse are let through.
    pub trial: bool,
}

pub(super) trait Operator: Send + Sync {
    fn run(&self, context: &Context, inputs: &[&Tensor]) -> Outputs;

    /// Whether the order of the elements is all that it keeps of the rows, and all that it needs.
    fn keeps_order_only(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        0
    }

    /// Replaces each number by one for all that it cannot tell from it; false where it does not know how.
    fn canonical(&self, _input: &mut Tensor) -> bool {
        false
    }

    /// What a user should know of its answers.
    fn note(&self) -> Option<&'static str> {
        None
    }
}

struct Node {
    name: String,
    operator: Box<dyn Operator>,
    /// Places of values.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// Whether it depends on the rows.
    of_rows: bool,
}

pub(super) struct Graph {
    signature: Signature,
    nodes: Vec<Node>,
    constants: Vec<(usize, Tensor)>,
    /// Places of the graph's inputs and outputs among the values.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// For each value, whether it depends on the rows.
    of_rows: Vec<bool>,
    /// For each output, the nodes that it needs.
    needs: Vec<Vec<bool>>,
    notes: Vec<String>,
}

/// Names of values and their places.
#[derive(Default)]
struct Places {
    places: HashMap<String, usize>,
    /// For each place, whether its value depends on the rows.
    of_rows: Vec<bool>,
}

impl Places {
    fn add(&mut self, name: &str, of_rows: bool) -> usize {
        let place = self.of_rows.len();
        self.of_rows.push(of_rows);
        if !name.is_empty() {
            self.places.insert(name.to_owned(), place);
        }
        place
    }
}

impl Graph {
    pub(super) fn new(model: &ModelProto, graph: &GraphProto) -> Result<Graph, Unsupported> {
        if graph.node.len() > NODES_MAX {
            return Err(unsupported("graph", format!("it has {} nodes", graph.node.len())));
        }
        if !model.functions.is_empty() || !graph.sparse_initializer.is_empty() {
            return Err(unsupported("graph", "it has functions of its own or sparse tensors"));
        }
        let mut places = Places::default();
        let mut constants = Vec::new();
        for tensor in &graph.initializer {
            let value = tensors::read(tensor).map_err(|why| unsupported("initializer", why))?;
            constants.push((places.add(&tensor.name, false), value));
        }
        let given = graph.input.iter().filter(|input| !places.places.contains_key(&input.name));
        let inputs: Vec<&ValueInfoProto> = given.collect();
        let specs = inputs.iter().map(|input| input_spec(input)).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<usize> = inputs.iter().map(|input| places.add(&input.name, true)).collect();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for proto in &graph.node {
            if let Some(value) = constant(proto)? {
                constants.push((places.add(proto.output.first().map_or("", String::as_str), false), value));
                continue;
            }
            nodes.push(node(model, proto, &mut places)?);
        }
        let outputs = graph.output.iter().map(|output| places.places.get(&output.name).copied());
        let outputs: Option<Vec<usize>> = outputs.collect();
        let outputs = outputs.ok_or_else(|| unsupported("graph", "an output is made by no node"))?;
        if specs.is_empty() || outputs.is_empty() {
            return Err(unsupported("graph", "it lacks inputs or outputs"));
        }
        let of_rows = places.of_rows;
        let needs = outputs.iter().map(|output| needs(&nodes, *output, of_rows.len())).collect();
        let mut notes: Vec<String> = nodes.iter().filter_map(|node| node.operator.note()).map(str::to_owned).collect();
        notes.sort();
        notes.dedup();
        let signature = Signature { inputs: specs, outputs: Vec::new(), batches: true };
        let mut made = Graph { signature, nodes, constants, inputs, outputs, of_rows, needs, notes };
        made.trial(graph)?;
        Ok(made)
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Runs made-up rows, which tells the outputs' types and shapes and whether rows stay apart.
    fn trial(&mut self, graph: &GraphProto) -> Result<(), Unsupported> {
        let rows: Vec<Tensor> = self.signature.inputs.iter().map(|spec| made_up(spec, TRIAL_ROWS)).collect();
        let wanted: Vec<usize> = (0..self.outputs.len()).collect();
        let outputs = self.evaluate(&Context { trial: true }, &rows, &wanted);
        let outputs = outputs.map_err(|(node, stop)| {
            let (Stop::Value(why) | Stop::Type(why)) = stop;
            unsupported(&node, why)
        })?;
        for (output, tensor) in graph.output.iter().zip(outputs) {
            if tensor.shape.first() != Some(&TRIAL_ROWS) {
                return Err(unsupported("graph", format!("output \"{}\" has not one entry a row", output.name)));
            }
            let shape = std::iter::once(-1).chain(tensor.shape[1..].iter().map(|length| *length as i64)).collect();
            self.signature.outputs.push(TensorSpec { name: output.name.clone(), datatype: tensor.datatype(), shape });
        }
        Ok(())
    }

    fn evaluate<'a>(
        &'a self,
        context: &Context,
        inputs: &'a [Tensor],
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, (String, Stop)> {
        let mut values: Vec<Option<Cow<'a, Tensor>>> = vec![None; self.of_rows.len()];
        for (place, tensor) in &self.constants {
            values[*place] = Some(Cow::Borrowed(tensor));
        }
        for (place, tensor) in self.inputs.iter().zip(inputs) {
            values[*place] = Some(Cow::Borrowed(tensor));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if !wanted.iter().any(|output| self.needs[*output][at]) {
                continue;
            }
            let given: Option<Vec<&Tensor>> = node.inputs.iter().map(|place| values[*place].as_deref()).collect();
            let fail = |stop| (node.name.clone(), stop);
            let given = given.ok_or_else(|| fail(Stop::Type("a value is used before it is made".to_owned())))?;
            if context.trial && node.of_rows && !node.operator.keeps_order_only() {
                self.check_rows(node, &given).map_err(fail)?;
            }
            let made = node.operator.run(context, &given).map_err(fail)?;
            if context.trial && made.iter().any(|tensor| tensor.data.len() > TRIAL_ROWS * ROW_MAX) {
                return Err(fail(Stop::Type("its result is too wide".to_owned())));
            }
            for (place, tensor) in node.outputs.iter().zip(made) {
                values[*place] = Some(Cow::Owned(tensor));
            }
        }
        let take = |output: &usize| {
            let tensor = values[self.outputs[*output]].clone();
            tensor
                .map(Cow::into_owned)
                .ok_or_else(|| ("graph".to_owned(), Stop::Type("an output is missing".to_owned())))
        };
        wanted.iter().map(take).collect()
    }

    /// Operators that look at shapes must find the rows in the first dimension of what depends on them, and nothing in
    /// the first dimension of what does not.
    fn check_rows(&self, node: &Node, given: &[&Tensor]) -> Result<(), Stop> {
        let of_rows = |place: &usize| self.of_rows[*place];
        let ranks =
            node.inputs.iter().zip(given).filter(|(place, _)| of_rows(place)).map(|(_, tensor)| tensor.shape.len());
        let rank = ranks.max().unwrap_or(0);
        let wrong = node.inputs.iter().zip(given).any(|(place, tensor)| {
            if of_rows(place) {
                tensor.shape.len() != rank || tensor.shape.first() != Some(&TRIAL_ROWS)
            } else {
                tensor.shape.len() > rank || (tensor.shape.len() == rank && tensor.shape[0] != 1)
            }
        });
        if wrong { mismatch("it may mix rows") } else { Ok(()) }
    }
}

impl TensorModel for Graph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &'static str {
        "onnx_native"
    }

    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let specs = &self.signature.inputs;
        let fits = |(spec, tensor): (&TensorSpec, &Tensor)| {
            spec.datatype == tensor.datatype()
                && spec.takes(&tensor.shape)
                && tensor.shape.iter().product::<usize>() == tensor.data.len()
                && tensor.rows() == inputs[0].rows()
        };
        if inputs.len() != specs.len() || !specs.iter().zip(inputs).all(fits) {
            let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
            return Err(RunError::Input(format!(
                "the inputs must be {}, with the types and shapes of the signature and equally many rows",
                names.join(", ")
            )));
        }
        if let Some(wrong) = wanted.iter().find(|place| **place >= self.outputs.len()) {
            return Err(RunError::Model(format!("there is no output {wrong}")));
        }
        let outputs = self.evaluate(&Context { trial: false }, inputs, wanted);
        let mut outputs = outputs.map_err(|(node, stop)| match stop {
            Stop::Value(why) => RunError::Input(format!("{node}: {why}")),
            Stop::Type(why) => RunError::Model(format!("{node}: {why}")),
        })?;
        for (tensor, place) in outputs.iter_mut().zip(wanted) {
            tensor.name.clone_from(&self.signature.outputs[*place].name);
        }
        Ok(outputs)
    }

    fn exact(&self) -> bool {
        true
    }

    /// Known where nothing but one ensemble of trees reads the only input.
    fn canonical(&self, inputs: &mut [Tensor]) -> bool {
        let ([input], [place]) = (inputs, self.inputs.as_slice()) else { return false };
        let mut readers = self.nodes.iter().filter(|node| node.inputs.contains(place));
        match (readers.next(), readers.next()) {
            (Some(reader), None) if !self.outputs.contains(place) => reader.operator.canonical(input),
            _ => false,
        }
    }

    fn bytes(&self) -> usize {
        let constants: usize = self.constants.iter().map(|(_, tensor)| tensor.data.len() * 8).sum();
        constants + self.nodes.iter().map(|node| node.operator.bytes()).sum::<usize>()
    }
}

/// The nodes on the way to a value.
fn needs(nodes: &[Node], output: usize, values: usize) -> Vec<bool> {
    let mut wanted = vec![false; values];
    wanted[output] = true;
    let mut needed = vec![false; nodes.len()];
    for (at, node) in nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|place| wanted[*place]) {
            needed[at] = true;
            node.inputs.iter().for_each(|place| wanted[*place] = true);
        }
    }
    needed
}

fn input_spec(input: &ValueInfoProto) -> Result<TensorSpec, Unsupported> {
    let odd = |why: &str| unsupported("graph", format!("input \"{}\" {why}", input.name));
    let Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), .. }) = &input.r#type else {
        return Err(odd("is no tensor"));
    };
    let datatype = tensors::datatype(tensor.elem_type).ok_or_else(|| odd("has an unknown element type"))?;
    let known = [Datatype::Fp32, Datatype::Fp64, Datatype::Int64, Datatype::Int32, Datatype::Bool, Datatype::Bytes];
    if !known.contains(&datatype) {
        return Err(odd(&format!("has elements of type {datatype}")));
    }
    let dimensions = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let lengths = dimensions.iter().map(|dimension| match dimension.value {
        Some(DimensionValue::Length(length)) if length > 0 => length,
        _ => -1,
    });
    let shape: Vec<i64> = lengths.collect();
    match shape[..] {
        [-1] => Ok(TensorSpec { name: input.name.clone(), datatype, shape }),
        [-1, width] if (1..=1 << 24).contains(&width) => Ok(TensorSpec { name: input.name.clone(), datatype, shape }),
        _ => Err(odd("is not a matrix of any number of rows and a known number of columns")),
    }
}

fn made_up(spec: &TensorSpec, rows: usize) -> Tensor {
    let shape: Vec<usize> = spec.shape.iter().map(|length| usize::try_from(*length).unwrap_or(rows)).collect();
    let count = shape.iter().product();
    let data = match spec.datatype {
        Datatype::Fp64 => Data::Fp64(vec![0.0; count]),
        Datatype::Int64 => Data::Int64(vec![0; count]),
        Datatype::Int32 => Data::Int32(vec![0; count]),
        Datatype::Bool => Data::Bool(vec![false; count]),
        Datatype::Bytes => Data::Bytes(vec![Vec::new(); count]),
        _ => Data::Fp32(vec![0.0; count]),
    };
    Tensor::new(String::new(), shape, data)
}

/// The value of a `Constant` node.
fn constant(proto: &NodeProto) -> Result<Option<Tensor>, Unsupported> {
    if proto.op_type != "Constant" || !proto.domain.is_empty() {
        return Ok(None);
    }
    let attributes = Attributes::new(proto);
    let one = |data| Tensor::new(String::new(), Vec::new(), data);
    let list = |data: Data| Tensor::new(String::new(), vec![data.len()], data);
    if let Some(tensor) = attributes.tensor("value") {
        return tensors::read(tensor).map(Some).map_err(|why| unsupported("Constant", why));
    }
    let read = |name: &str| attributes.find(name);
    let value = match (read("value_float"), read("value_int"), read("value_floats"), read("value_ints")) {
        (Some(value), ..) => one(Data::Fp32(vec![value.f])),
        (_, Some(value), ..) => one(Data::Int64(vec![value.i])),
        (_, _, Some(values), _) => list(Data::Fp32(values.floats.clone())),
        (_, _, _, Some(values)) => list(Data::Int64(values.ints.clone())),
        _ => return Err(unsupported("Constant", "its value has a form that is not read here")),
    };
    Ok(Some(value))
}

fn node(model: &ModelProto, proto: &NodeProto, places: &mut Places) -> Result<Node, Unsupported> {
    let inputs: Option<Vec<usize>> = proto.input.iter().map(|name| places.places.get(name).copied()).collect();
    let inputs = inputs.ok_or_else(|| unsupported(&proto.op_type, "an input is left out or made later"))?;
    let attributes = Attributes::new(proto);
    let set = model.opset_import.iter().find(|set| set.domain == proto.domain).map_or(1, |set| set.version);
    let look_up = proto.op_type == "Gather"
        && matches!(&inputs[..], [table, rows] if !places.of_rows[*table] && places.of_rows[*rows]);
    let operator = match proto.domain.as_str() {
        "" | "ai.onnx" if look_up => Box::new(shapes::LookUp(attributes.int("axis", 0))),
        "" | "ai.onnx" => standard(&attributes, set)?,
        "ai.onnx.ml" => classical(&attributes)?,
        other => return Err(unsupported(&proto.op_type, format!("the domain {other} is not known here"))),
    };
    let of_rows = inputs.iter().any(|place| places.of_rows[*place]);
    if matches!(proto.op_type.as_str(), "ArrayFeatureExtractor" | "Gather")
        && inputs.iter().all(|place| places.of_rows[*place])
    {
        return Err(unsupported(&proto.op_type, "it picks by places that depend on the rows"));
    }
    let outputs = proto.output.iter().map(|name| places.add(name, of_rows)).collect();
    let name =
        if proto.name.is_empty() { proto.op_type.clone() } else { format!("{} ({})", proto.op_type, proto.name) };
    Ok(Node { name, operator, inputs, outputs, of_rows })
}

fn standard(attributes: &Attributes, set: i64) -> Result<Box<dyn Operator>, Unsupported> {
    match attributes.op() {
        "MatMul" | "Gemm" => Err(unsupported(attributes.op(), "sums of products are left to ONNX Runtime")),
        "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Concat" => shapes::operator(attributes, set),
        "Gather" => Ok(Box::new(shapes::Gather(attributes.int("axis", 0)))),
        "ArgMax" => shapes::arg_max(attributes),
        "Cast" => elementwise::cast(attributes),
        "Add" | "Sub" | "Mul" | "Div" | "Sum" | "Where" | "Equal" | "Less" | "Greater" | "LessOrEqual"
        | "GreaterOrEqual" => elementwise::several(attributes),
        "Neg" | "Abs" | "Relu" | "Sqrt" | "Exp" | "Sigmoid" | "Not" | "IsNaN" => elementwise::single(attributes),
        "Softmax" => elementwise::softmax(attributes, set),
        other => Err(unsupported(other, "it is not one of the operators that run here")),
    }
}

fn classical(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    match attributes.op() {
        "TreeEnsembleClassifier" | "TreeEnsembleRegressor" => ensemble::operator(attributes),
        "LinearClassifier" => linear::classifier(attributes),
        "LinearRegressor" => linear::regressor(attributes),
        "Scaler" | "Normalizer" | "Imputer" | "Binarizer" | "FeatureVectorizer" => numbers::operator(attributes),
        "OneHotEncoder" | "LabelEncoder" | "ArrayFeatureExtractor" => encode::operator(attributes),
        // A list of maps from class to probability becomes the matrix of the probabilities.
        "ZipMap" => match attributes.labels() {
            Some(Labels::Ints(_) | Labels::Texts(_)) => Ok(Box::new(shapes::Same)),
            None => Err(unsupported("ZipMap", "it has no classes")),
        },
        other => Err(unsupported(other, "it is not one of the operators that run here")),
    }
}
