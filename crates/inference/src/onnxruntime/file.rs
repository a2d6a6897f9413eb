//! What of an ONNX file must be known before ONNX Runtime sees it, read in place: weights are neither copied nor
//! looked at. Field numbers are those of the standard's `onnx.proto`.

use super::EngineError;
use super::wire::{Field, Fields, Malformed, Value, packed, put_bytes, put_number};

/// Graphs in attributes of nodes of graphs …: deeper than any exporter nests them, shallow enough for any stack.
const DEPTH_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct OnnxFile {
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
    /// An operator whose result for one row depends on the rows beside it.
    pub joins_rows: Option<String>,
    zip_maps: Vec<ZipMap>,
    graphs: usize,
    has_standard_operators: bool,
}

/// An input or output of the graph, as the file declares it.
#[derive(Debug)]
pub(super) struct Declared {
    pub name: String,
    pub kind: Kind,
    /// Whether a shape is given at all; [] is one.
    pub has_shape: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Tensor,
    Sequence,
    Map,
    Optional,
    Sparse,
    Opaque,
    Undeclared,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Tensor => "a tensor",
            Kind::Sequence => "a sequence",
            Kind::Map => "a map",
            Kind::Optional => "an optional value",
            Kind::Sparse => "a sparse tensor",
            Kind::Opaque => "an opaque value",
            Kind::Undeclared => "of no declared type",
        }
    }
}

pub(super) struct Rewritten {
    pub model: Vec<u8>,
    /// What was done, one for each output.
    pub notes: Vec<String>,
}

/// A node that turns a tensor of scores into one map for each row.
#[derive(Debug, Default)]
struct ZipMap {
    input: String,
    output: String,
    labels: Vec<String>,
}

impl OnnxFile {
    pub fn read(bytes: &[u8]) -> Result<OnnxFile, EngineError> {
        let mut file = OnnxFile::default();
        file.model(bytes)?;
        if file.graphs == 0 {
            return Err(EngineError::NotOnnx("it has no graph".to_owned()));
        }
        Ok(file)
    }

