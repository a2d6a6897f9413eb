//! Many requests over one stream: their order, their faults, and what holds a stream's reader back.

use super::super::STREAM_REQUESTS_MAX;
use super::*;
use futures::StreamExt;
use futures::channel::mpsc;
use std::sync::atomic::Ordering::Relaxed;

fn numbered(number: usize) -> ModelInferRequest {
    ModelInferRequest { id: number.to_string(), ..ask(&[number as f32, 0.0]) }
}

async fn opened(
    server: &Server,
) -> (mpsc::UnboundedSender<ModelInferRequest>, tonic::Streaming<ModelStreamInferResponse>) {
    let (sender, requests) = mpsc::unbounded();
    let answers = server.client().await.model_stream_infer(requests).await.unwrap().into_inner();
    (sender, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_requests_order_and_a_fault_ends_nothing() {
    let server = server(Duration::from_millis(1), Limits::default()).await;
    let (sender, mut answers) = opened(&server).await;
    for number in 0..200 {
        let mut request = numbered(number);
        match number {
            3 => request.model_name = "triple".into(),
            7 => request.raw_input_contents.clear(),
            _ => {}
        }
        sender.unbounded_send(request).unwrap();
    }
    for number in 0..200 {
        let answer = answers.message().await.unwrap().unwrap();
        let response = answer.infer_response.unwrap();
        assert_eq!(response.id, number.to_string());
        assert!(response.parameters.contains_key("server-timing"), "each has its receipt");
        match number {
            3 => assert!(answer.error_message.contains("no model \"triple\""), "{}", answer.error_message),
            7 => assert!(answer.error_message.contains("0 elements"), "{}", answer.error_message),
            _ => assert_eq!(numbers(&response.raw_output_contents[0]), [2.0 * number as f32, 0.0]),
        }
    }
    drop(sender);
    assert!(answers.message().await.unwrap().is_none(), "the stream ends as its caller ends it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_a_bounded_number_of_requests_in_work_and_leaves_with_its_caller() {
    let server = server(Duration::from_millis(300), Limits::default()).await;
    let (sender, answers) = opened(&server).await;
    for number in 0..3 * STREAM_REQUESTS_MAX {
        sender.unbounded_send(numbered(number)).unwrap();
    }
    server.until("as many as may be are in work", |plane| plane.in_work.load(Relaxed) == STREAM_REQUESTS_MAX).await;
    drop((sender, answers));
    server.until("none waits", |plane| plane.scheduler.waiting_rows() == 0 && plane.in_work.load(Relaxed) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_only_its_own_stream() {
    let limits = Limits { requests_max: 2 * STREAM_REQUESTS_MAX, ..Limits::default() };
    let server = server(Duration::ZERO, limits).await;
    let (sender, answers) = opened(&server).await;
    let rows = vec![1.0; 2000];
    for _ in 0..2000 {
        sender.unbounded_send(ask(&rows)).unwrap();
    }
    // 2000 answers of 16 kB fit neither in the client's window nor in the server's buffers.
    for _ in 0..50 {
        server.client().await.model_infer(ask(&[1.0, 2.0])).await.unwrap();
    }
    let answered = server.plane.tenants.of_key(None).unwrap().usage.requests.load(Relaxed);
    assert!(answered < 2000, "{answered} were answered though nobody read");
    drop(sender);
    assert_eq!(answers.count().await, 2000);
}
