//! The attributes of a node, by name and type.

use super::proto::{AttributeProto, NodeProto, TensorProto};
use super::tensors;
use super::{Unsupported, unsupported};
use crate::tensor::Data;

/// The classes of a classifier: numbers or texts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<Vec<u8>>),
}

impl Labels {
    pub(super) fn len(&self) -> usize {
        match self {
            Labels::Ints(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Labels::Ints(labels) => labels.iter().map(i64::to_string).collect(),
            Labels::Texts(labels) => labels.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect(),
        }
    }

    /// The label at each of the places.
    pub(super) fn at(&self, places: &[usize]) -> Data {
        match self {
            Labels::Ints(labels) => Data::Int64(places.iter().map(|place| labels[*place]).collect()),
            Labels::Texts(labels) => Data::Bytes(places.iter().map(|place| labels[*place].clone()).collect()),
        }
    }
}

pub(super) struct Attributes<'a> {
    node: &'a NodeProto,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(node: &'a NodeProto) -> Attributes<'a> {
        Attributes { node }
    }

    pub(super) fn op(&self) -> &'a str {
        &self.node.op_type
    }

    pub(super) fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |attribute| attribute.f)
    }

    pub(super) fn text(&self, name: &str, default: &'static str) -> &'a str {
        self.find(name).map_or(default, |attribute| std::str::from_utf8(&attribute.s).unwrap_or(""))
    }

    pub(super) fn ints(&self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    pub(super) fn floats(&self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |attribute| &attribute.floats)
    }

    pub(super) fn texts(&self, name: &str) -> &'a [Vec<u8>] {
        self.find(name).map_or(&[], |attribute| &attribute.strings)
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.find(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// The elements of a tensor attribute.
    pub(super) fn tensor_data(&self, name: &str) -> Result<Option<Data>, Unsupported> {
        let read = |tensor| tensors::read(tensor).map_err(|why| unsupported(self.op(), format!("{name}: {why}")));
        Ok(self.tensor(name).map(read).transpose()?.map(|tensor| tensor.data))
    }

    /// Refuses the attributes that are there and not read.
    pub(super) fn without(&self, names: &[&str]) -> Result<(), Unsupported> {
        match names.iter().find(|name| self.find(name).is_some()) {
            Some(name) => Err(unsupported(self.op(), format!("the attribute {name} is not read here"))),
            None => Ok(()),
        }
    }

    /// The classes, under whichever name the operator has for them.
    pub(super) fn labels(&self) -> Option<Labels> {
        let texts = self.texts("classlabels_strings");
        if !texts.is_empty() {
            return Some(Labels::Texts(texts.to_vec()));
        }
        let ints = ["classlabels_int64s", "classlabels_ints"].into_iter().map(|name| self.ints(name));
        ints.into_iter().find(|list| !list.is_empty()).map(|ints| Labels::Ints(ints.to_vec()))
    }
}
