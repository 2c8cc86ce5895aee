//! RocketMQ in memory: a world of processes, disks and connections that goes on by ticks, and an [`Engine`] that asks it.
//!
//! Deterministic, without a clock: one [`World::tick`] is one second of the engine's. Durations are those that were measured on 5.5.0; see the
//! constants of [`world`].

mod access;
mod answers;
mod brokers;
mod changes;
mod consumers;
mod controllers;
#[cfg(test)]
mod tests;
pub mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use gantry_remoting::stats::{ConsumeStats, ConsumerConnections, TopicStats};

pub use consumers::Reader;
pub use world::{Group, World};

use super::{
    BrokerAccess, BrokerConsumption, BrokerMetadata, BrokerRuntime, ClusterAddresses, ClusterId, ConfigTarget,
    ConsumerOffsets, Engine, EngineError, EngineFacts, EngineWrite, WriteOutcome,
};

/// An [`Engine`] over a [`World`] that the test shares and moves on.
#[derive(Clone)]
pub struct FakeEngine {
    world: Arc<Mutex<World>>,
}

impl FakeEngine {
    /// Asks this world.
    #[must_use]
    pub fn new(world: World) -> Self {
        FakeEngine { world: Arc::new(Mutex::new(world)) }
    }

    /// Looks at the world, or does something to it.
    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine for FakeEngine {
    fn observe<'a>(&'a self, addresses: &'a ClusterAddresses) -> BoxFuture<'a, EngineFacts> {
        async move { self.world(|world| world.observe(addresses)) }.boxed()
    }

    fn runtime<'a>(&'a self, _: &'a ClusterId, broker: &'a str) -> BoxFuture<'a, Result<BrokerRuntime, EngineError>> {
        async move { self.world(|world| world.runtime(broker)) }.boxed()
    }

    fn metadata<'a>(&'a self, _: &'a ClusterId, broker: &'a str) -> BoxFuture<'a, Result<BrokerMetadata, EngineError>> {
        async move { self.world(|world| world.metadata(broker)) }.boxed()
    }

    fn topic_stats<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Option<TopicStats>, EngineError>> {
        async move { self.world(|world| world.topic_stats(broker, topic)) }.boxed()
    }

    fn topic_consumers<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        async move { self.world(|world| world.topic_consumers(broker, topic)) }.boxed()
    }

    fn consumption<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerConsumption, EngineError>> {
        async move { self.world(|world| world.consumption(broker)) }.boxed()
    }

    fn delayed<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, i64>, EngineError>> {
        async move { self.world(|world| world.delayed(broker)) }.boxed()
    }

    fn consume_stats<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumeStats, EngineError>> {
        async move { self.world(|world| world.consume_stats(broker, group)) }.boxed()
    }

    fn offsets<'a>(&'a self, _: &'a ClusterId, broker: &'a str) -> BoxFuture<'a, Result<ConsumerOffsets, EngineError>> {
        async move { self.world(|world| world.offsets(broker)) }.boxed()
    }

    fn access<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
        acls: bool,
    ) -> BoxFuture<'a, Result<BrokerAccess, EngineError>> {
        async move { self.world(|world| world.access(broker, acls)) }.boxed()
    }

    fn consumers<'a>(
        &'a self,
        _: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerConnections, EngineError>> {
        async move { self.world(|world| world.consumers(broker, group)) }.boxed()
    }

    fn config<'a>(
        &'a self,
        _: &'a ClusterId,
        target: &'a ConfigTarget,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        async move { self.world(|world| world.config(target.address())) }.boxed()
    }

    fn execute<'a>(
        &'a self,
        _: &'a ClusterId,
        write: &'a EngineWrite,
    ) -> BoxFuture<'a, Result<WriteOutcome, EngineError>> {
        async move { self.world(|world| world.execute(write)) }.boxed()
    }
}
