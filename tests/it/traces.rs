//! Traces as a collector gets them: OTLP over HTTP, decoded by OpenTelemetry's own types.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use orbyt::sim::{Sim, SimDialect, SimFault};
use parking_lot::Mutex;
use prost::Message;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a collector was sent: the head of each request, and what its body says.
type Received = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

/// A collector, which answers every request with this status.
fn collector(status: u16) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, received) = (format!("http://{}", listener.local_addr().unwrap()), Received::default());
    let into = received.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let into = into.clone();
            std::thread::spawn(move || while take(&connection, status, &into).is_some() {});
        }
    });
    (url, received)
}

/// Takes one request; `None` when there is none.
fn take(mut connection: &TcpStream, status: u16, into: &Received) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    into.lock().push((head, ExportTraceServiceRequest::decode(&body[..]).expect("no protobuf of traces")));
    write!(connection, "HTTP/1.1 {status} X\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
}

/// The spans so far, once there are so many.
async fn spans(received: &Received, count: usize) -> Vec<Span> {
    let started = Instant::now();
    loop {
        let all: Vec<Span> = received
            .lock()
            .iter()
            .flat_map(|(_, request)| request.resource_spans.clone())
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect();
        if all.len() >= count {
            return all;
        }
        assert!(started.elapsed() < PATIENCE, "only {} spans", all.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|it| it.key == name)?.value.clone()?.value?;
    Some(match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        Any::BoolValue(is) => is.to_string(),
        Any::DoubleValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_request_with_a_fallback_is_one_trace_below_the_clients() {
    let (broken, well) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let (url, received) = collector(200);
    let config = format!(
        "[retry]\nmax = 0\n[telemetry.otlp]\nendpoint = \"{url}\"\nauthorization = {{ env = \"OTLP_AUTHORIZATION\" }}\n\
         service = \"edge\"\nheaders = {{ x-scope = \"team\" }}\n[[model]]\nname = \"any\"\ntargets = [\"one/m1\", \"two/m2\"]\n"
    );
    let gateway = Gateway::builder()
        .config(&config)
        .variable("OTLP_AUTHORIZATION", "Bearer canary-of-the-collector")
        .provider("one", &broken)
        .provider("two", &well)
        .start()
        .await;
    broken.always(SimFault::ServerError);
    let bearer = format!("Bearer {KEY}");
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("authorization", bearer.as_str()), ("traceparent", parent)];
    let answer = gateway.ask("/v1/chat/completions", &headers, &saying("any", "one two", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let all = spans(&received, 3).await;
    let [request, failed, served] = &all[..] else { panic!("{all:?}") };
    assert_eq!(hex::encode(&request.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex::encode(&request.parent_span_id), "00f067aa0ba902b7");
    assert_eq!((request.kind(), &*request.name), (SpanKind::Server, "chat m2"));
    for (attempt, provider, status) in [(failed, "one", "500"), (served, "two", "200")] {
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&request.trace_id, &request.span_id));
        assert_eq!(attempt.kind(), SpanKind::Client);
        assert_eq!(attribute(attempt, "orbyt.provider").as_deref(), Some(provider));
        assert_eq!(attribute(attempt, "http.response.status_code").as_deref(), Some(status));
        assert!(attempt.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= request.end_time_unix_nano);
    }
    assert_eq!(failed.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(attribute(failed, "error.type").as_deref(), Some("server_error"));
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "any"),
        ("gen_ai.response.model", "m2"),
        ("orbyt.request.id", answer.header("x-request-id")),
        ("orbyt.fallback", "true"),
    ] {
        assert_eq!(attribute(request, name).as_deref(), Some(value), "{name}");
    }
    assert!(attribute(request, "gen_ai.usage.output_tokens").is_some());
    let (head, told) = received.lock()[0].clone();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    for line in
        ["authorization: bearer canary-of-the-collector", "x-scope: team", "content-type: application/x-protobuf"]
    {
        assert!(head.contains(line), "{line}: {head}");
    }
    let resource = format!("{:?}", told.resource_spans[0].resource);
    assert!(resource.contains("service.name") && resource.contains("edge"), "{resource}");
    gateway.shows("orbyt_traces_total{result=\"sent\"} 1\n").await;
    assert!(!gateway.output().contains("canary-of-the-collector"));
}

#[tokio::test]
async fn what_nobody_wants_traced_is_not_told() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let (url, received) = collector(200);
    let gateway = Gateway::builder().variable("OTEL_EXPORTER_OTLP_ENDPOINT", &url).provider("one", &sim).start().await;
    let bearer = format!("Bearer {KEY}");
    let not_sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let request = saying("one/m", "x", false);
    for headers in [
        [("authorization", bearer.as_str()), ("traceparent", not_sampled)],
        [("authorization", "Bearer wrong"), ("x-a", "b")],
    ] {
        gateway.ask("/v1/chat/completions", &headers, &request).await;
    }
    let answer = gateway.chat(&request).await;
    let all = spans(&received, 2).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(attribute(&all[0], "orbyt.request.id").as_deref(), Some(answer.header("x-request-id")));
    assert!(answer.header("x-request-id").ends_with(&hex::encode(&all[0].trace_id)[8..]));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_a_count() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("[telemetry.otlp]\nendpoint = \"http://{nobody}/v1/traces\"\ntimeout = \"200ms\"\n");
    let gateway = Gateway::builder().config(&config).provider("one", &sim).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.chat(&saying("one/m", "x", false)).await.status, 200);
    }
    gateway.shows("orbyt_traces_total{result=\"failed\"} 3\n").await;
    gateway.printed("traces do not reach").await;
}
