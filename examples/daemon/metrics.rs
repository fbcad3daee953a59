//! Serves the hooks' metrics at `/metrics`, as text for Prometheus.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tiny_http::{Header, Method, Request, Response, Server};

/// The bounds of the buckets for a hook's duration, in seconds.
const SECONDS: [f64; 8] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 90.0];
/// How often new values are sorted into their buckets between requests.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts to count, and answers requests on a thread until the daemon ends.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let server = Server::http(address).map_err(|why| anyhow!("no metrics at {address}: {why}"))?;
    let duration = Matcher::Full(hookvisor::metrics::DURATION.to_owned());
    let numbers = PrometheusBuilder::new().set_buckets_for_metric(duration, &SECONDS)?.install_recorder()?;
    hookvisor::metrics::describe();
    tracing::info!("metrics at http://{}/metrics", server.server_addr());
    let answer_all = move || {
        loop {
            match server.recv_timeout(UPKEEP) {
                Ok(Some(request)) => answer(request, &numbers),
                Ok(None) => numbers.run_upkeep(),
                Err(why) => return tracing::error!("no metrics any more: {why}"),
            }
        }
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(answer_all).context("no thread for the metrics")?;
    Ok(())
}

fn answer(request: Request, numbers: &PrometheusHandle) {
    let response = match (request.method(), request.url()) {
        (Method::Get, "/metrics") => Response::from_string(numbers.render()),
        (_, "/metrics") => Response::from_string("only GET\n").with_status_code(405),
        _ => Response::from_string("only /metrics\n").with_status_code(404),
    };
    let text = Header::from_bytes("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    let response = text.into_iter().fold(response, Response::with_header);
    if let Err(why) = request.respond(response) {
        tracing::debug!("a client of /metrics is gone: {why}");
    }
}
