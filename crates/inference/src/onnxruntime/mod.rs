//! Runs ONNX models on ONNX Runtime, whose library is loaded when the first model is. Answers may differ in their last
//! bits between batches, threads and versions of the library. Knows neither HTTP nor where models are kept.

mod file;
mod library;
mod pool;
mod rows;
mod tensors;
pub(crate) mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use ort::ErrorCode;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::{Outlet, ValueType};

use self::file::{Declared, OnnxFile, Rewritten};
use self::pool::{Pool, Worker, plain};
use self::tensors::{borrowed, copied, datatype_of};
use crate::{Datatype, RunError, Signature, Tensor, TensorModel, TensorSpec};

pub use self::library::{LibraryInfo, open_library};
pub use self::rows::{Rows, check_rows};

/// Why a model can't be served by ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(
        "no ONNX Runtime library: looked {looked}; run `make onnxruntime`, or set ORT_DYLIB_PATH to the library's path"
    )]
    NoLibrary { looked: String },
    #[error("{}: {why}; run `make onnxruntime`, or set ORT_DYLIB_PATH to a library of ONNX Runtime", path.display())]
    BrokenLibrary { path: PathBuf, why: String },
    #[error("{} is loaded already; {} needs a process of its own", loaded.display(), wanted.display())]
    OtherLibrary { loaded: PathBuf, wanted: PathBuf },
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    #[error(
        "the weights of {tensor:?} lie in another file; save the model as one: onnx.save(onnx.load(PATH), NEW_PATH)"
    )]
    ExternalWeights { tensor: String },
    #[error("{role} {name:?} is {kind}, and only tensors can be served; export the model without it")]
    NotATensor { role: &'static str, name: String, kind: &'static str },
    #[error("{role} {name:?} has elements of type {element}, which the protocol lacks; cast them in the model")]
    Element { role: &'static str, name: String, element: String },
    #[error("input {name:?} declares no shape; export the model with the number of its dimensions")]
    NoShape { name: String },
    #[error("ONNX Runtime does not take the model: {0}")]
    Refused(String),
}

impl From<wire::Malformed> for EngineError {
    fn from(error: wire::Malformed) -> EngineError {
        EngineError::NotOnnx(error.to_string())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct OnnxOptions {
    /// Calls that run at the same time, each in a session with weights of its own; further calls wait.
    pub sessions: usize,
    /// Threads that one call uses.
    pub threads: usize,
    pub memory: Memory,
}

impl Default for OnnxOptions {
    fn default() -> OnnxOptions {
        OnnxOptions { sessions: 1, threads: 1, memory: Memory::Direct }
    }
}

/// What becomes of the memory that a call needs in between. Measured on two shared cores with a MobileNetV2 of 14 MB:
/// what stays after one call of 256 rows, and the time in parts of [`Memory::Kept`]'s (`examples/onnx_measure.rs`).
/// Perceptrons take the same time in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Each session keeps as much as its largest call has needed: 3.0 GB.
    Kept,
    /// What a call had to add is given back after it: 50 MB, at 1.4 to 2 times the time.
    Shrinking,
    /// Taken from the system's allocator, and given back, for each intermediate result: 70 MB. The time is about the
    /// same up to 4 rows and 1.5 to 2 times from 8 on, where results pass 32 MB and the allocator maps each anew.
    Direct,
}

/// A model on ONNX Runtime.
pub struct OnnxRuntimeModel {
    signature: Signature,
    notes: Vec<String>,
    pool: Pool,
    file_bytes: usize,
}

impl OnnxRuntimeModel {
    /// Loads the library unless it is loaded, and one session of the model in the ONNX file `bytes`.
    pub fn open(bytes: &[u8], options: &OnnxOptions) -> Result<OnnxRuntimeModel, EngineError> {
        let file = OnnxFile::read(bytes)?;
        match file.without_maps(bytes)? {
            Some(Rewritten { model, notes }) => Self::open_read(&model, &OnnxFile::read(&model)?, notes, options),
            None => Self::open_read(bytes, &file, Vec::new(), options),
        }
    }

    fn open_read(
        bytes: &[u8],
        file: &OnnxFile,
        mut notes: Vec<String>,
        options: &OnnxOptions,
    ) -> Result<OnnxRuntimeModel, EngineError> {
        file.inputs.iter().try_for_each(|input| input.check_tensor("input"))?;
        file.outputs.iter().try_for_each(|output| output.check_tensor("output"))?;
        let pool = Pool::new(bytes, options)?;
        let mut signature = signature_of(&pool.take()?.session, file)?;
        if let (true, Some(operator)) = (signature.batches, &file.joins_rows) {
            signature.batches = false;
            notes.push(format!(
                "{operator} scales all rows of a call together, so that an answer depends on the rows beside it: \
                 calls are never joined"
            ));
        }
        Ok(OnnxRuntimeModel { signature, notes, pool, file_bytes: bytes.len() })
    }

