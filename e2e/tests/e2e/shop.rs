//! The cluster that all tests share, made once. Some have it for themselves, those that only use topics and groups of their own use it together.

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
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
/// they call themselves busy, and no JVM lives long enough to get back what its second compiler takes. Lite topics need the light queues.
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
    jvm: {options: ["-XX:TieredStopAtLevel=1"]}
  proxies: {replicas: 2, jvm: {options: ["-XX:TieredStopAtLevel=1"]}}
  endpoints:
  - {name: private, type: ClusterIP}
"#;

/// The cluster as it is declared; whoever may write it has the cluster for itself. A change that restarts pods stays: nobody waits for the way back.
static DECLARED: RwLock<String> = RwLock::new(String::new());
static NAMESPACE: OnceLock<Namespace> = OnceLock::new();
/// Why the cluster did not become well before some test: no later one need wait for it again.
static BROKEN: OnceLock<String> = OnceLock::new();

/// The cluster, ready.
pub struct Shop {
    /// Its namespace.
    pub namespace: &'static Namespace,
    declared: Declared,
}

enum Declared {
    Alone(RwLockWriteGuard<'static, String>),
    Together(RwLockReadGuard<'static, String>),
}

impl Declared {
    fn text(&self) -> &str {
        match self {
            Self::Alone(text) => text,
            Self::Together(text) => text,
        }
    }
}

impl Shop {
    /// The cluster, ready, for one test alone; made where it is not there yet.
    pub fn alone() -> Result<Self> {
        let mut declared = DECLARED.write().unwrap_or_else(PoisonError::into_inner);
        if declared.is_empty() {
            MANIFEST.clone_into(&mut declared);
        }
        Self::ready(Declared::Alone(declared))
    }

    /// The cluster, ready, for a test that uses topics and consumer groups of its own and disturbs nobody who does the same.
    pub fn together() -> Result<Self> {
        loop {
            let declared = DECLARED.read().unwrap_or_else(PoisonError::into_inner);
            if !declared.is_empty() {
                return Self::ready(Declared::Together(declared));
            }
            drop(declared);
            Self::alone()?;
        }
    }

    fn ready(declared: Declared) -> Result<Self> {
        if let Some(why) = BROKEN.get() {
            bail!("the cluster was broken by a test before this one: {why}");
        }
        let namespace = match NAMESPACE.get() {
            Some(n) => n,
            None => {
                let made = Namespace::create("shop")?;
                NAMESPACE.get_or_init(|| made)
            }
        };
        namespace.apply(declared.text())?;
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
        let changed = self.declared_with(from, to)?;
        match &mut self.declared {
            Declared::Alone(text) => **text = changed,
            Declared::Together(_) => bail!("others use the cluster, too"),
        }
        self.declare()
    }

    /// Declares `to` in the place of `from`, until the next test.
    pub fn change_for_now(&self, from: &str, to: &str) -> Result<()> {
        ensure!(matches!(self.declared, Declared::Alone(_)), "others use the cluster, too");
        self.namespace.apply(&self.declared_with(from, to)?)
    }

    /// Applies what is declared.
    pub fn declare(&self) -> Result<()> {
        self.namespace.apply(self.declared.text())
    }

    fn declared_with(&self, from: &str, to: &str) -> Result<String> {
        let declared = self.declared.text();
        ensure!(declared.contains(from), "there is no {from:?} in the manifest");
        Ok(declared.replace(from, to))
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
