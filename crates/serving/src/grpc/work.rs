//! An inference request from its message to its answer and receipt.

use super::gate::Arrived;
use super::proto::infer_parameter::ParameterChoice;
use super::proto::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::{Told, contents, status};
use crate::call::{Call, Stage, Trace};
use crate::http::{SERVER_TIMING, TRACEPARENT};
use crate::meter::thread_cpu;
use crate::plane::{Plane, classified};
use crate::refusal::{Answer, Refusal};
use axum::http::StatusCode;
use inference::Tensor;
use std::time::Instant;
use tonic::Response;
use tonic::metadata::{MetadataMap, MetadataValue};

/// Smaller answers are not compressed: it would cost more than it saves.
const COMPRESS_BYTES_MIN: usize = 1024;

/// Nginx's status for a caller that went away; there is no standard one.
const CLOSED: u16 = 499;

/// A request in work. One that is dropped before it is finished is counted all the same: its caller went away.
struct Work<'a> {
    plane: &'a Plane,
    model: String,
    version: String,
    call: Call,
    finished: bool,
}

impl<'a> Work<'a> {
    fn new(plane: &'a Plane, arrived: &Arrived, trace: Trace, message: &ModelInferRequest) -> Work<'a> {
        let call = arrived.call(trace);
        let (model, version) = (message.model_name.clone(), message.model_version.clone());
        Work { plane, model, version, call, finished: false }
    }

    fn finish(&mut self, outcome: &Answer<(ModelInferResponse, usize)>) {
        self.finished = true;
        match outcome {
            Ok((answer, rows)) => self.plane.finish(&self.model, &answer.model_version, *rows, &self.call, Ok(())),
            Err(refusal) => self.plane.finish(&self.model, &self.version, 0, &self.call, Err(refusal)),
        }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let refusal = match self.call.deadline {
            Some(deadline) if deadline <= Instant::now() => Refusal::too_late(),
            _ => {
                let status = StatusCode::from_u16(CLOSED).unwrap_or(StatusCode::REQUEST_TIMEOUT);
                Refusal::new(status, "cancelled", "the caller went away before the answer was ready")
            }
        };
        self.plane.finish(&self.model, &self.version, 0, &self.call, Err(&refusal));
    }
}

/// Answers a request that was admitted.
pub async fn infer(
    plane: &Plane,
    arrived: &Arrived,
    trace: Trace,
    message: ModelInferRequest,
) -> Told<ModelInferResponse> {
    let mut work = Work::new(plane, arrived, trace, &message);
    let outcome = answer(plane, message, &mut work.call).await;
    work.finish(&outcome);
    match outcome {
        Ok((answer, _)) => {
            let bytes: usize = answer.raw_output_contents.iter().map(|raw| raw.len()).sum();
            let mut response = Response::new(answer);
            if bytes < COMPRESS_BYTES_MIN {
                response.disable_compression();
            }
            receipt(response.metadata_mut(), &work.call);
            Ok(response)
        }
        Err(refusal) => {
            let mut status = status(&refusal);
            receipt(status.metadata_mut(), &work.call);
            Err(status)
        }
    }
}

/// Answers one request of a stream. Its receipt is among the answer's parameters: a stream has metadata only once.
pub async fn streamed(
    plane: &Plane,
    arrived: &Arrived,
    trace: Trace,
    message: ModelInferRequest,
) -> ModelStreamInferResponse {
    let mut work = Work::new(plane, arrived, trace, &message);
    let id = message.id.clone();
    let outcome = match plane.admit(&arrived.tenant) {
        Ok(_admitted) => answer(plane, message, &mut work.call).await,
        Err(refusal) => Err(refusal),
    };
    work.finish(&outcome);
    let (error_message, mut answer) = match outcome {
        Ok((answer, _)) => (String::new(), answer),
        Err(refusal) => {
            let (model_name, model_version) = (work.model.clone(), work.version.clone());
            (refusal.error, ModelInferResponse { model_name, model_version, id, ..Default::default() })
        }
    };
    let text = |text: String| InferParameter { parameter_choice: Some(ParameterChoice::StringParam(text)) };
    answer.parameters.insert(SERVER_TIMING.as_str().to_owned(), text(work.call.server_timing()));
    answer.parameters.insert(TRACEPARENT.as_str().to_owned(), text(work.call.trace.traceparent()));
    // Triton's clients ask whether more answers to this request will follow.
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    answer.parameters.insert("triton_final_response".to_owned(), last);
    ModelStreamInferResponse { error_message, infer_response: Some(answer) }
}

/// Adds the receipt and the trace.
fn receipt(metadata: &mut MetadataMap, call: &Call) {
    let values = [(SERVER_TIMING, call.server_timing()), (TRACEPARENT, call.trace.traceparent())];
    for (name, value) in values {
        if let (Ok(name), Ok(value)) =
            (tonic::metadata::AsciiMetadataKey::from_bytes(name.as_str().as_bytes()), MetadataValue::try_from(value))
        {
            metadata.insert(name, value);
        }
    }
}

/// The answer, and its rows.
async fn answer(plane: &Plane, message: ModelInferRequest, call: &mut Call) -> Answer<(ModelInferResponse, usize)> {
    let version = Plane::version(Some(&message.model_version))?;
    let model = message.model_name.clone();
    let (begun, cpu) = (Instant::now(), thread_cpu());
    let read = contents::read(message)?;
    call.cpu += thread_cpu().saturating_sub(cpu);
    call.ended(Stage::Decode, begun);
    let wanted = read.request.outputs.clone();
    let mut response = plane.infer(&model, version, read, call).await?;
    let (begun, cpu) = (Instant::now(), thread_cpu());
    let rows = response.outputs.first().map_or(0, Tensor::rows);
    classified(&mut response, &wanted)?;
    let made = contents::write(response);
    call.cpu += thread_cpu().saturating_sub(cpu);
    call.ended(Stage::Encode, begun);
    Ok((made, rows))
}
