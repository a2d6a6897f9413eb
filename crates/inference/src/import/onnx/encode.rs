//! Operators that turn categories into numbers and numbers into labels: `OneHotEncoder`, `LabelEncoder`,
//! `ArrayFeatureExtractor`.

use super::attributes::Attributes;
use super::graph::{Context, Operator, Outputs, Stop, mismatch};
use super::tensors::{ELEMENTS_MAX, elements};
use super::{Unsupported, unsupported};
use crate::tensor::{Data, Tensor};
use std::collections::HashMap;

pub(super) fn operator(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    match attributes.op() {
        "OneHotEncoder" => one_hot(attributes),
        "LabelEncoder" => label_encoder(attributes),
        _ => Ok(Box::new(ArrayFeatureExtractor)),
    }
}

/// What a value is looked up by. Numbers with a fraction are looked up by their bits, all NaNs by the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    Bits(u64),
    Text(Vec<u8>),
}

fn bits(value: f64) -> Key {
    Key::Bits(if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits())
}

fn keys(data: &Data) -> Option<Vec<Key>> {
    Some(match data {
        Data::Int64(values) => values.iter().map(|value| Key::Int(*value)).collect(),
        Data::Fp32(values) => values.iter().map(|value| bits(f64::from(*value))).collect(),
        Data::Fp64(values) => values.iter().map(|value| bits(*value)).collect(),
        Data::Bytes(values) => values.iter().map(|value| Key::Text(value.clone())).collect(),
        _ => return None,
    })
}

fn only<'a>(inputs: &[&'a Tensor]) -> Result<&'a Tensor, Stop> {
    match inputs {
        [input] => Ok(input),
        _ => mismatch("it takes one input"),
    }
}

/// Adds a dimension with a one at the category's place.
struct OneHot {
    places: HashMap<Key, usize>,
    categories: usize,
    texts: bool,
    /// Whether an unknown category is all zeros, rather than an error.
    zeros: bool,
}

fn one_hot(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let (ints, texts) = (attributes.ints("cats_int64s"), attributes.texts("cats_strings"));
    let list: Vec<Key> = if ints.is_empty() {
        texts.iter().map(|text| Key::Text(text.clone())).collect()
    } else {
        ints.iter().map(|int| Key::Int(*int)).collect()
    };
    if list.is_empty() || !(ints.is_empty() || texts.is_empty()) {
        return Err(unsupported(attributes.op(), "it needs categories of one type"));
    }
    let (categories, texts) = (list.len(), ints.is_empty());
    let places = list.into_iter().enumerate().map(|(place, key)| (key, place)).collect();
    Ok(Box::new(OneHot { places, categories, texts, zeros: attributes.int("zeros", 1) != 0 }))
}

impl Operator for OneHot {
    fn run(&self, context: &Context, inputs: &[&Tensor]) -> Outputs {
        let input = only(inputs)?;
        // Numbers with a fraction lose it.
        let keys = match (&input.data, self.texts) {
            (Data::Bytes(texts), true) => texts.iter().map(|text| Key::Text(text.clone())).collect(),
            (Data::Int64(values), false) => values.iter().map(|value| Key::Int(*value)).collect(),
            (Data::Fp32(values), false) => values.iter().map(|value| whole(f64::from(*value))).collect(),
            (Data::Fp64(values), false) => values.iter().map(|value| whole(*value)).collect::<Vec<_>>(),
            (other, _) => return mismatch(format!("elements of type {} do not fit its categories", other.datatype())),
        };
        let count = keys.len().checked_mul(self.categories).filter(|count| *count <= ELEMENTS_MAX);
        let Some(count) = count else { return Err(Stop::Value("the input has too many rows".to_owned())) };
        let mut values = vec![0.0; count];
        for (at, key) in keys.iter().enumerate() {
            match self.places.get(key) {
                Some(place) => values[at * self.categories + place] = 1.0,
                None if self.zeros || context.trial => (),
                None => return Err(Stop::Value(format!("{key:?} is none of its {} categories", self.categories))),
            }
        }
        let shape = input.shape.iter().copied().chain([self.categories]).collect();
        Ok(vec![Tensor::new(String::new(), shape, Data::Fp32(values))])
    }
}

