//! Every role ends in order when it is asked to, and says what it does on standard output.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::wait::{Answer, until};
use serde_json::Value;

use crate::shop::Shop;

const ROLES: [&str; 4] = ["proxy", "nameserver", "controller", "broker"];

/// Names of a role's pods, in order.
fn pods(shop: &Shop, role: &str) -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/instance=shop,app.kubernetes.io/component={role}");
    let pods = shop.namespace.list("pods", &selector)?;
    let mut names: Vec<String> =
        pods.iter().filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Deletes a pod, and returns how long it took to go and the exit code of its container: that is in the pod's last state, which stays to be
/// seen because of a finalizer of ours.
fn ended(shop: &Shop, pod: &str) -> Result<(Duration, i64)> {
    let what = format!("pod/{pod}");
    let hold = |finalizers: &str| {
        let patch = format!("{{\"metadata\":{{\"finalizers\":{finalizers}}}}}");
        shop.namespace.kubectl(&["patch", &what, "--type=merge", "-p", &patch])
    };
    hold("[\"gantry.dev/test\"]")?;
    let begun = Instant::now();
    let code = shop.namespace.kubectl(&["delete", &what, "--wait=false"]).and_then(|_| {
        until(&format!("{pod} ends"), Duration::from_secs(180), || {
            let status = &shop.namespace.get(&what)?["status"]["containerStatuses"][0];
            let ended: Option<Value> = status["state"].get("terminated").cloned();
            let code = ended.and_then(|terminated| terminated["exitCode"].as_i64());
            Ok(Answer::when(code.is_some(), code, || status["state"].to_string()))
        })
    });
    let took = begun.elapsed();
    hold("null")?;
    Ok((took, code?.context("no exit code")?))
}

#[test]
fn a_pod_of_any_role_ends_by_sigterm_within_its_grace_period() -> Result<()> {
    let shop = Shop::alone()?;
    for role in ROLES {
        let pod = pods(&shop, role)?.pop().with_context(|| format!("no {role}"))?;
        let grace = shop.namespace.get(&format!("pod/{pod}"))?["spec"]["terminationGracePeriodSeconds"].as_u64();
        let grace = Duration::from_secs(grace.context("no grace period")?);
        let (took, code) = ended(&shop, &pod)?;
        println!("{pod}: ended after {} ms with {code}, grace {grace:?}", took.as_millis());
        ensure!([0, 143].contains(&code), "{pod} ended with {code}: it was killed, or failed");
        ensure!(took < grace, "{pod} took {took:?} of {grace:?}");
        for (condition, status) in [("Degraded", "False"), ("Ready", "True")] {
            shop.namespace.wait_for_condition("brokercluster/shop", condition, status, Duration::from_secs(300))?;
        }
    }
    Ok(())
}

#[test]
fn every_role_logs_to_standard_output() -> Result<()> {
    let shop = Shop::together()?;
    for role in ROLES {
        let pod = pods(&shop, role)?.pop().with_context(|| format!("no {role}"))?;
        let said = shop.namespace.kubectl(&["logs", &pod, "--tail=200"])?;
        // Lines of the engine itself, not of the entry point before it.
        let lines = said.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("rocketmq:")).count();
        ensure!(lines > 0, "{pod} says nothing: {said:?}");
    }
    Ok(())
}
