//! Speaks to running processes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use gantry_remoting::access::{ListAcls, ListUsers};
use gantry_remoting::broker::GetBrokerConfig;
use gantry_remoting::cluster::GetNameServerConfig;
use gantry_remoting::consume::GetRequestModes;
use gantry_remoting::consumption::{GetBrokerConsumeStats, GetTimerMetrics};
use gantry_remoting::controller::GetControllerConfig;
use gantry_remoting::group::GetAllGroups;
use gantry_remoting::stats::{
    ConsumeStats, ConsumerConnections, GetAllConsumerOffsets, GetConsumeStats, GetConsumerConnections,
    GetTopicConsumers, GetTopicStats, TopicStats,
};
use gantry_remoting::topic::GetAllTopics;
use gantry_remoting::{Code, Command, Credentials, Request, ResponseCode};

use super::breaker::Breaker;
use super::connection::{Connect, Connection, Lost, PlainTcp};
use super::pool::{NoConnection, Pool};
use super::{
    BrokerAccess, BrokerConsumption, BrokerMetadata, ClusterAddresses, ClusterId, ConfigTarget, ConsumerOffsets,
    Engine, EngineError, EngineFacts, EngineMetrics, EngineWrite, WriteOutcome,
};

/// How long to wait and how much to ask at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection, resolving its name included. Default 2 s: within a cluster it takes milliseconds, and one lost packet costs 1 s.
    pub connect: Duration,
    /// For one question, waiting and connecting included. Default 3 s, the engine's own clients' default.
    pub call: Duration,
    /// For one change, waiting and connecting included. Default 15 s: the controllers take up to 5 s for an election, and a busy broker took 0.2 s
    /// for 500 topics.
    pub write: Duration,
    /// For one whole observation. Default 5 s.
    pub observe: Duration,
    /// For one whole [`EngineWrite`], whatever it takes. Default 60 s.
    pub execute: Duration,
    /// Calls under way at once on one address. Default 8: the engine serves admin requests with 16 threads at most.
    pub concurrency: usize,
    /// Topics or consumer groups in one request. Default 500, some 100 KB.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(2),
            call: Duration::from_secs(3),
            write: Duration::from_secs(15),
            observe: Duration::from_secs(5),
            execute: Duration::from_secs(60),
            concurrency: 8,
            batch: 500,
        }
    }
}

type Sign = dyn Fn(&ClusterId) -> Option<Credentials> + Send + Sync;
type Now = dyn Fn() -> Instant + Send + Sync;

/// Speaks to running processes of all clusters.
pub struct RemotingEngine {
    pub(super) limits: Limits,
    pool: Pool,
    breakers: Mutex<HashMap<ClusterId, Breaker>>,
    metrics: Option<EngineMetrics>,
    credentials: Arc<Sign>,
    now: Arc<Now>,
}

impl RemotingEngine {
    /// Plain connections, no signatures, the system's clock.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_connect(limits, Arc::new(PlainTcp))
    }

    /// The same over connections of another kind, such as [`super::Tls`].
    #[must_use]
    pub fn with_connect(limits: Limits, connect: Arc<dyn Connect>) -> Self {
        RemotingEngine {
            limits,
            pool: Pool::new(connect, limits.concurrency, limits.connect),
            breakers: Mutex::default(),
            metrics: None,
            credentials: Arc::new(|_| None),
            now: Arc::new(Instant::now),
        }
    }

    /// The same with figures about its calls.
    #[must_use]
    pub fn with_metrics(mut self, metrics: EngineMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// The same with requests signed for the clusters that `credentials` knows.
    #[must_use]
    pub fn with_credentials(
        mut self,
        credentials: impl Fn(&ClusterId) -> Option<Credentials> + Send + Sync + 'static,
    ) -> Self {
        self.credentials = Arc::new(credentials);
        self
    }

    /// The same with another clock for the circuit breakers.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Puts one question and reads its answer.
    pub(super) async fn ask<R: Request>(
        &self,
        cluster: &ClusterId,
        address: &str,
        request: &R,
    ) -> Result<R::Answer, EngineError> {
        let began = Instant::now();
        let result = match self.call(cluster, address, R::CODE, request.command()).await {
            Ok(reply) => request.answer(&reply).map_err(|error| EngineError::answer(address, R::CODE, error)),
            Err(error) => Err(error),
        };
        if let Some(metrics) = &self.metrics {
            metrics.record(R::CODE, result.as_ref().err().map_or("Succeeded", EngineError::reason), began.elapsed());
        }
        result
    }

    async fn call(
        &self,
        cluster: &ClusterId,
        address: &str,
        code: Code,
        command: Command,
    ) -> Result<Command, EngineError> {
        self.breaker(cluster, |breaker, now| breaker.admit(now)).map_err(|left| EngineError::CircuitOpen {
            cluster: cluster.to_string(),
            retry_after_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })?;
        let command = match (self.credentials)(cluster) {
            Some(credentials) => credentials.sign(command),
            None => command,
        };
        let within = if code.writes() { self.limits.write } else { self.limits.call };
        let result = match tokio::time::timeout(within, self.exchange(address, code, command)).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::timed_out(address, code, within)),
        };
        self.breaker(cluster, |breaker, now| match &result {
            Err(EngineError::EngineTimedOut { .. }) => breaker.timed_out(now),
            _ => breaker.answered(),
        });
        result
    }

    /// One exchange on the address's connection; once more on a new one when a reused one turns out to be broken and the request changes nothing.
    async fn exchange(&self, address: &str, code: Code, command: Command) -> Result<Command, EngineError> {
        let peer = self.pool.peer(address);
        let _slot = peer.slot().await;
        loop {
            let connected = self.pool.connection(&peer, address).await.map_err(|failure| match failure {
                NoConnection::Refused(problem) => EngineError::unreachable(address, problem),
                NoConnection::TimedOut => EngineError::timed_out(address, code, self.pool.connect_timeout()),
            })?;
            let doubt = DoubtUnlessAnswered { connection: &connected.connection, answered: false };
            match doubt.watch(connected.connection.call(command.clone())).await {
                Ok(reply) => return Ok(reply),
                Err(Lost::Broken) if connected.reused && !code.writes() => {}
                Err(Lost::Broken) => return Err(EngineError::unreachable(address, "the connection broke")),
                Err(Lost::Request(error)) => {
                    return Err(EngineError::EngineRequestTooLarge {
                        address: address.to_owned(),
                        problem: error.to_string(),
                    });
                }
            }
        }
    }

    fn breaker<T>(&self, cluster: &ClusterId, change: impl FnOnce(&mut Breaker, Instant) -> T) -> T {
        let now = (self.now)();
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut breaker = breakers.remove(cluster).unwrap_or_default();
        let result = change(&mut breaker, now);
        // Clusters come and go; only those in trouble need be remembered.
        if !breaker.is_pristine() {
            breakers.insert(cluster.clone(), breaker);
        }
        result
    }
}

