//! Episodes of something going wrong under an audit: what was done, how long clients stood still, when all was whole again.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gantry_remoting::broker::GetHaStatus;
use serde_json::{Value, json};

use crate::audit::{Audit, Flow, Gap};
use crate::checks::{self, Progress};
use crate::engine::{BROKER, Engine};
use crate::faults::{Fault, Target};
use crate::kubectl::{Namespace, kubectl};
use crate::switches::{Seen, Watch};
use crate::wait::{Answer, until, until_every};

/// Name of the cluster and of its namespace.
pub const CLUSTER: &str = "ha";
/// Protocol and endpoint of its proxies.
pub const GRPC: (&str, &str) = ("grpc", "ha-proxy-default.ha.svc.cluster.local:8081");
const REMOTING: (&str, &str) = ("remoting", "ha-proxy-default.ha.svc.cluster.local:8080");

/// The smallest cluster that stands any one failure, asking for so little that two groups of it fit on two cores. A test machine is slow, not broken: its
/// brokers wait longer before they call themselves busy, and the second compiler stays off, which would take the processor from masters that are new.
const MANIFEST: &str = r#"
apiVersion: rocketmq.gantry.dev/v1alpha1
kind: BrokerCluster
metadata: {name: ha}
spec:
  nameServers: {replicas: 2, resources: {requests: {cpu: 50m}}}
  controllers: {replicas: 3, resources: {requests: {cpu: 50m}}}
  brokers:
    replicas: REPLICAS
    storage: {size: 1Gi, reclaimPolicy: Delete}
    config: {waitTimeMillsInSendQueue: "5000"}
    resources: {requests: {cpu: 100m}}
    jvm: {options: ["-XX:TieredStopAtLevel=1"]}
  proxies: {replicas: 2, resources: {requests: {cpu: 50m}}, jvm: {options: ["-XX:TieredStopAtLevel=1"]}}
"#;

/// Every type of message, over both protocols. The last is transactions: after a switch a 5.5.0 broker asks producers about each one whose end it has not
/// written down up to 15 times without a pause (docs/failure-modes.md), so that runs of many faults on small machines take the others only.
pub const FLOWS: [Flow; 7] = [
    flow("ha-normal", GRPC, "normal"),
    flow("ha-fifo", GRPC, "fifo"),
    flow("ha-delay", GRPC, "delay"),
    flow("ha-classic", REMOTING, "normal"),
    flow("ha-classic-ordered", REMOTING, "ordered"),
    flow("ha-classic-delay", REMOTING, "delay"),
    flow("ha-transaction", GRPC, "transaction"),
];

/// Those that leave the brokers time for other things.
pub const CALM: usize = 6;

const fn flow(topic: &'static str, (protocol, endpoint): (&'static str, &'static str), type_: &'static str) -> Flow {
    Flow { topic, protocol, endpoint, type_, rate: 10 }
}

/// That no other RocketMQ shares the machine: a report would measure it along.
///
/// # Errors
/// Where one does, with its name and what to do.
pub fn nothing_beside() -> Result<()> {
    let each = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}";
    let all = kubectl(&["get", "brokerclusters", "--all-namespaces", "-o", each])?;
    let others: Vec<&str> = all.split_whitespace().filter(|c| !c.starts_with(&format!("{CLUSTER}/"))).collect();
    ensure!(others.is_empty(), "{others:?} would be measured along: delete them, or run `make down` first");
    Ok(())
}

/// The cluster, with that many replicas, in a namespace of its own; made where it is not there yet. With topics and groups for `flows`.
///
/// # Errors
/// Where it does not become ready.
pub fn ground(replicas: usize, flows: &[Flow], limit: Duration) -> Result<Namespace> {
    let namespace = Namespace::create(CLUSTER)?;
    namespace.apply(&MANIFEST.replace("REPLICAS", &replicas.to_string()))?;
    for Flow { topic, type_, .. } in flows {
        let kind = match *type_ {
            "fifo" => "FIFO",
            "delay" => "Delay",
            "transaction" => "Transaction",
            _ => "Normal",
        };
        let delivery = if kind == "FIFO" { "Ordered" } else { "Concurrent" };
        declare(&namespace, topic, kind, delivery)?;
    }
    until(&format!("{CLUSTER} is as declared"), limit, || {
        let object = namespace.get(&format!("brokercluster/{CLUSTER}"))?;
        Ok(Answer::when(is_whole(&object), (), || object["status"]["conditions"].to_string()))
    })?;
    for Flow { topic, .. } in flows {
        are_ready(&namespace, topic, limit)?;
    }
    checks::replicas_are_apart(&namespace)?;
    Ok(namespace)
}