    fn model(&mut self, model: &[u8]) -> Result<(), EngineError> {
        for field in Fields::of(model) {
            match field? {
                Field { number: 7, value: Value::Bytes(graph), .. } => {
                    self.graphs += 1;
                    self.graph(graph, 0)?;
                }
                Field { number: 8, value: Value::Bytes(operators), .. } => {
                    self.has_standard_operators |= text(operators, 1)?.is_empty();
                }
                Field { number: 25, value: Value::Bytes(function), .. } => self.nodes(function, 7, 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn graph(&mut self, graph: &[u8], depth: usize) -> Result<(), EngineError> {
        self.nodes(graph, 1, depth)?;
        for field in Fields::of(graph) {
            let Field { number, value: Value::Bytes(part), .. } = field? else { continue };
            match number {
                5 => tensor(part)?,
                15 => sparse_tensor(part)?,
                11 if depth == 0 => self.inputs.push(Declared::read(part)?),
                12 if depth == 0 => self.outputs.push(Declared::read(part)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The nodes of a graph or of a function, where they are field `place`.
    fn nodes(&mut self, owner: &[u8], place: u32, depth: usize) -> Result<(), EngineError> {
        if depth > DEPTH_MAX {
            return Err(EngineError::NotOnnx(format!("its graphs are nested more than {DEPTH_MAX} deep")));
        }
        for field in Fields::of(owner) {
            match field? {
                Field { number, value: Value::Bytes(node), .. } if number == place => self.node(node, depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &[u8], depth: usize) -> Result<(), EngineError> {
        let operator = text(node, 4)?;
        if operator.starts_with("DynamicQuantize") {
            self.joins_rows.get_or_insert(operator.clone());
        }
        if operator == "ZipMap" && depth == 0 {
            self.zip_maps.push(ZipMap::read(node)?);
        }
        for field in Fields::of(node) {
            if let Field { number: 5, value: Value::Bytes(attribute), .. } = field? {
                self.attribute(attribute, depth)?;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &[u8], depth: usize) -> Result<(), EngineError> {
        for field in Fields::of(attribute) {
            let Field { number, value: Value::Bytes(part), .. } = field? else { continue };
            match number {
                5 | 10 => tensor(part)?,
                6 | 11 => self.graph(part, depth + 1)?,
                22 | 23 => sparse_tensor(part)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The file with each list of maps that it gives out replaced by the tensor that the maps are made of; none where
    /// there is nothing to do.
    pub fn without_maps(&self, bytes: &[u8]) -> Result<Option<Rewritten>, EngineError> {
        let given_out = |zip: &&ZipMap| {
            self.outputs.iter().any(|output| output.name == zip.output && output.kind == Kind::Sequence)
        };
        let zip_maps: Vec<&ZipMap> = self.zip_maps.iter().filter(given_out).collect();
        if zip_maps.is_empty() || self.graphs != 1 {
            return Ok(None);
        }
        let mut model = Vec::with_capacity(bytes.len() + 64);
        for field in Fields::of(bytes) {
            match field? {
                Field { number: 7, value: Value::Bytes(graph), .. } => {
                    put_bytes(&mut model, 7, &replaced(graph, &zip_maps)?);
                }
                field => model.extend_from_slice(field.encoded),
            }
        }
        if !self.has_standard_operators {
            let mut operators = Vec::new();
            put_number(&mut operators, 2, 13);
            put_bytes(&mut model, 8, &operators);
        }
        let notes = zip_maps.iter().map(|zip| {
            let classes = if zip.labels.is_empty() { "the classes".to_owned() } else { zip.labels.join(", ") };
            let output = &zip.output;
            format!(
                "output {output:?} is a list of maps in the file; it is served as a tensor with a column for {classes}"
            )
        });
        Ok(Some(Rewritten { model, notes: notes.collect() }))
    }
}

fn replaced(graph: &[u8], zip_maps: &[&ZipMap]) -> Result<Vec<u8>, EngineError> {
    let mut copy = Vec::with_capacity(graph.len() + 64);
    for field in Fields::of(graph) {
        let field = field?;
        let zip = match field {
            Field { number: 1, value: Value::Bytes(node), .. } if text(node, 4)? == "ZipMap" => {
                let output = text(node, 2)?;
                zip_maps.iter().find(|zip| zip.output == output)
            }
            Field { number: 12, value: Value::Bytes(output), .. } => {
                let name = text(output, 1)?;
                zip_maps.iter().find(|zip| zip.output == name)
            }
            _ => None,
        };
        match zip {
            Some(zip) if field.number == 1 => put_bytes(&mut copy, 1, &zip.identity()),
            Some(zip) => put_bytes(&mut copy, 12, &zip.tensor_output()),
            None => copy.extend_from_slice(field.encoded),
        }
    }
    Ok(copy)
}

impl ZipMap {
    fn read(node: &[u8]) -> Result<ZipMap, EngineError> {
        let mut zip = ZipMap { input: text(node, 1)?, output: text(node, 2)?, labels: Vec::new() };
        for field in Fields::of(node) {
            let Field { number: 5, value: Value::Bytes(attribute), .. } = field? else { continue };
            for field in Fields::of(attribute) {
                let Field { number, value, .. } = field?;
                let numbers = match (number, value) {
                    (9, Value::Bytes(label)) => {
                        zip.labels.push(String::from_utf8_lossy(label).into_owned());
                        continue;
                    }
                    (8, Value::Bytes(labels)) => packed(labels)?,
                    (8, Value::Number(label)) => vec![label],
                    _ => continue,
                };
                zip.labels.extend(numbers.iter().map(|label| (*label as i64).to_string()));
            }
        }
        Ok(zip)
    }

    fn identity(&self) -> Vec<u8> {
        let mut node = Vec::new();
        put_bytes(&mut node, 1, self.input.as_bytes());
        put_bytes(&mut node, 2, self.output.as_bytes());
        put_bytes(&mut node, 4, b"Identity");
        node
    }

    fn tensor_output(&self) -> Vec<u8> {
        let mut shape = Vec::new();
        put_bytes(&mut shape, 1, &[]);
        let mut classes = Vec::new();
        if !self.labels.is_empty() {
            put_number(&mut classes, 1, self.labels.len() as u64);
        }
        put_bytes(&mut shape, 1, &classes);
        let mut tensor = Vec::new();
        put_number(&mut tensor, 1, 1);
        put_bytes(&mut tensor, 2, &shape);
        let mut kind = Vec::new();
        put_bytes(&mut kind, 1, &tensor);
        let mut output = Vec::new();
        put_bytes(&mut output, 1, self.output.as_bytes());
        put_bytes(&mut output, 2, &kind);
        output
    }
}

impl Declared {
    fn read(value: &[u8]) -> Result<Declared, Malformed> {
        let mut declared = Declared { name: text(value, 1)?, kind: Kind::Undeclared, has_shape: false };
        for field in Fields::of(value) {
            let Field { number: 2, value: Value::Bytes(kind), .. } = field? else { continue };
            for field in Fields::of(kind) {
                let Field { number, value: Value::Bytes(part), .. } = field? else { continue };
                declared.kind = match number {
                    1 => Kind::Tensor,
                    4 => Kind::Sequence,
                    5 => Kind::Map,
                    7 => Kind::Opaque,
                    8 => Kind::Sparse,
                    9 => Kind::Optional,
                    _ => continue,
                };
                for field in Fields::of(part) {
                    declared.has_shape |= declared.kind == Kind::Tensor && field?.number == 2;
                }
            }
        }
        Ok(declared)
    }

    /// Refuses what is no tensor. Outputs may leave their type to be inferred.
    pub fn check_tensor(&self, role: &'static str) -> Result<(), EngineError> {
        match self.kind {
            Kind::Tensor => Ok(()),
            Kind::Undeclared if role == "output" => Ok(()),
            kind => Err(EngineError::NotATensor { role, name: self.name.clone(), kind: kind.name() }),
        }
    }
}

/// Refuses weights that lie in another file: which one, the model would choose.
fn tensor(tensor: &[u8]) -> Result<(), EngineError> {
    for field in Fields::of(tensor) {
        if let Field { number: 13, .. } | Field { number: 14, value: Value::Number(1..), .. } = field? {
            return Err(EngineError::ExternalWeights { tensor: text(tensor, 8)? });
        }
    }
    Ok(())
}

fn sparse_tensor(sparse: &[u8]) -> Result<(), EngineError> {
    for field in Fields::of(sparse) {
        if let Field { number: 1 | 2, value: Value::Bytes(part), .. } = field? {
            tensor(part)?;
        }
    }
    Ok(())
}

/// The first field `number` of a message, as text; "" where there is none.
fn text(message: &[u8], number: u32) -> Result<String, Malformed> {
    for field in Fields::of(message) {
        match field? {
            Field { number: found, value: Value::Bytes(text), .. } if found == number => {
                return Ok(String::from_utf8_lossy(text).into_owned());
            }
            _ => {}
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAPS: &[u8] = include_bytes!("../../testdata/onnx/maps.onnx");
    const NESTED: &[u8] = include_bytes!("../../testdata/onnx/refused_external_inside.onnx");

    #[test]
    fn a_list_of_maps_becomes_a_tensor_and_the_rest_stays() {
        let file = OnnxFile::read(MAPS).unwrap();
        let kinds = |file: &OnnxFile| file.outputs.iter().map(|output| output.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&file), [Kind::Tensor, Kind::Sequence]);
        let Rewritten { model, notes } = file.without_maps(MAPS).unwrap().unwrap();
        assert!(notes[0].contains("\"probabilities\"") && notes[0].contains("3, 5, 9"), "{notes:?}");
        let file = OnnxFile::read(&model).unwrap();
        assert_eq!(kinds(&file), [Kind::Tensor, Kind::Tensor]);
        assert_eq!((file.inputs[0].name.as_str(), file.outputs[1].name.as_str()), ("x", "probabilities"));
        assert!(file.without_maps(&model).unwrap().is_none());
    }

    #[test]
    fn graphs_may_not_be_nested_without_end() {
        let mut graph = Vec::new();
        for _ in 0..10 * DEPTH_MAX {
            let mut attribute = Vec::new();
            put_bytes(&mut attribute, 6, &graph);
            let mut node = Vec::new();
            put_bytes(&mut node, 5, &attribute);
            graph.clear();
            put_bytes(&mut graph, 1, &node);
        }
        let mut model = Vec::new();
        put_bytes(&mut model, 7, &graph);
        let error = OnnxFile::read(&model).unwrap_err().to_string();
        assert!(error.contains("nested"), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_files_are_errors_or_files(place in 0usize..4096, byte: u8, cut in 0usize..4096, maps: bool) {
            let mut bytes = if maps { MAPS.to_vec() } else { NESTED.to_vec() };
            let length = bytes.len();
            bytes[place % length] = byte;
            bytes.truncate(length - cut % 8);
            if let Ok(file) = OnnxFile::read(&bytes) {
                let _ = file.without_maps(&bytes);
            }
        }
    }
}
