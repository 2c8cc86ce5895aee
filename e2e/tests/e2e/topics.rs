//! Topics and consumer groups against a real engine: drift, loss, import, conflict, tenants, mass deletion.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::kubectl::{Namespace, kubectl};
use gantry_e2e::wait::{Answer, until};

use crate::shop::Shop;

/// What is promised, from the end of the command that changed something until an Event tells that it is put right.
const REPAIR: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(60);

impl Shop {
    /// mqadmin in a broker's pod, as somebody who works around Gantry would use it. The tool ends well also where it failed.
    pub fn admin(&self, command: &str) -> Result<String> {
        let mut words = vec!["exec", "shop-broker-0-0", "--", "rocketmq", "admin"];
        words.extend(command.split_whitespace());
        self.namespace.kubectl(&words)
    }

    /// Write queues of a topic on the master, as routes have them; `None`: there is no such topic.
    pub fn queues(&self, topic: &str) -> Result<Option<u64>> {
        self.route(topic, "writeQueueNums")
    }

    /// A number of a topic's route; `None`: there is no such topic.
    pub fn route(&self, topic: &str, field: &str) -> Result<Option<u64>> {
        let said = self.admin(&format!("topicRoute -t {topic}")).unwrap_or_default();
        let Some(line) = said.lines().find(|l| l.contains(field)) else { return Ok(None) };
        let number = line.rsplit(':').next().context("a line without a colon")?;
        Ok(Some(number.trim().trim_end_matches(',').parse()?))
    }

    /// How often a broker says that a message of a group is delivered again; `None`: it has no such group.
    fn attempts(&self, group: &str) -> Result<Option<u64>> {
        let said = self.admin(&format!("getConsumerConfig -g {group}")).unwrap_or_default();
        let Some(line) = said.lines().find(|l| l.starts_with("retryMaxTimes")) else { return Ok(None) };
        Ok(Some(line.rsplit('=').next().context("a line without a value")?.trim().parse()?))
    }

    pub fn is_ready(&self, what: &str, reason: &str) -> Result<()> {
        until(&format!("{what} is {reason}"), SOON, || {
            let object = self.namespace.get(what)?;
            let ready = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
            let said = ready.map(ToString::to_string).unwrap_or_default();
            Ok(Answer::when(ready.is_some_and(|c| c["reason"] == reason), (), || said))
        })
    }

    /// How often an Event of this reason told of an object.
    fn told(&self, reason: &str, about: &str) -> Result<u64> {
        let events = self.namespace.list("events.events.k8s.io", "")?;
        let of = events.iter().filter(|e| e["reason"] == reason && e["regarding"]["name"] == about);
        Ok(of.map(|e| e["series"]["count"].as_u64().unwrap_or(1)).sum())
    }

