//! Topics and consumer groups against a real engine: drift, loss, import, conflict, tenants, mass deletion.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::kubectl::{Namespace, kubectl};
use gantry_e2e::wait::{Answer, until};

use crate::shop::Shop;

/// The promise is 30 s; the rest is this machine's.
const REPAIR: Duration = Duration::from_secs(60);
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
        let said = self.admin(&format!("topicRoute -t {topic}")).unwrap_or_default();
        let Some(line) = said.lines().find(|l| l.contains("writeQueueNums")) else { return Ok(None) };
        let number = line.rsplit(':').next().context("a line without a colon")?;
        Ok(Some(number.trim().trim_end_matches(',').parse()?))
    }

    pub fn is_ready(&self, what: &str, reason: &str) -> Result<()> {
        until(&format!("{what} is {reason}"), SOON, || {
            let object = self.namespace.get(what)?;
            let ready = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
            let said = ready.map(ToString::to_string).unwrap_or_default();
            Ok(Answer::when(ready.is_some_and(|c| c["reason"] == reason), (), || said))
        })
    }

    fn event(&self, reason: &str, about: &str) -> Result<()> {
        until(&format!("an Event {reason} about {about}"), SOON, || {
            let events = self.namespace.list("events.events.k8s.io", "")?;
            let found = events.iter().any(|e| {
                e["reason"] == reason && (e["note"].to_string().contains(about) || e["regarding"]["name"] == about)
            });
            Ok(Answer::when(found, (), || format!("{} events", events.len())))
        })
    }
}

#[test]
fn a_topic_that_was_changed_by_hand_is_changed_back_and_that_is_told() -> Result<()> {
    let shop = Shop::ready()?;
    shop.topic("drifting", "Normal")?;
    shop.admin("updateTopic -c shop -t drifting -r 9 -w 9")?;
    until("it has its four queues again", REPAIR, || {
        let queues = shop.queues("drifting")?;
        Ok(Answer::when(queues == Some(4), (), || format!("{queues:?}")))
    })?;
    shop.event("DriftReverted", "drifting")
}

#[test]
fn a_topic_that_the_engine_lost_is_put_back_and_that_is_told() -> Result<()> {
    let shop = Shop::ready()?;
    shop.topic("losing", "FIFO")?;
    shop.admin("deleteTopic -c shop -t losing")?;
    shop.event("Restored", "losing")?;
    until("it is there again", REPAIR, || {
        let queues = shop.queues("losing")?;
        Ok(Answer::when(queues == Some(4), (), || format!("{queues:?}")))
    })
}

#[test]
fn what_is_imported_and_applied_changes_nothing() -> Result<()> {
    let shop = Shop::ready()?;
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
    let log = kubectl(&["-n", "gantry-system", "logs", "deployment/gantry-operator", "--tail=-1"])?;
    let written: Vec<_> = log.lines().filter(|l| l.contains("\"audit\"") && l.contains("made_by_hand")).collect();
    ensure!(written.is_empty(), "{written:?}");
    ensure!(shop.queues("made_by_hand")? == Some(6), "it was changed");
    ensure!(!import()?.contains("made_by_hand"), "what is declared is imported once more");
    Ok(())
}

#[test]
fn the_older_of_two_objects_for_one_topic_wins() -> Result<()> {
    let shop = Shop::ready()?;
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
    let shop = Shop::ready()?;
    let tenant = Namespace::create("tenant")?;
    let rules =
        "tenants: [{name: guests, namespaces: [tenant], topicPrefixes: [guest-], types: [Normal], maxQueues: 4}]";
    shop.change_for_now("  nameServers:", &format!("  {rules}\n  nameServers:"))?;
    let topic = |name: &str, spec: &str| {
        tenant.apply(&format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop, namespace: shop}}, deletionPolicy: Delete, {spec}}}}}"
        ))
    };
    topic("guest-orders", "queues: 4")?;
    topic("guest-wide", "queues: 5")?;
    topic("orders", "queues: 4")?;
    for (name, reason, word) in [
        ("guest-orders", "InSync", "as declared"),
        ("guest-wide", "TenantRuleForbids", "guests"),
        ("orders", "TenantRuleForbids", "guest-"),
    ] {
        until(&format!("{name} is {reason}"), SOON, || {
            let object = tenant.get(&format!("topics.rocketmq.gantry.dev/{name}"))?;
            let conditions = object["status"]["conditions"].to_string();
            Ok(Answer::when(conditions.contains(reason) && conditions.contains(word), (), || conditions))
        })?;
    }
    kubectl(&["delete", "namespace", "tenant", "--timeout=120s"])?;
    Ok(())
}

#[test]
fn deleting_many_topics_at_once_is_held_until_it_is_confirmed() -> Result<()> {
    let shop = Shop::ready()?;
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