/// A topic, and groups of consumers who read it: `-readers`, and `-again` to look for what those missed.
fn declare(namespace: &Namespace, topic: &str, kind: &str, delivery: &str) -> Result<()> {
    let object = |kind: &str, name: &str, spec: &str| {
        format!("{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: {CLUSTER}}}{spec}}}}}
---
")
    };
    namespace.apply(&format!(
        "{}{}{}",
        object("Topic", topic, &format!(", type: {kind}, queues: 4")),
        object("ConsumerGroup", &format!("{topic}-readers"), &format!(", delivery: {delivery}")),
        object("ConsumerGroup", &format!("{topic}-again"), ""),
    ))
}

fn are_ready(namespace: &Namespace, topic: &str, limit: Duration) -> Result<()> {
    for what in
        [format!("topics.rocketmq.gantry.dev/{topic}"), format!("consumergroups.rocketmq.gantry.dev/{topic}-readers")]
    {
        namespace.wait_for_condition(&what, "Ready", "True", limit)?;
    }
    Ok(())
}

/// One more topic with its readers, ready.
///
/// # Errors
/// Where they do not become ready.
pub fn topic_and_group(namespace: &Namespace, topic: &str, kind: &str, delivery: &str, limit: Duration) -> Result<()> {
    declare(namespace, topic, kind, delivery)?;
    are_ready(namespace, topic, limit)
}

/// How long a cluster may take to be as declared again: a replica that copies its whole log onto a busy node.
const WHOLE: Duration = Duration::from_secs(600);
/// Between two looks at it while writers are timed.
const LOOKS: Duration = Duration::from_secs(2);
/// For how long it must be whole to be called so.
const STAYS: Duration = Duration::from_secs(10);
/// How long clients may take to go on once all is whole.
const FLOWING: Duration = Duration::from_secs(120);

/// What was seen of one fault.
#[derive(Clone, Debug)]
pub struct Episode {
    /// What went wrong.
    pub fault: Fault,
    /// To whom.
    pub what: String,
    /// Longest time without an acknowledged send over all flows, from just before the fault until all was whole.
    pub write_gap: Gap,
    /// The same of receptions.
    pub read_gap: Gap,
    /// Seconds until everything that is declared served again.
    pub whole_after: f64,
    /// Changes of masters, each to a replica that was in sync where that could be seen.
    pub seen: Seen,
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, what, write_gap, read_gap, whole_after, seen } = self;
        write!(
            f,
            "{:<28} without a write {write_gap}, without a read {read_gap}, whole after {whole_after:>5.1} s, masters changed {}  ({what})",
            fault.name(),
            seen.in_sync + seen.unseen
        )
    }
}

