//! The API server as a person sees it, and operators that run against it.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use gantry::config::Settings;
use gantry::engine::fake::{FakeEngine, World};
use gantry::metrics::Metrics;
use http::Request;
use kube::client::{Body, ClientBuilder};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;

use crate::recorder::{Recorder, Requests};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// `Warning` headers.
    pub warnings: Vec<String>,
    /// The object, or a Status.
    pub body: Value,
}

impl Answer {
    /// It was taken, and without a warning.
    pub fn taken(&self) -> Result<(), String> {
        match (self.code, &self.warnings[..]) {
            (200 | 201, []) => Ok(()),
            (200 | 201, warnings) => Err(format!("taken with warnings: {warnings:?}")),
            (code, _) => Err(format!("{code}: {}", self.message())),
        }
    }

    /// What a Status says.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// The server that KUBECONFIG and CONTEXT name.
pub async fn config() -> Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let context = std::env::var("CONTEXT").expect("CONTEXT names an API server: `make api-server` brings one up");
    assert!(std::env::var_os("KUBECONFIG").is_some(), "KUBECONFIG goes with CONTEXT");
    let options = KubeConfigOptions { context: Some(context), ..KubeConfigOptions::default() };
    Config::from_kubeconfig(&options).await.expect("the kubeconfig can be read")
}

/// A client of somebody who may do anything, with the definitions installed.
pub async fn admin() -> Client {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let client = Client::try_from(config().await).unwrap();
    INSTALLED.get_or_init(async || gantry::definitions::apply(&client, "gantry").await.unwrap()).await;
    client
}

/// A client whose requests are kept; as `user`, where one is given.
pub async fn recorded(user: Option<&str>) -> (Client, Requests) {
    let mut config = config().await;
    config.auth_info.impersonate = user.map(str::to_owned);
    let (layer, requests) = Recorder::layer();
    (ClientBuilder::try_from(config).unwrap().with_layer(&layer).build(), requests)
}

/// Sends one request. PATCH is a server-side apply as a person, everything else is what it is.
pub async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Answer {
    let (kind, path) = match (method, path.contains('?')) {
        ("APPLY", true) => ("application/apply-patch+yaml", format!("{path}&fieldManager=person&force=true")),
        ("APPLY", false) => ("application/apply-patch+yaml", format!("{path}?fieldManager=person&force=true")),
        ("PATCH", _) => ("application/merge-patch+json", path.to_owned()),
        _ => ("application/json", path.to_owned()),
    };
    let method = if method == "APPLY" { "PATCH" } else { method };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let body = if body.is_null() { Body::empty() } else { Body::from(serde_json::to_vec(body).unwrap()) };
    let response = client.send(request.body(body).unwrap()).await.unwrap();
    let warnings = response.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    Answer { code, warnings, body: serde_json::from_slice(&bytes).unwrap_or_default() }
}

/// Path of the objects of an object's kind, in a namespace where the kind has them.
pub fn collection(object: &Value, namespace: &str) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = format!("{}s", kind.to_lowercase().replace("class", "classe"));
    match kind {
        "Namespace"
        | "ClusterRole"
        | "ClusterRoleBinding"
        | "PriorityClass"
        | "StorageClass"
        | "CustomResourceDefinition" => {
            format!("{group}/{plural}")
        }
        _ => format!("{group}/namespaces/{namespace}/{plural}"),
    }
}

/// Path of an object.
pub fn path(object: &Value, namespace: &str) -> String {
    format!("{}/{}", collection(object, namespace), object["metadata"]["name"].as_str().unwrap())
}

/// Applies an object as a person; it must be taken.
pub async fn put(client: &Client, namespace: &str, object: &Value) -> Value {
    let answer = send(client, "APPLY", &path(object, namespace), object).await;
    answer.taken().unwrap_or_else(|e| panic!("{object}: {e}"));
    answer.body
}

/// Makes a namespace that no earlier run has used. Its name.
pub async fn namespace(client: &Client, name: &str, labels: Value) -> String {
    static RUN: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis());
    let name = format!("{name}-{}", *RUN);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    put(client, "", &object).await;
    name
}

/// A manifest of one of Gantry's kinds.
pub fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// An operator that runs in this process.
pub struct Operator {
    /// Its figures.
    pub metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    /// Starts one for some namespaces, with its Lease in `home`.
    pub fn start(client: Client, identity: &str, home: &str, watched: &[&str]) -> Self {
        let settings = Settings {
            watch_namespaces: watched.iter().map(|n| (*n).to_owned()).collect(),
            namespace: home.into(),
            identity: identity.into(),
            resync_seconds: 5,
            ..Settings::default()
        };
        let metrics = Metrics::new().unwrap();
        let engine = |_| -> Arc<dyn gantry::engine::Engine> { Arc::new(FakeEngine::new(World::new(1))) };
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(()) };
        let task = tokio::spawn(gantry::run::lead(client, settings, engine, metrics.clone(), stopped));
        Self { metrics, stop: Some(stop), task }
    }

    /// Does it lead?
    pub fn leads(&self) -> bool {
        self.metrics.leader.get() == 1
    }

    /// Passes that it made over BrokerClusters.
    pub fn passes(&self) -> u64 {
        self.metrics.reconciles.with_label_values(&["BrokerCluster", "Succeeded"]).get()
    }

    /// Has it ended?
    pub fn ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells it to stop, as SIGTERM does, and waits for its end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.take();
        self.end().await
    }

    /// Waits for its end.
    pub async fn end(self) -> anyhow::Result<()> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic")
    }
}

/// Asks until the answer is `Ok`.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All documents of a file, from the root of the repository.
pub fn documents(file: &str) -> Vec<Value> {
    use serde::Deserialize;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap());
    documents.filter(|d| !d.is_null()).collect()
}
