//! Ten thousand topics: how long they take, what they cost. Written to docs/benchmarks-topics.md; `make bench-topics` runs it.

#[path = "../../tests/engine_real/processes.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared with the tests of the engine"
)]
mod processes;

mod engine;
mod load;
mod operator;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use gantry_crds::BrokerCluster;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use load::Load;
use operator::{Operator, sum};
use report::Row;

/// How long an idle operator is watched: three resyncs, two looks at consumer groups.
const IDLE: Duration = Duration::from_secs(63);
/// How long after a burst until it is idle: replicas have copied, statuses are settled.
const REST: Duration = Duration::from_secs(45);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    if std::env::args().any(|a| a == "--hosts") {
        for (address, host) in engine::HOSTS {
            println!("{address} {host}");
        }
        return Ok(());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sizes = std::env::var("SIZES").unwrap_or_else(|_| "100 1000 10000".into());
    let sizes: Vec<usize> = sizes.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let (client, kubeconfig, folder) = connect().await?;
    gantry::definitions::apply(&client, "bench").await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}});
    Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone())
        .patch("bench", &apply(), &Patch::Apply(&namespace))
        .await?;
    let clusters: Api<BrokerCluster> = Api::namespaced(client.clone(), "bench");
    let cluster = json!({
        "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster", "metadata": {"name": "shop"},
        "spec": {"nameServers": {"replicas": 1}, "controllers": {"replicas": 1}, "brokers": {"groups": 1, "replicas": 2}},
    });
    clusters.patch("shop", &apply(), &Patch::Apply(&cluster)).await?;
    println!("── the engine");
    let machine = engine::start();
    let mut rows = Vec::new();
    for size in sizes {
        println!("── {size} topics");
        rows.push(measure(&client, &clusters, &kubeconfig, &folder, size).await?);
        println!("   {:?}", rows.last());
    }
    drop(machine);
    report::write(&client.apiserver_version().await?.git_version, &rows)
}

fn apply() -> PatchParams {
    PatchParams::apply("bench").force()
}

async fn measure(
    client: &Client,
    clusters: &Api<BrokerCluster>,
    kubeconfig: &Path,
    folder: &Path,
    size: usize,
) -> Result<Row> {
    let operator = Operator::start(kubeconfig, folder)?;
    let load = Load::new(client, size);
    // One first, so that brokers and operator are known to be up.
    let settled = Load::new(client, 1);
    settled.burst().await?;
    let begun = operator.processor()?;
    let before = operator.metrics()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let burst = async {
        let took = load.burst().await;
        stop.send_replace(true);
        took
    };
    let (burst, meanwhile) = tokio::join!(burst, settled.edits_until(stopped));
    let ((applying, ready), meanwhile) = (burst?, meanwhile?);
    let written = size + meanwhile.len();
    println!("   applied in {applying:.1} s, all ready {ready:.1} s later, {} edits meanwhile", meanwhile.len());
    let after = operator.metrics()?;
    let processor = operator.processor()? - begun;
    let writes = sum(&after, "gantry_kubernetes_writes_total", "Topic")
        - sum(&before, "gantry_kubernetes_writes_total", "Topic");
    let peak = operator.memory()?.1;
    let edits = load.edits(200.min(size)).await?;
    println!("   edits: median {:.3} s", edits[edits.len() / 2]);
    tokio::time::sleep(REST).await;
    let (before, spent) = (operator.metrics()?, operator.processor()?);
    tokio::time::sleep(IDLE).await;
    let after = operator.metrics()?;
    let idle_processor = (operator.processor()? - spent) / IDLE.as_secs_f64() * 100.0;
    let delta = |name: &str, with: &str| sum(&after, name, with) - sum(&before, name, with);
    let passes = delta("gantry_reconciles_total", "kind=\"Topic\"").max(1.0);
    // Those of the pass over the cluster itself are not the topics' affair.
    let of_metadata = ["GET_ALL_TOPIC_CONFIG", "GET_ALL_SUBSCRIPTIONGROUP_CONFIG", "GET_ALL_MESSAGE_REQUEST_MODE"];
    let calls = of_metadata.iter().map(|c| delta("gantry_engine_calls_total", c)).sum::<f64>() / passes;
    let of_groups =
        ["GET_BROKER_CONSUME_STATS", "GET_TIMER_METRICS", "\"GET_CONSUME_STATS", "GET_CONSUMER_CONNECTION_LIST"];
    let group_calls =
        of_groups.iter().map(|c| delta("gantry_engine_calls_total", c)).sum::<f64>() / (IDLE.as_secs_f64() / 30.0);
    let idle_writes =
        delta("gantry_kubernetes_writes_total", "Topic") + delta("gantry_kubernetes_writes_total", "ConsumerGroup");
    let memory = operator.memory()?.0;
    let deletions = load.deletions(size.min(1_000), async || confirm(clusters).await).await?;
    println!("   {deletions:.0} deletions/s");
    load.remove().await?;
    settled.remove().await?;
    Ok(Row {
        size,
        applying,
        ready,
        meanwhile,
        edits,
        writes: writes / written as f64,
        calls,
        group_calls,
        idle_writes,
        memory,
        peak,
        deletions,
        processor,
        idle_processor,
    })
}

/// All deletions of the next hour are meant.
async fn confirm(clusters: &Api<BrokerCluster>) -> Result<()> {
    let until = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_hours(1);
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!({"metadata": {"annotations": {gantry_crds::CONFIRM_DELETIONS_ANNOTATION: until}}});
    clusters.patch("shop", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// The server that KUBECONFIG and CONTEXT name, and a kubeconfig for it alone.
async fn connect() -> Result<(Client, PathBuf, PathBuf)> {
    let context = std::env::var("CONTEXT").context("CONTEXT names an API server: `make bench-topics` brings one up")?;
    let mut file = Kubeconfig::read()?;
    file.current_context = Some(context.clone());
    let folder = std::env::temp_dir().join(format!("gantry-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("kubeconfig");
    std::fs::write(&path, serde_yaml::to_string(&file)?)?;
    let options = KubeConfigOptions { context: Some(context), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await?;
    Ok((Client::try_from(config)?, path, folder))
}