    /// What whoever imports the model should know, in sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn run_in(
        &self,
        worker: &mut Worker,
        inputs: &[SessionInputValue<'_>],
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, RunError> {
        let Worker { session, everything } = worker;
        let outputs = &self.signature.outputs;
        let selected;
        let answers = if wanted.iter().copied().eq(0..outputs.len()) {
            session.run_with_options(inputs, everything)
        } else {
            selected = self.only(wanted).map_err(|error| RunError::Model(plain(error.message())))?;
            session.run_with_options(inputs, &selected)
        };
        let answers = answers.map_err(|error| self.blame(&error))?;
        let copied = wanted.iter().zip(answers.values()).map(|(place, value)| copied(&outputs[*place].name, &value));
        copied.collect::<Result<_, _>>().map_err(RunError::Model)
    }

    fn only(&self, wanted: &[usize]) -> Result<RunOptions<HasSelectedOutputs>, ort::Error> {
        let name = |place: &usize| self.signature.outputs[*place].name.as_str();
        let selector = wanted.iter().map(name).fold(OutputSelector::no_default(), OutputSelector::with);
        Ok(self.pool.run_options()?.with_outputs(selector))
    }

    /// Whose fault a failed run is. ONNX Runtime tells inputs that miss the signature by a code of their own, but a
    /// node that fails because two free lengths don't go together has the code of any failure.
    fn blame(&self, error: &ort::Error) -> RunError {
        let message = plain(error.message());
        let memory = ["Failed to allocate memory", "bad_alloc"].iter().any(|text| message.contains(text));
        let by_inputs = match error.code() {
            ErrorCode::InvalidArgument => true,
            ErrorCode::GenericFailure | ErrorCode::RuntimeException => !memory && self.inputs_decide(),
            _ => false,
        };
        if by_inputs { RunError::Input(message) } else { RunError::Model(message) }
    }

    /// Whether inputs that fit the signature can still be wrong: by a length, an index or a text.
    fn inputs_decide(&self) -> bool {
        let floats = [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64];
        let decides = |input: &TensorSpec| input.shape.contains(&-1) || !floats.contains(&input.datatype);
        self.signature.inputs.iter().any(decides)
    }
}

impl TensorModel for OnnxRuntimeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &'static str {
        "onnxruntime_onnx"
    }

    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let inputs: Vec<SessionInputValue<'_>> = inputs.iter().map(borrowed).collect::<Result<_, _>>()?;
        let mut worker = self.pool.take().map_err(|error| RunError::Model(error.to_string()))?;
        // `ort` asserts that what it gets from the library is complete.
        catch_unwind(AssertUnwindSafe(|| self.run_in(&mut worker, &inputs, wanted)))
            .unwrap_or_else(|_| Err(RunError::Model("ONNX Runtime returned no complete answer".to_owned())))
    }

    fn exact(&self) -> bool {
        false
    }

    /// The weights of each session, taken to be as large as the file; what calls need in between is not known.
    fn bytes(&self) -> usize {
        self.pool.copies() * self.file_bytes
    }
}

fn signature_of(session: &Session, file: &OnnxFile) -> Result<Signature, EngineError> {
    let specs = |outlets: &[Outlet], declared: &[Declared], role| {
        outlets.iter().map(|outlet| spec_of(outlet, declared, role)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature {
        inputs: specs(session.inputs(), &file.inputs, "input")?,
        outputs: specs(session.outputs(), &file.outputs, "output")?,
        batches: counts_rows(session.inputs().iter().chain(session.outputs()))
            && !session.inputs().is_empty()
            && !session.outputs().is_empty(),
    })
}

/// `declared` tells a scalar from a tensor without a declared shape, which ONNX Runtime doesn't. Such an output is said
/// to have one free length.
fn spec_of(outlet: &Outlet, declared: &[Declared], role: &'static str) -> Result<TensorSpec, EngineError> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(EngineError::NotATensor { role, name, kind: "no tensor" });
    };
    let Some(datatype) = datatype_of(*ty) else {
        return Err(EngineError::Element { role, name, element: ty.to_string() });
    };
    let has_shape = declared.iter().any(|value| value.name == name && value.has_shape);
    let mut shape: Vec<i64> = shape.iter().map(|length| (*length).max(-1)).collect();
    if shape.is_empty() && !has_shape {
        if role == "input" {
            return Err(EngineError::NoShape { name });
        }
        shape.push(-1);
    }
    Ok(TensorSpec { name, datatype, shape })
}

/// Whether every first length is free, and those that have a name have the same.
fn counts_rows<'a>(outlets: impl Iterator<Item = &'a Outlet>) -> bool {
    let mut common = "";
    for outlet in outlets {
        let ValueType::Tensor { shape, dimension_symbols, .. } = outlet.dtype() else { return false };
        let name = dimension_symbols.first().map_or("", String::as_str);
        if shape.first() != Some(&-1) || !(name.is_empty() || common.is_empty() || name == common) {
            return false;
        }
        if common.is_empty() {
            common = name;
        }
    }
    true
}
