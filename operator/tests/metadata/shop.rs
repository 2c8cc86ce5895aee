//! A cluster `ns/shop` of two replicas in memory, an API server in memory, and an operator that passes over its topics and groups.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry::broker_cluster::cluster::Cluster;
use gantry::broker_cluster::observe::addresses;
use gantry::broker_cluster::parse::parse;
use gantry::config::Settings;
use gantry::context::Context;
use gantry::engine::fake::{FakeEngine, World};
use gantry::leader::Leadership;
use gantry::metadata::pass::pass;
use gantry::metadata::work::{Memory, Work};
use gantry::metrics::Metrics;
use gantry_crds::{BrokerCluster, ConsumerGroup, Topic};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{Api, Key};
use crate::counting::Counting;

/// 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600;

pub struct Shop {
    pub api: Api,
    pub engine: Counting,
    pub ctx: Context,
    pub now: Arc<Mutex<i64>>,
    memory: Arc<Mutex<Memory>>,
}

impl Shop {
    /// A cluster with this spec, up and in sync.
    pub async fn new(spec: Value) -> Self {
        let api = Api::default();
        let now = Arc::new(Mutex::new(BEGIN));
        let cluster = json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster",
            "metadata": {"name": "shop", "namespace": "ns", "uid": "shop", "generation": 1}, "spec": spec,
        });
        put(&api, "brokerclusters", cluster);
        let mut engine = Counting::new(FakeEngine::new(World::new(1)));
        engine.fuse = api.fuse.clone();
        let clock = now.clone();
        let ctx = context(&api, &engine).with_clock(move || Timestamp::from_second(*clock.lock().unwrap()).unwrap());
        let shop = Self { api, engine, ctx, now, memory: Arc::default() };
        let addresses = addresses(&shop.cluster());
        shop.engine.world(|w| {
            addresses.name_servers.iter().for_each(|a| w.add_name_server(a));
            addresses.controllers.iter().for_each(|a| w.add_controller(a));
            addresses.groups.iter().for_each(|(g, all)| all.iter().for_each(|a| w.add_broker(g, a)));
            let brokers = addresses.groups.values().flatten();
            addresses.name_servers.iter().chain(&addresses.controllers).chain(brokers).for_each(|a| w.start(a));
        });
        shop.wait(40);
        shop
    }

    pub fn cluster(&self) -> Cluster {
        parse(&self.get::<BrokerCluster>("brokerclusters", "ns", "shop").unwrap(), &Settings::default()).unwrap()
    }

    /// Address of a broker group's master.
    pub fn master(&self, group: &str) -> String {
        self.engine.world(|w| w.serving_master(group).map(str::to_owned)).unwrap()
    }

    /// Address of the one replica of a broker group of two.
    pub fn replica(&self, group: &str) -> String {
        let master = self.master(group);
        self.cluster().broker_addresses(group).into_iter().find(|a| *a != master).unwrap()
    }

    pub fn topic(&self, name: &str, spec: Value) {
        self.declare("Topic", "topics", "ns", name, spec);
    }

    pub fn group(&self, name: &str, spec: Value) {
        self.declare("ConsumerGroup", "consumergroups", "ns", name, spec);
    }

    /// An object as the API server would hold it, created later than those before it.
    pub fn declare(&self, kind: &str, plural: &str, namespace: &str, name: &str, spec: Value) {
        let mut all = json!({"clusterRef": {"name": "shop", "namespace": "ns"}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let age = i64::try_from(self.api.with(|s| s.objects.len())).unwrap();
        put(
            &self.api,
            plural,
            json!({
                "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": kind, "spec": all,
                "metadata": {
                    "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "generation": 1,
                    "creationTimestamp": Timestamp::from_second(BEGIN + age).unwrap().to_string(),
                },
            }),
        );
    }

    pub fn edit(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.api.with(|s| {
            let object = s.objects.get_mut(&(plural.into(), "ns".into(), name.into())).unwrap();
            change(object);
            object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
        });
    }

    /// As `kubectl delete`.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let now = Timestamp::from_second(*self.now.lock().unwrap()).unwrap().to_string();
        self.api.with(|s| {
            let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
            let object = s.objects.get_mut(&key).unwrap();
            if object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
                s.objects.remove(&key);
            } else {
                object["metadata"]["deletionTimestamp"] = json!(now);
            }
        });
    }

    pub fn get<T: DeserializeOwned>(&self, plural: &str, namespace: &str, name: &str) -> Option<T> {
        let key: Key = (plural.into(), namespace.into(), name.into());
        self.api.with(|s| s.objects.get(&key).cloned()).map(|v| serde_json::from_value(v).unwrap())
    }

    /// Status, reason and message of the Ready condition.
    pub fn ready(&self, plural: &str, name: &str) -> (String, String, String) {
        self.condition(plural, "ns", name, "Ready")
    }

    pub fn condition(&self, plural: &str, namespace: &str, name: &str, type_: &str) -> (String, String, String) {
        let object: Value = self.get(plural, namespace, name).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|c| c["type"] == type_).cloned().unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// Seconds pass, in the engine and on the operator's clock.
    pub fn wait(&self, seconds: u64) {
        self.engine.world(|w| w.ticks(seconds));
        *self.now.lock().unwrap() += i64::try_from(seconds).unwrap();
    }

    /// One pass over everything that names the cluster, as it is now.
    pub async fn pass(&self) -> Duration {
        pass(&self.ctx, &self.work()).await.unwrap()
    }

    /// Passes, and the time between them, until nothing is under way.
    pub async fn settle(&self) {
        for _ in 0..60 {
            let again = self.pass().await;
            if again > Duration::from_secs(2) {
                return;
            }
            self.wait(again.as_secs());
        }
        panic!("it does not settle: {:#?}", self.api.with(|s| s.objects.clone()));
    }

    /// Everything that names the cluster, as the API server has it now.
    pub fn work(&self) -> Work {
        fn all<T: DeserializeOwned>(api: &Api, plural: &str) -> Vec<Arc<T>> {
            let of = |(key, value): (&Key, &Value)| {
                (key.0 == plural).then(|| Arc::new(serde_json::from_value(value.clone()).unwrap()))
            };
            api.with(|s| s.objects.iter().filter_map(of).collect())
        }
        Work {
            key: ("ns".into(), "shop".into()),
            cluster: all::<BrokerCluster>(&self.api, "brokerclusters").into_iter().next(),
            topics: all::<Topic>(&self.api, "topics"),
            groups: all::<ConsumerGroup>(&self.api, "consumergroups"),
            memory: self.memory.clone(),
        }
    }

    /// One pass over what was watched some time ago.
    pub async fn pass_over(&self, watched: &Work) -> Duration {
        pass(&self.ctx, watched).await.unwrap()
    }

    /// A pass that is given up where it waits for the engine.
    pub async fn pass_that_is_cut_off(&self, silent: &'static str) {
        *self.engine.silent.lock().unwrap() = Some(silent);
        let cut_off = tokio::time::timeout(Duration::from_secs(120), self.pass()).await;
        assert!(cut_off.is_err(), "nobody asked for {silent}");
        *self.engine.silent.lock().unwrap() = None;
    }

    /// A context of its own, for what runs by itself.
    pub fn context(&self) -> Arc<Context> {
        let clock = self.now.clone();
        let now = move || Timestamp::from_second(*clock.lock().unwrap()).unwrap();
        Arc::new(context(&self.api, &self.engine).with_clock(now))
    }

    /// What the operator keeps in memory is gone.
    pub fn restart_the_operator(&mut self) {
        self.memory = Arc::default();
    }

    /// The value of a counter.
    pub fn repairs(&self, kind: &str, reason: &str) -> u64 {
        self.ctx.metrics.repairs.with_label_values(&[kind, reason]).get()
    }
}

fn context(api: &Api, engine: &Counting) -> Context {
    let metrics = Metrics::new().unwrap();
    Context::new(api.client(), Settings::default(), Arc::new(engine.clone()), Leadership::alone(), metrics)
}

fn put(api: &Api, plural: &str, object: Value) {
    let text = |key: &str| object["metadata"][key].as_str().unwrap().to_owned();
    let key = (plural.to_owned(), text("namespace"), text("name"));
    api.with(|s| s.objects.insert(key, object));
}