impl Episode {
    /// As a line of a record.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { fault, what, write_gap, read_gap, whole_after, seen } = self;
        json!({"fault": fault.name(), "what": what, "writeGapMs": write_gap.ms, "writeGapOf": write_gap.topic, "readGapMs": read_gap.ms, "readGapOf": read_gap.topic, "wholeAfter": whole_after, "switchesInSync": seen.in_sync, "switchesUnseen": seen.unseen})
    }

    /// Does one fault to a cluster that is whole, undoes it after its time, waits until all is whole and every flow flows, and looks at what must hold.
    ///
    /// # Errors
    /// Where the status does not tell of it, a replica becomes master that must not, the cluster does not become whole, topics, groups or offsets
    /// are not as they were, or clients don't go on.
    pub fn run(audit: &Audit<'_>, target: Target<'_>, fault: Fault, nth: usize) -> Result<Self> {
        let namespace = target.namespace;
        let before = until("the masters say where readers are", FLOWING, || Ok(Answer::Yes(Progress::of(namespace)?)))?;
        let forgotten = checks::events(namespace, "ReplicaForgotten")?;
        let watch = Watch::start(namespace, target.groups()?);
        let done = Self::disturb(audit, target, fault, nth);
        let seen = watch.finish()?;
        let episode = Self { seen, ..done? };
        checks::metadata_is_as_declared(namespace)?;
        before.is_passed(namespace)?;
        checks::nothing_is_hidden(namespace)?;
        if fault.loses_identity() {
            checks::said_since(namespace, "ReplicaForgotten", &forgotten)?;
            checks::one_identity_each(namespace)?;
        }
        Ok(episode)
    }

    fn disturb(audit: &Audit<'_>, target: Target<'_>, fault: Fault, nth: usize) -> Result<Self> {
        let from = audit.now();
        let begun = Instant::now();
        let masters = Engine::of(target.namespace).masters()?;
        let injected = fault.inject(target, nth)?;
        let what = injected.what.clone();
        let (mut told, injected_at) = (false, Instant::now());
        while injected_at.elapsed() < fault.lasts() {
            std::thread::sleep(Duration::from_millis(500).min(fault.lasts().saturating_sub(injected_at.elapsed())));
            if let Some(reason) = fault.reason() {
                told = told || tells(target, reason);
            }
            if fault.forbids_masters() {
                let former: Vec<&str> = masters.iter().map(|m| m.pod.as_str()).collect();
                no_other_master(target, &former)?;
            }
        }
        injected.heal();
        if let Some(reason) = fault.reason() {
            ensure!(told, "no condition said {reason} in {} s of: {what}", fault.lasts().as_secs());
        }
        let whole_after = until_whole(target, &what, begun)?.as_secs_f64();
        audit.until_received(FLOWING)?;
        let (write_gap, read_gap) = audit.gaps_since(from);
        Ok(Self { fault, what, write_gap, read_gap, whole_after, seen: Seen::default() })
    }
}

/// Does a condition say this now? Who can't be asked says nothing.
fn tells(target: Target<'_>, reason: &str) -> bool {
    let conditions = target.status().map(|s| s["conditions"].clone()).unwrap_or_default();
    conditions.as_array().into_iter().flatten().any(|c| c["reason"] == reason)
}

/// No broker calls itself master that was none. One that does not answer does not serve as one.
fn no_other_master(target: Target<'_>, former: &[&str]) -> Result<()> {
    for broker in Engine::of(target.namespace).members("broker")? {
        let is = broker.ask_within(BROKER, &GetHaStatus, Duration::from_secs(1)).is_ok_and(|status| status.master);
        if is && !former.contains(&broker.pod.as_str()) {
            bail!("{} became master although the controllers have no majority", broker.pod);
        }
    }
    Ok(())
}

/// Waits until everything that is declared serves, and goes on to; says how long after `begun` that was.
///
/// # Errors
/// After ten minutes.
pub fn until_whole(target: Target<'_>, after: &str, begun: Instant) -> Result<Duration> {
    // What has just been done may not be seen yet: whole is what stays so.
    let mut since = None;
    until_every(LOOKS, &format!("{} is whole after: {after}", target.cluster), WHOLE, || {
        let object = target.namespace.get(&format!("brokercluster/{}", target.cluster))?;
        since = if is_whole(&object) { since.or_else(|| Some(begun.elapsed())) } else { None };
        let stays = since.filter(|s| begun.elapsed() - *s > STAYS);
        let conditions = object["status"]["conditions"].to_string();
        Ok(Answer::when(stays.is_some(), stays.unwrap_or_default(), || conditions))
    })
}

/// Everything that is declared serves, by the status of this very generation.
fn is_whole(object: &Value) -> bool {
    let status = &object["status"];
    let is = |type_: &str, wanted: &str| {
        status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == type_ && c["status"] == wanted)
    };
    status["observedGeneration"] == object["metadata"]["generation"]
        && is("Ready", "True")
        && is("Degraded", "False")
        && is("Progressing", "False")
}
