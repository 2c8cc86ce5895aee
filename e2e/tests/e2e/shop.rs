//! The cluster that all tests share: made once, used by one test at a time.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use gantry_e2e::clients::Clients;
use gantry_e2e::kubectl::Namespace;

/// gRPC endpoint of the cluster.
pub const GRPC: &str = "shop-proxy-private.shop.svc.cluster.local:8081";
/// Remoting endpoint of the cluster.
pub const REMOTING: &str = "shop-proxy-private.shop.svc.cluster.local:8080";
/// Long enough for seven JVMs that start at once on two busy cores.
pub const START: Duration = Duration::from_secs(420);

/// Two replicas: the smallest cluster in which a master can be handed over. A test machine is slow, not broken: its brokers wait longer before
/// they call themselves busy. Lite topics need the light queues.
const MANIFEST: &str = r#"
apiVersion: rocketmq.gantry.dev/v1alpha1
kind: BrokerCluster
metadata: {name: shop}
spec:
  nameServers: {replicas: 2}
  controllers: {replicas: 1}
  brokers:
    groups: 1
    replicas: 2
    storage: {size: 1Gi}
    config: {waitTimeMillsInSendQueue: "5000", enableLmq: "true", enableMultiDispatch: "true"}
  proxies: {replicas: 2}
  endpoints:
  - {name: private, type: ClusterIP}
"#;

/// The cluster as it is declared; whoever holds it has the cluster for itself. A change that restarts pods stays: nobody waits for the way back.
static DECLARED: Mutex<String> = Mutex::new(String::new());
static NAMESPACE: OnceLock<Namespace> = OnceLock::new();
/// Why the cluster did not become well before some test: no later one need wait for it again.
static BROKEN: OnceLock<String> = OnceLock::new();

/// The cluster, ready.
pub struct Shop {
    /// Its namespace.
    pub namespace: &'static Namespace,
    declared: MutexGuard<'static, String>,
}

impl Shop {
    /// The cluster, ready; made where it is not there yet.
    pub fn ready() -> Result<Self> {
        let mut declared = DECLARED.lock().unwrap_or_else(PoisonError::into_inner);
        if declared.is_empty() {
            MANIFEST.clone_into(&mut declared);
        }
        let namespace = match NAMESPACE.get() {
            Some(n) => n,
            None => {
                let made = Namespace::create("shop")?;
                NAMESPACE.get_or_init(|| made)
            }
        };
        if let Some(why) = BROKEN.get() {
            bail!("the cluster was broken by a test before this one: {why}");
        }
        namespace.apply(&declared)?;
        let well = namespace
            .wait_for_condition("brokercluster/shop", "Degraded", "False", START)
            .and_then(|_| namespace.wait_for_condition("brokercluster/shop", "Ready", "True", START));
        if let Err(error) = well {
            BROKEN.get_or_init(|| format!("{error:#}"));
            return Err(error);
        }
        Ok(Self { namespace, declared })
    }

    /// Declares `to` in the place of `from`, for this test and all that follow.
    pub fn change(&mut self, from: &str, to: &str) -> Result<()> {
        *self.declared = self.declared_with(from, to)?;
        self.declare()
    }

    /// Declares `to` in the place of `from`, until the next test.
    pub fn change_for_now(&self, from: &str, to: &str) -> Result<()> {
        self.namespace.apply(&self.declared_with(from, to)?)
    }

    /// Applies what is declared.
    pub fn declare(&self) -> Result<()> {
        self.namespace.apply(&self.declared)
    }

    fn declared_with(&self, from: &str, to: &str) -> Result<String> {
        ensure!(self.declared.contains(from), "there is no {from:?} in the manifest");
        Ok(self.declared.replace(from, to))
    }

    /// The official clients beside it.
    pub fn clients(&self) -> Result<Clients<'static>> {
        Clients::start(self.namespace)
    }

    /// Applies a topic of a type and waits until it is ready.
    pub fn topic(&self, name: &str, type_: &str) -> Result<()> {
        self.namespace.apply(&format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop}}, type: {type_}, queues: 4}}}}"
        ))?;
        self.namespace.wait_for_condition(
            &format!("topics.rocketmq.gantry.dev/{name}"),
            "Ready",
            "True",
            Duration::from_secs(90),
        )?;
        Ok(())
    }

    /// Applies a consumer group and waits until it is ready.
    pub fn group(&self, name: &str, delivery: &str) -> Result<()> {
        self.namespace.apply(&format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: ConsumerGroup, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop}}, delivery: {delivery}}}}}"
        ))?;
        let what = format!("consumergroups.rocketmq.gantry.dev/{name}");
        self.namespace.wait_for_condition(&what, "Ready", "True", Duration::from_secs(90))?;
        Ok(())
    }
}
