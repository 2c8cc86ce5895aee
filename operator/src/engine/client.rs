//! Speaks to running processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gantry_remoting::{Code, Command, Credentials, Request};

use super::breaker::Breaker;
use super::connection::{Connect, Connection, Lost, PlainTcp};
use super::pool::{NoConnection, Pool};
use super::{ClusterId, EngineError, EngineMetrics};

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
type Leads = dyn Fn() -> bool + Send + Sync;
type Now = dyn Fn() -> Instant + Send + Sync;

/// Speaks to running processes of all clusters.
pub struct RemotingEngine {
    pub(super) limits: Limits,
    pool: Pool,
    breakers: Mutex<HashMap<ClusterId, Breaker>>,
    disks: Mutex<HashMap<(ClusterId, String), Disk>>,
    metrics: Option<EngineMetrics>,
    credentials: Arc<Sign>,
    leads: Arc<Leads>,
    now: Arc<Now>,
}

/// How full a volume was, and when.
struct Disk {
    at: Instant,
    ratio: Option<f64>,
}

/// For how long what a broker said of its volume is taken for what is: to be told costs it a third of a second of a core, see [`super::BrokerRuntime`].
const DISK_FRESH: Duration = Duration::from_secs(30);

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
            disks: Mutex::default(),
            metrics: None,
            credentials: Arc::new(|_| None),
            leads: Arc::new(|| true),
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

    /// The same for a process that may change something only while `leads` says so. It is asked right before each request that does: a change of many
    /// requests may outlast the lead.
    #[must_use]
    pub fn with_lead(mut self, leads: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.leads = Arc::new(leads);
        self
    }

    /// The same with another clock for the circuit breakers and for what is known from before.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// How full a broker's volume is, where it said so a moment ago.
    pub(super) fn disk_ratio(&self, broker: &(ClusterId, String)) -> Option<Option<f64>> {
        let (now, disks) = ((self.now)(), self.disks.lock().unwrap_or_else(PoisonError::into_inner));
        disks.get(broker).filter(|disk| now - disk.at < DISK_FRESH).map(|disk| disk.ratio)
    }

    /// Remembers what a broker said of its volume, and forgets what is too old.
    pub(super) fn keep_disk_ratio(&self, broker: (ClusterId, String), ratio: Option<f64>) {
        let (now, mut disks) = ((self.now)(), self.disks.lock().unwrap_or_else(PoisonError::into_inner));
        disks.retain(|_, disk| now - disk.at < DISK_FRESH);
        disks.insert(broker, Disk { at: now, ratio });
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
            if code.writes() && !(self.leads)() {
                return Err(EngineError::NotTried { because: "this process does not lead any more".into() });
            }
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