/// As the processor's conversion has it, what is no 64-bit number becomes the smallest.
fn whole(value: f64) -> Key {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    Key::Int(if fits { value as i64 } else { i64::MIN })
}

/// A table from values to values, and the value for all others.
struct LabelEncoder {
    places: HashMap<Key, usize>,
    /// The last is the default.
    values: Data,
}

fn label_encoder(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let refuse = |why: &str| unsupported(attributes.op(), why);
    if !attributes.texts("classes_strings").is_empty() {
        return Err(refuse("its first version is left to ONNX Runtime"));
    }
    let list = |side: &str| -> Result<Option<Data>, Unsupported> {
        let texts = attributes.texts(&format!("{side}_strings"));
        let ints = attributes.ints(&format!("{side}_int64s"));
        let floats = attributes.floats(&format!("{side}_floats"));
        Ok(match (texts, ints, floats) {
            ([], [], []) => attributes.tensor_data(&format!("{side}_tensor"))?,
            (texts, [], []) => Some(Data::Bytes(texts.to_vec())),
            ([], ints, []) => Some(Data::Int64(ints.to_vec())),
            ([], [], floats) => Some(Data::Fp32(floats.to_vec())),
            _ => return Err(refuse("its lists have several types")),
        })
    };
    let (Some(from), Some(mut values)) = (list("keys")?, list("values")?) else {
        return Err(refuse("it lacks keys or values"));
    };
    let from = keys(&from).ok_or_else(|| refuse("its keys have another type than is read here"))?;
    if from.len() != values.len() || from.is_empty() {
        return Err(refuse("its keys and values differ in number"));
    }
    let default = attributes.tensor_data("default_tensor")?;
    let default = match (&values, default) {
        (values, Some(default)) if values.datatype() == default.datatype() && default.len() == 1 => default,
        (_, Some(_)) => return Err(refuse("its default has another type than its values")),
        (Data::Int64(_), None) => Data::Int64(vec![attributes.int("default_int64", -1)]),
        (Data::Fp32(_), None) => Data::Fp32(vec![attributes.float("default_float", -0.0)]),
        (Data::Bytes(_), None) => Data::Bytes(vec![attributes.text("default_string", "_Unused").as_bytes().to_vec()]),
        _ => return Err(refuse("its values have another type than is read here")),
    };
    values.extend(&default, 0, 1);
    let mut places = HashMap::new();
    for (place, key) in from.into_iter().enumerate() {
        // Of equal keys the first counts.
        places.entry(key).or_insert(place);
    }
    Ok(Box::new(LabelEncoder { places, values }))
}

impl Operator for LabelEncoder {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let input = only(inputs)?;
        let Some(keys) = keys(&input.data) else { return mismatch("its input has another type than its keys") };
        let default = self.values.len() - 1;
        let mut data = Data::empty(self.values.datatype());
        for key in keys {
            let place = self.places.get(&key).copied().unwrap_or(default);
            data.extend(&self.values, place, place + 1);
        }
        Ok(vec![Tensor::new(String::new(), input.shape.clone(), data)])
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

/// Picks columns; of a list, elements.
struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [from, places] = inputs else { return mismatch("it takes two inputs") };
        let Data::Int64(places) = &places.data else { return mismatch("its places are no whole numbers") };
        let width = from.shape.last().copied().unwrap_or(0);
        let places: Option<Vec<usize>> =
            places.iter().map(|place| usize::try_from(*place).ok().filter(|place| *place < width)).collect();
        let Some(places) = places else { return Err(Stop::Value(format!("a place is outside 0 to {width}"))) };
        let rows = from.data.len().checked_div(width).unwrap_or(0);
        if elements(&[rows, places.len()]).is_none() {
            return mismatch("the result is too large");
        }
        let mut data = Data::empty(from.datatype());
        for row in 0..rows {
            for place in &places {
                data.extend(&from.data, row * width + place, row * width + place + 1);
            }
        }
        let mut shape = if from.shape.len() == 1 { vec![1] } else { from.shape[..from.shape.len() - 1].to_vec() };
        shape.push(places.len());
        Ok(vec![Tensor::new(String::new(), shape, data)])
    }
}
