//! `gantry run`: from a client to a running operator, and its orderly end.

use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt;
use futures::stream::select_all;
use kube::{Client, Config};

use crate::config::Settings;
use crate::context::Context;
use crate::engine::{Engine, EngineMetrics, Limits, RemotingEngine};
use crate::leader::{Elector, Leadership};
use crate::metrics::Metrics;
use crate::server::{Readiness, serve};
use crate::{broker_cluster, metadata};

/// No request to the API server may hang: watches are renewed by their own time-outs well before.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(310);

/// Runs the operator until it is told to stop or loses the lead.
///
/// # Errors
/// Where it can't start, or lost the lead: the process should end then, and be started again.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut config = Config::infer().await.context("no Kubernetes is configured")?;
    config.read_timeout = Some(READ_TIMEOUT);
    let client = Client::try_from(config).context("the client can't be made")?;
    let metrics = Metrics::new()?;
    let figures = EngineMetrics::register(metrics.registry())?;
    let engine = |leadership: Leadership| -> Arc<dyn Engine> {
        let engine = RemotingEngine::new(Limits::default()).with_metrics(figures);
        Arc::new(engine.with_lead(move || leadership.check().is_ok()))
    };
    let readiness = Readiness::default();
    let server = tokio::spawn(serve(settings.listen, metrics.clone(), readiness.clone()));

    let version = client.apiserver_version().await.context("the API server does not answer")?;
    tracing::info!(kubernetes = version.git_version, gantry = env!("CARGO_PKG_VERSION"), "connected");
    readiness.set();

    tokio::select! {
        ended = lead(client, settings, engine, metrics, stop_signal()) => ended,
        served = server => Err(served?.err().map_or_else(|| anyhow::anyhow!("the HTTP server ended"), anyhow::Error::new)),
    }
}

/// Waits for the lead and works while it has it, with an engine that is told by whom it is used. When `stop` comes it gives the lead back.
///
/// # Errors
/// Where it lost the lead.
pub async fn lead(
    client: Client,
    settings: Settings,
    engine: impl FnOnce(Leadership) -> Arc<dyn Engine>,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let elector = Elector::new(&client, &settings.namespace, &settings.identity);
    let namespaces = settings.namespaces();
    let ctx =
        Arc::new(Context::new(client, settings, engine(elector.leadership()), elector.leadership(), metrics.clone()));
    let mut stop = Box::pin(stop);

    tokio::select! {
        () = elector.acquire() => {}
        () = &mut stop => return Ok(()),
    }
    metrics.leader.set(1);
    tracing::info!("leading");
    let watched: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
    let metadata = metadata::run(ctx.clone(), watched.clone());
    let passes = select_all(watched.into_iter().map(|n| broker_cluster::controller(ctx.clone(), n).boxed()));

    let ended = tokio::select! {
        () = passes.for_each(|()| async {}) => Ok(()),
        () = metadata => Ok(()),
        lost = elector.hold() => Err(anyhow::Error::new(lost)),
        () = &mut stop => {
            tracing::info!("stopping");
            elector.release().await;
            Ok(())
        }
    };
    metrics.leader.set(0);
    ended
}

async fn stop_signal() {
    let term = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "SIGTERM can't be waited for");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = term => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