    /// Lets mqadmin do something behind Gantry's back, and waits until it is put right and told. Not longer than is promised.
    fn is_put_right(&self, command: &str, reason: &str, about: &str) -> Result<()> {
        let before = self.told(reason, about)?;
        self.admin(command)?;
        let begun = Instant::now();
        until(&format!("{command}: an Event {reason} about {about}"), REPAIR, || {
            let told = self.told(reason, about)?;
            Ok(Answer::when(told > before, (), || format!("told {told} times")))
        })?;
        println!("{command}: {reason} after {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    }
}

#[test]
fn what_was_changed_by_hand_is_changed_back_within_30_seconds_and_that_is_told() -> Result<()> {
    let shop = Shop::together()?;
    shop.topic("drifting", "Normal")?;
    shop.group("drifting-readers", "Concurrent")?;
    shop.is_put_right("updateTopic -c shop -t drifting -r 9 -w 9", "DriftReverted", "drifting")?;
    ensure!(shop.queues("drifting")? == Some(4), "the topic is not as it was");
    shop.is_put_right("updateSubGroup -c shop -g drifting-readers -r 3", "DriftReverted", "drifting-readers")?;
    ensure!(shop.attempts("drifting-readers")? == Some(16), "the consumer group is not as it was");
    Ok(())
}

#[test]
fn what_the_engine_lost_is_put_back_within_30_seconds_and_that_is_told() -> Result<()> {
    let shop = Shop::together()?;
    shop.topic("losing", "FIFO")?;
    shop.group("losing-readers", "Concurrent")?;
    shop.is_put_right("deleteTopic -c shop -t losing", "Restored", "losing")?;
    ensure!(shop.queues("losing")? == Some(4), "the topic is not there again");
    shop.is_put_right("deleteSubGroup -c shop -g losing-readers", "Restored", "losing-readers")?;
    ensure!(shop.attempts("losing-readers")? == Some(16), "the consumer group is not there again");
    Ok(())
}

/// Lines of the operator's audit log that speak of something.
fn audit_lines(about: &str) -> Result<Vec<String>> {
    let log = kubectl(&["-n", "gantry-system", "logs", "deployment/gantry-operator", "--tail=-1"])?;
    let lines = log.lines().filter(|l| l.contains("\"audit\"") && l.contains(about));
    Ok(lines.map(str::to_owned).collect())
}

#[test]
fn what_is_imported_and_applied_changes_nothing() -> Result<()> {
    let shop = Shop::alone()?;
    shop.admin("updateTopic -c shop -t made_by_hand -r 6 -w 6 -a +message.type=DELAY")?;
    shop.admin("updateSubGroup -c shop -g made_by_hand_readers -r 3")?;
    let import = || {
        let words =
            ["-n", "gantry-system", "exec", "deployment/gantry-operator", "--", "/usr/local/bin/gantry", "import"];
        kubectl(&[&words[..], &["--cluster", "shop", "--namespace", "shop"]].concat())
    };
    let manifests = until("the import has what was made by hand", SOON, || {
        let text = import()?;
        let there = text.contains("made_by_hand_readers") && text.contains("topicName: made_by_hand");
        Ok(Answer::when(there, text.clone(), || text))
    })?;
    shop.namespace.apply(&manifests)?;
    shop.is_ready("topics.rocketmq.gantry.dev/made-by-hand", "InSync")?;
    shop.is_ready("consumergroups.rocketmq.gantry.dev/made-by-hand-readers", "InSync")?;
    // A topic that is written leaves its line, so no line means that nothing was written.
    let other = format!("made-by-gantry-{}", std::process::id());
    shop.topic(&other, "Normal")?;
    ensure!(!audit_lines(&other)?.is_empty(), "a topic was written, and the audit log does not say it");
    let written = audit_lines("made_by_hand")?;
    ensure!(written.is_empty(), "{written:?}");
    ensure!(shop.queues("made_by_hand")? == Some(6), "it was changed");
    ensure!(!import()?.contains("made_by_hand"), "what is declared is imported once more");
    Ok(())
}

#[test]
fn the_older_of_two_objects_for_one_topic_wins() -> Result<()> {
    let shop = Shop::together()?;
    shop.topic("wanted", "Normal")?;
    // Creation times have whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    shop.namespace.apply(
        "{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {name: wanted-too}, spec: {clusterRef: {name: shop}, topicName: wanted, queues: 8}}",
    )?;
    shop.is_ready("topics.rocketmq.gantry.dev/wanted-too", "Conflict")?;
    shop.is_ready("topics.rocketmq.gantry.dev/wanted", "InSync")?;
    shop.namespace.kubectl(&["delete", "topics.rocketmq.gantry.dev/wanted-too", "--timeout=30s"])?;
    ensure!(shop.queues("wanted")? == Some(4), "the younger one changed it");
    Ok(())
}

#[test]
fn a_tenant_has_what_the_clusters_rules_allow() -> Result<()> {
    let shop = Shop::alone()?;
    let tenant = Namespace::create("tenant")?;
    let rules = "tenants: [{name: guests, namespaces: [tenant], topicPrefixes: [guest-], groupPrefixes: [guest-], types: [Normal], maxQueues: 4, maxTopics: 1, maxConsumerGroups: 1}]";
    shop.change_for_now("  nameServers:", &format!("  {rules}\n  nameServers:"))?;
    let make = |kind: &str, name: &str, spec: &str| {
        tenant.apply(&format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop, namespace: shop}}, deletionPolicy: Delete{spec}}}}}"
        ))
    };
    let (topic, group) = ("Topic", "ConsumerGroup");
    // Names are in order, as those decide between objects of the same second: the first ones have what is allowed in number.
    let cases = [
        (topic, "guest-orders", ", queues: 4", "InSync", "as declared"),
        (group, "guest-readers", "", "InSync", "as declared"),
        (topic, "guest-wide", ", queues: 5", "TenantRuleForbids", "rule guests of BrokerCluster shop/shop: 5 queues"),
        (
            topic,
            "guest-late",
            ", queues: 4, type: Delay",
            "TenantRuleForbids",
            "rule guests of BrokerCluster shop/shop: it allows topics of type Normal",
        ),
        (
            topic,
            "orders",
            ", queues: 4",
            "TenantRuleForbids",
            "rule guests of BrokerCluster shop/shop: the name of a topic must begin with guest-",
        ),
        (
            topic,
            "guest-second",
            ", queues: 4",
            "TenantQuotaExceeded",
            "rule guests of BrokerCluster shop/shop: its 1 topics",
        ),
        (
            group,
            "guest-second",
            "",
            "TenantQuotaExceeded",
            "rule guests of BrokerCluster shop/shop: its 1 consumer groups",
        ),
    ];
    for (kind, name, spec, ..) in cases {
        make(kind, name, spec)?;
    }
    for (kind, name, _, reason, words) in cases {
        until(&format!("{kind} {name} is {reason}"), SOON, || {
            let object = tenant.get(&format!("{}s.rocketmq.gantry.dev/{name}", kind.to_lowercase()))?;
            let conditions = object["status"]["conditions"].to_string();
            Ok(Answer::when(conditions.contains(reason) && conditions.contains(words), (), || conditions))
        })?;
    }
    kubectl(&["delete", "namespace", "tenant", "--timeout=120s"])?;
    Ok(())
}