/// Takes a connection on which a call was given up out of use.
struct DoubtUnlessAnswered<'a> {
    connection: &'a Connection,
    answered: bool,
}

impl DoubtUnlessAnswered<'_> {
    async fn watch<T>(mut self, call: impl Future<Output = T>) -> T {
        let result = call.await;
        self.answered = true;
        result
    }
}

impl Drop for DoubtUnlessAnswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.doubt();
        }
    }
}

impl Engine for RemotingEngine {
    fn observe<'a>(&'a self, addresses: &'a ClusterAddresses) -> BoxFuture<'a, EngineFacts> {
        super::observe::observe(self, addresses).boxed()
    }

    fn metadata<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerMetadata, EngineError>> {
        async move {
            let topics = self.ask(cluster, broker, &GetAllTopics);
            let groups = self.ask(cluster, broker, &GetAllGroups);
            let modes = self.ask(cluster, broker, &GetRequestModes);
            let (topics, mut groups, modes) = futures::try_join!(topics, groups, modes)?;
            for (group, modes) in modes {
                // Modes outlive their group.
                if let Some(group) = groups.get_mut(&group) {
                    group.request_modes = modes;
                }
            }
            Ok(BrokerMetadata::new(topics, groups))
        }
        .boxed()
    }

    fn topic_stats<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Option<TopicStats>, EngineError>> {
        async move {
            match self.ask(cluster, broker, &GetTopicStats { topic: topic.to_owned() }).await {
                Ok(stats) => Ok(Some(stats)),
                Err(error) if error.refusal() == Some(ResponseCode::TopicNotExist) => Ok(None),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn topic_consumers<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        async move { self.ask(cluster, broker, &GetTopicConsumers { topic: topic.to_owned() }).await }.boxed()
    }

    fn consumption<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerConsumption, EngineError>> {
        async move {
            let groups = self.ask(cluster, broker, &GetBrokerConsumeStats);
            let delayed = async {
                match self.ask(cluster, broker, &GetTimerMetrics).await {
                    // Its word for a broker without a timer wheel: nothing waits there.
                    Err(error) if error.refusal() == Some(ResponseCode::SystemError) => Ok(BTreeMap::new()),
                    answer => answer,
                }
            };
            let (groups, delayed) = futures::try_join!(groups, delayed)?;
            Ok(BrokerConsumption { groups, delayed })
        }
        .boxed()
    }

    fn consume_stats<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumeStats, EngineError>> {
        async move { self.ask(cluster, broker, &GetConsumeStats { group: group.to_owned(), topic: None }).await }
            .boxed()
    }

    fn offsets<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerOffsets, EngineError>> {
        async move { self.ask(cluster, broker, &GetAllConsumerOffsets).await }.boxed()
    }

    fn access<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        acls: bool,
    ) -> BoxFuture<'a, Result<BrokerAccess, EngineError>> {
        async move {
            let users = self.ask(cluster, broker, &ListUsers).await?;
            let acls = if acls { self.ask(cluster, broker, &ListAcls).await? } else { BTreeMap::new() };
            Ok(BrokerAccess { users, acls })
        }
        .boxed()
    }

    fn consumers<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerConnections, EngineError>> {
        async move { self.ask(cluster, broker, &GetConsumerConnections { group: group.to_owned() }).await }.boxed()
    }

    fn config<'a>(
        &'a self,
        cluster: &'a ClusterId,
        target: &'a ConfigTarget,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        async move {
            match target {
                ConfigTarget::NameServer(address) => self.ask(cluster, address, &GetNameServerConfig).await,
                ConfigTarget::Controller(address) => self.ask(cluster, address, &GetControllerConfig).await,
                ConfigTarget::Broker(address) => self.ask(cluster, address, &GetBrokerConfig).await,
            }
        }
        .boxed()
    }

    fn execute<'a>(
        &'a self,
        cluster: &'a ClusterId,
        write: &'a EngineWrite,
    ) -> BoxFuture<'a, Result<WriteOutcome, EngineError>> {
        super::execute::execute(self, cluster, write).boxed()
    }
}
