//! The output for collectors of traces and metrics: spans with OpenTelemetry's names, and text for Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Subscriber, subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

use crate::support::alone::alone;
use crate::support::daemon::Daemon;
use crate::support::{Hooks, event};

/// Stores each closed span: its name, its parent's name, and its attributes.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Values(BTreeMap<&'static str, String>);

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut values = Values::default();
        attributes.record(&mut values);
        context.span(id).unwrap().extensions_mut().insert(values);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        record.record(context.span(id).unwrap().extensions_mut().get_mut::<Values>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let parent = span.parent().map_or("-", |parent| parent.name());
        let mut text = format!("{} in {parent}\n", span.name());
        for (name, value) in &span.extensions().get::<Values>().unwrap().0 {
            text += &format!("    {name} = {value}\n");
        }
        self.0.lock().unwrap().push(text);
    }
}

impl Spans {
    fn text(&self, hooks: &Hooks) -> String {
        self.0.lock().unwrap().concat().replace(&hooks.path().display().to_string(), "DIR")
    }
}

#[test]
fn spans_have_opentelemetry_s_names_and_results() {
    alone("telemetry::spans_have_opentelemetry_s_names_and_results", || {
        let hooks = Hooks::new().script("test.d/10-fine", ":").script("test.d/20-veto", "exit 3");
        let (runtime, spans) = (hooks.runtime(), Spans::default());
        subscriber::with_default(registry().with(spans.clone()), || {
            drop(runtime.run(&event("web1", "start")));
        });
        insta::assert_snapshot!("spans_have_opentelemetry_s_names_and_results", spans.text(&hooks));
    });
}

/// The span of a call is a child of the host's current span, even on another thread. A host that enables only its own
/// spans does not get hookvisor's attributes on them.
#[test]
fn spans_are_within_the_host_s_own() {
    alone("telemetry::spans_are_within_the_host_s_own", || {
        let hooks = Hooks::new().script("test.d/10-signal", "kill -9 $$");
        let (runtime, spans) = (hooks.runtime(), Spans::default());
        let tokio = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        subscriber::with_default(registry().with(spans.clone()), || {
            let host = tracing::info_span!("request", id = 7);
            let _entered = host.enter();
            drop(tokio.block_on(runtime.shutdown_async(&event("web1", "stopped"))));
        });
        insta::assert_snapshot!("spans_are_within_the_host_s_own", spans.text(&hooks));

        let spans = Spans::default();
        let own = tracing_subscriber::filter::filter_fn(|metadata| metadata.target().starts_with("integration"));
        subscriber::with_default(registry().with(spans.clone().with_filter(own)), || {
            let _entered = tracing::info_span!("request", "error.type" = tracing::field::Empty).entered();
            drop(runtime.run(&event("web1", "start")));
        });
        assert_eq!(spans.text(&hooks), "request in -\n");
    });
}

/// An HTTP answer: its status line and header, and its body.
fn get(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Parses Prometheus's text format. Returns the samples by name and labels, and fails on an invalid line.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut types, mut described) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# HELP ") {
            described.insert(comment.split_once(' ').unwrap().0);
        } else if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, kind) = comment.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(types.insert(name, kind), None, "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            for label in labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty()) {
                let (_, quoted) = label.split_once('=').unwrap();
                assert!(quoted.len() >= 2 && quoted.starts_with('"') && quoted.ends_with('"'), "{line}");
            }
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let family = of_histogram.filter(|family| types.get(family) == Some(&"histogram")).unwrap_or(name);
            assert!(types.contains_key(family) && described.contains(family), "{line}");
            assert_eq!(samples.insert(series.to_owned(), value.parse().unwrap()), None, "{line}");
        }
    }
    samples
}

#[test]
fn the_example_daemon_serves_metrics_that_prometheus_can_read() {
    let hooks = Hooks::new().script("daemon-example", "[ $1 != bad ] || exit 3");
    let daemon = Daemon::of(&hooks, &["--metrics", "127.0.0.1:0"]);
    let log = daemon.log();
    let address = log.split_once("metrics at http://").unwrap().1.split_once("/metrics").unwrap().0;
    daemon.start("web1", "sleep 3600");
    assert!(daemon.ask("start bad true").starts_with("no "));
    assert_eq!(daemon.ask("stop web1"), "ok web1 is stopped");

    let (head, body) = get(address, "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    let samples = parse(&body);
    let of = |series: &str| samples.get(series).unwrap_or_else(|| panic!("no {series}:\n{body}"));
    let start = "driver=\"daemon-example\",operation=\"start\"";
    let called = format!("hookvisor_hook_calls_total{{{start},kind=\"native\",termination=\"exited\"}}");
    assert_eq!(*of(&called), 2.0);
    assert_eq!(*of(&called.replace("start", "stopped")), 1.0);
    assert_eq!(*of(&format!("hookvisor_vetoes_total{{{start}}}")), 1.0);
    assert_eq!(*of("hookvisor_reloads_total{result=\"ok\"}"), 1.0);
    assert_eq!(*of("hookvisor_hooks_in_flight"), 0.0);
    let duration = |part: &str| format!("hookvisor_hook_duration_seconds_{part}{{{start},kind=\"native\"");
    assert_eq!(*of(&format!("{},le=\"+Inf\"}}", duration("bucket"))), 2.0);
    assert_eq!(*of(&format!("{}}}", duration("count"))), 2.0);
    assert!(*of(&format!("{}}}", duration("sum"))) > 0.0);
    let buckets: Vec<f64> =
        samples.iter().filter(|(name, _)| name.starts_with(&duration("bucket"))).map(|(_, count)| *count).collect();
    assert_eq!(buckets.len(), 9, "{body}");

    assert!(get(address, "GET /").0.starts_with("HTTP/1.1 404 "));
    assert!(get(address, "DELETE /metrics").0.starts_with("HTTP/1.1 405 "));
}
