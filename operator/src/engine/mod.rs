//! What Gantry asks of RocketMQ, behind one small trait: [`Engine`].
//!
//! [`RemotingEngine`] speaks to running processes, [`fake::FakeEngine`] to a world in memory that the simulation drives. Facts and changes are
//! plain data that goldens can hold ([`EngineFacts`], [`EngineWrite`]). An unknown fact is [`Fact::Unknown`], never an empty one.

mod access;
mod address;
mod audit;
mod batch;
mod breaker;
mod client;
mod connection;
mod error;
mod execute;
mod facts;
pub mod fake;
mod metrics;
mod observe;
mod pool;
mod questions;
pub mod system;
#[cfg(test)]
mod tests;
mod tls;
mod write;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use gantry_remoting::stats::{ConsumeStats, ConsumerConnections, QueueOffsets, TopicStats};

pub use access::{ACLS_PROVIDER, AccessChange, BrokerAccess, USERS_PROVIDER, kept};
pub use address::{ClusterAddresses, ClusterId};
pub use breaker::Breaker;
pub use client::{Limits, RemotingEngine};
pub use connection::{Connect, Stream};
pub use error::EngineError;
pub use facts::{
    BrokerConsumption, BrokerFacts, BrokerMetadata, BrokerRuntime, ControllerFacts, ControllerLeader, EngineFacts,
    Fact, GroupFacts, Registered, ReplicaFacts, Replication,
};
pub use metrics::EngineMetrics;
pub use tls::Tls;
pub use write::{ConfigTarget, EngineWrite, WriteOutcome, same_value};

/// Where consumer groups go on reading, by topic and group, then by queue.
pub type ConsumerOffsets = BTreeMap<(String, String), QueueOffsets>;

/// RocketMQ, as far as the operator needs it. Every method is bounded in time by the implementation, and none retries a write.
pub trait Engine: Send + Sync {
    /// Asks everybody in `addresses` at once what they are and what they see. Never fails as a whole: what could not be learnt is
    /// [`Fact::Unknown`] with the reason.
    fn observe<'a>(&'a self, addresses: &'a ClusterAddresses) -> BoxFuture<'a, EngineFacts>;

    /// What one broker counts when it is asked how it is, see [`BrokerRuntime`].
    fn runtime<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerRuntime, EngineError>>;

    /// All topics and consumer groups of one broker (`host:port`), the engine's own among them: three calls, whatever their number.
    fn metadata<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerMetadata, EngineError>>;

    /// How many messages a topic still has on one broker; none when the broker has no such topic.
    fn topic_stats<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Option<TopicStats>, EngineError>>;

    /// The consumer groups that consume a topic on one broker, or once did.
    fn topic_consumers<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, EngineError>>;

    /// How far all consumer groups are on one master, and what waits for its time there: two calls, whatever their number.
    fn consumption<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerConsumption, EngineError>>;

    /// Messages that wait for their time in the timer wheel of one master, by topic. Those on RocketMQ 4's fixed levels are not among them: nobody tells
    /// whose they are.
    fn delayed<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, i64>, EngineError>>;

    /// How far a consumer group is on one broker, with its retry topics. Ask the masters that have the topics.
    fn consume_stats<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumeStats, EngineError>>;

    /// Up to where all consumer groups have read all topics of one broker: one call.
    fn offsets<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerOffsets, EngineError>>;

    /// All users of one broker, and its ACLs with `acls`: a call for each. Refused by a broker without a provider for them, see [`kept`].
    fn access<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        acls: bool,
    ) -> BoxFuture<'a, Result<BrokerAccess, EngineError>>;

    /// The clients of a consumer group that are connected to one broker.
    fn consumers<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerConnections, EngineError>>;

    /// The configuration with which one process runs.
    fn config<'a>(
        &'a self,
        cluster: &'a ClusterId,
        target: &'a ConfigTarget,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>>;

    /// Changes something, and writes a line to the audit log (tracing target `audit`) for every request that this takes. The caller checks right
    /// before that it still leads.
    fn execute<'a>(
        &'a self,
        cluster: &'a ClusterId,
        write: &'a EngineWrite,
    ) -> BoxFuture<'a, Result<WriteOutcome, EngineError>>;
}
