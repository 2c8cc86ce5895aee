//! The cluster that all tests share: made once, used by one test at a time.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
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
pub const MANIFEST: &str = r#"
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

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static NAMESPACE: OnceLock<Namespace> = OnceLock::new();

/// The cluster, ready.
pub struct Shop {
    /// Its namespace.
    pub namespace: &'static Namespace,
    _turn: MutexGuard<'static, ()>,
}

impl Shop {
    /// The cluster, ready; made where it is not there yet.
    pub fn ready() -> Result<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = match NAMESPACE.get() {
            Some(n) => n,
            None => {
                let made = Namespace::create("shop")?;
                NAMESPACE.get_or_init(|| made)
            }
        };
        namespace.apply(MANIFEST)?;
        namespace.wait_for_condition("brokercluster/shop", "Degraded", "False", START)?;
        namespace.wait_for_condition("brokercluster/shop", "Ready", "True", START)?;
        Ok(Self { namespace, _turn: turn })
    }

    /// The official clients beside it.
    pub fn clients(&self) -> Result<Clients<'_>> {
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
