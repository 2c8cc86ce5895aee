//! An engine in memory that counts what it is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use gantry::engine::fake::{FakeEngine, World};
use gantry::engine::{
    BrokerAccess, BrokerConsumption, BrokerMetadata, BrokerRuntime, ClusterAddresses, ClusterId, ConfigTarget,
    ConsumerOffsets, Engine, EngineError, EngineFacts, EngineWrite, WriteOutcome,
};
use gantry_remoting::stats::{ConsumeStats, ConsumerConnections, TopicStats};

use crate::fuse::Fuse;

#[derive(Clone)]
pub struct Counting {
    engine: FakeEngine,
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    /// A question that is never answered.
    pub silent: Arc<Mutex<Option<&'static str>>>,
    /// When the operator that asks is killed.
    pub fuse: Fuse,
}

impl Counting {
    pub fn new(engine: FakeEngine) -> Self {
        Self { engine, calls: Arc::default(), silent: Arc::default(), fuse: Fuse::default() }
    }

    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        self.engine.world(f)
    }

    /// Questions by name since the last time.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// Changes since the last time.
    pub fn changes(&self) -> Vec<EngineWrite> {
        self.world(|w| std::mem::take(&mut w.journal))
    }

    fn is_silent(&self, what: &str) -> bool {
        *self.silent.lock().unwrap() == Some(what)
    }

    fn count(&self, what: &'static str) -> &FakeEngine {
        *self.calls.lock().unwrap().entry(what).or_default() += 1;
        &self.engine
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

impl Engine for Counting {
    fn observe<'a>(&'a self, addresses: &'a ClusterAddresses) -> BoxFuture<'a, EngineFacts> {
        let controllers_only = addresses.groups.values().all(Vec::is_empty);
        self.count(if controllers_only { "leaders" } else { "observe" }).observe(addresses)
    }

    fn runtime<'a>(&'a self, cluster: &'a ClusterId, broker: &'a str) -> Answer<'a, BrokerRuntime> {
        self.count("runtime").runtime(cluster, broker)
    }

    fn metadata<'a>(&'a self, cluster: &'a ClusterId, broker: &'a str) -> Answer<'a, BrokerMetadata> {
        self.count("metadata").metadata(cluster, broker)
    }

    fn topic_stats<'a>(&'a self, id: &'a ClusterId, broker: &'a str, topic: &'a str) -> Answer<'a, Option<TopicStats>> {
        self.count("topic_stats").topic_stats(id, broker, topic)
    }

    fn topic_consumers<'a>(&'a self, id: &'a ClusterId, broker: &'a str, topic: &'a str) -> Answer<'a, Vec<String>> {
        self.count("topic_consumers").topic_consumers(id, broker, topic)
    }

    fn consumption<'a>(&'a self, id: &'a ClusterId, broker: &'a str) -> Answer<'a, BrokerConsumption> {
        self.count("consumption").consumption(id, broker)
    }

    fn delayed<'a>(&'a self, id: &'a ClusterId, broker: &'a str) -> Answer<'a, BTreeMap<String, i64>> {
        self.count("delayed").delayed(id, broker)
    }

    fn consume_stats<'a>(&'a self, id: &'a ClusterId, broker: &'a str, group: &'a str) -> Answer<'a, ConsumeStats> {
        self.count("consume_stats").consume_stats(id, broker, group)
    }

    fn consumers<'a>(&'a self, id: &'a ClusterId, broker: &'a str, group: &'a str) -> Answer<'a, ConsumerConnections> {
        self.count("consumers").consumers(id, broker, group)
    }

    fn access<'a>(&'a self, id: &'a ClusterId, broker: &'a str, acls: bool) -> Answer<'a, BrokerAccess> {
        let answer = self.count("access").access(id, broker, acls);
        if self.is_silent("access") { std::future::pending().boxed() } else { answer }
    }

    fn offsets<'a>(&'a self, id: &'a ClusterId, broker: &'a str) -> Answer<'a, ConsumerOffsets> {
        let answer = self.count("offsets").offsets(id, broker);
        if self.is_silent("offsets") { std::future::pending().boxed() } else { answer }
    }

    fn config<'a>(&'a self, id: &'a ClusterId, target: &'a ConfigTarget) -> Answer<'a, BTreeMap<String, String>> {
        self.count("config").config(id, target)
    }

    fn execute<'a>(&'a self, cluster: &'a ClusterId, write: &'a EngineWrite) -> Answer<'a, WriteOutcome> {
        let written = self.count("execute").execute(cluster, write);
        self.fuse.burn(written).boxed()
    }
}