#[test]
fn deleting_many_topics_at_once_is_held_until_it_is_confirmed() -> Result<()> {
    let shop = Shop::alone()?;
    let names: Vec<String> = (0..12).map(|i| format!("pruned-{i}")).collect();
    for name in &names {
        shop.namespace.apply(&format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {{name: {name}, labels: {{folder: pruned}}}}, spec: {{clusterRef: {{name: shop}}, queues: 1, deletionPolicy: Delete}}}}"
        ))?;
    }
    for name in &names {
        shop.is_ready(&format!("topics.rocketmq.gantry.dev/{name}"), "InSync")?;
    }
    shop.namespace.kubectl(&["delete", "topics.rocketmq.gantry.dev", "-l", "folder=pruned", "--wait=false"])?;
    let confirm = until("the deletion is held", SOON, || {
        let cluster = shop.namespace.get("brokercluster/shop")?;
        let confirm = cluster["status"]["deletions"]["topics"]["confirm"].as_str().map(str::to_owned);
        let said = cluster["status"]["deletions"].to_string();
        Ok(Answer::when(confirm.is_some(), confirm.unwrap_or_default(), || said))
    })?;
    // Which ones are held is a matter of order: those that were asked for before there were too many have gone.
    let held = until("one of them says so", SOON, || {
        let left = shop.namespace.list("topics.rocketmq.gantry.dev", "folder=pruned")?;
        let held = left.iter().find(|t| t["status"]["conditions"].to_string().contains("DeletionHeld"));
        let name = held.and_then(|t| t["metadata"]["name"].as_str()).unwrap_or_default().to_owned();
        Ok(Answer::when(!name.is_empty(), name, || format!("{} are left", left.len())))
    })?;
    ensure!(shop.queues(&held)? == Some(1), "a held topic is gone");
    let confirmation = format!("gantry.dev/confirm-deletions={confirm}");
    shop.namespace.kubectl(&["annotate", "brokercluster/shop", &confirmation, "--overwrite"])?;
    until("all of them are gone", SOON, || {
        let left = shop.namespace.list("topics.rocketmq.gantry.dev", "folder=pruned")?;
        Ok(Answer::when(left.is_empty(), (), || format!("{} are left", left.len())))
    })?;
    until("the engine has forgotten them", SOON, || {
        let queues = shop.queues(&held)?;
        Ok(Answer::when(queues.is_none(), (), || format!("{queues:?}")))
    })
}
