//! `make chaos N=100 SEED=7`: faults in random order to one cluster under an audit of every acknowledged message, and the report that this run writes.
//! Rounds that are done are on record: the same command goes on where it was, as long as it is the same build on as many nodes. FAULTS names some kinds,
//! with a semicolon between; FRESH=yes begins anew.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use gantry_e2e::account::{Account, accounted};
use gantry_e2e::audit::{Audit, Flow};
use gantry_e2e::chaos::{CALM, CLUSTER, Episode, FLOWS, ground, nothing_beside};
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::{Fault, Target, nodes};
use gantry_e2e::kubectl::{Namespace, kubectl};
use gantry_e2e::record::{Record, Setting, commit};
use gantry_e2e::report;
use serde_json::{Value, json};

/// Faults under one audit.
const ROUND: usize = 10;
/// Ten JVMs that start at once on two cores.
const START: Duration = Duration::from_secs(600);

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name).ok().filter(|v| !v.is_empty()) {
        Some(text) => {
            text.parse().with_context(|| format!("{name}={text} is no whole number: write e.g. {name}={default}"))
        }
        None => Ok(default),
    }
}

fn is(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|v| v == value)
}

fn main() -> Result<()> {
    let n = usize::try_from(number("N", 100)?)?;
    let replicas = usize::try_from(number("REPLICAS", 3)?)?;
    let kinds = Fault::chosen(&std::env::var("FAULTS").unwrap_or_default())?;
    let flows = if is("TRANSACTIONS", "no") { &FLOWS[..CALM] } else { &FLOWS[..] };
    let nodes = nodes()?.len();
    let report = !is("REPORT", "no");
    if report {
        nothing_beside()?;
    }
    let namespace = ground(replicas, flows, START)?;
    let setting = setting(&namespace, number("SEED", 1)?, nodes, replicas)?;
    let path = setting.path(Path::new("target/chaos"));
    if is("FRESH", "yes") && path.exists() {
        fs::remove_file(&path)?;
    }
    let mut record = Record::open(path)?;
    println!("{} of {n} faults are on record in {}", record.episodes().count(), record.path().display());
    let faults = schedule(setting.seed, n, &kinds, nodes >= 3)?;
    let done = go_on(&mut record, &setting, &namespace, flows, &faults);
    if report {
        report::write(Path::new("docs"), &record)?;
    }
    done?;
    // What went wrong in an earlier run of the same record went wrong.
    let failures = record.failures();
    ensure!(failures.is_empty(), "{}: {}", record.path().display(), failures.join("; "));
    Ok(())
}

fn setting(namespace: &Namespace, seed: u64, nodes: usize, replicas: usize) -> Result<Setting> {
    let version: Value = serde_json::from_str(&kubectl(&["version", "-o", "json"])?)?;
    let kubernetes = version["serverVersion"]["gitVersion"].as_str().context("kubectl names no version")?.to_owned();
    let status = namespace.get(&format!("brokercluster/{CLUSTER}"))?["status"].clone();
    let engine = status["version"].as_str().context("the cluster's status names no version")?.to_owned();
    Ok(Setting { seed, commit: commit(), nodes, replicas, kubernetes, engine })
}

/// The faults of a seed, and a number for each that chooses to whom: all kinds in random order, then all again.
fn schedule(seed: u64, n: usize, kinds: &[Fault], many_nodes: bool) -> Result<Vec<(Fault, usize)>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kinds: Vec<Fault> = kinds.iter().copied().filter(|f| many_nodes || !f.needs_nodes()).collect();
    ensure!(!kinds.is_empty(), "the faults that were chosen take three nodes: NODES=3");
    let mut faults = Vec::new();
    while faults.len() < n {
        random.shuffle(&mut kinds);
        faults.extend(kinds.iter().map(|&kind| (kind, random.usize(..1000))));
    }
    faults.truncate(n);
    Ok(faults)
}

/// Does what is not on record yet, round by round. The first that fails is the last.
fn go_on(
    record: &mut Record,
    setting: &Setting,
    namespace: &Namespace,
    flows: &[Flow],
    faults: &[(Fault, usize)],
) -> Result<()> {
    let mut done = record.episodes().count();
    if done >= faults.len() {
        return Ok(());
    }
    let clients = Clients::start(namespace)?;
    let target = Target { namespace, cluster: CLUSTER };
    while done < faults.len() {
        let audit = Audit::start(&clients, flows)?;
        record.begin(setting)?;
        let (episodes, trouble) = one_round(&audit, target, done, &faults[done..faults.len().min(done + ROUND)]);
        let accounts = audit.finish();
        let lines: Vec<Value> = accounts.iter().flatten().map(Account::to_json).collect();
        let judged = accounted(trouble, accounts);
        let failure = judged.as_ref().err().map(|error| format!("{error:#}"));
        // On record before anything ends this: what was lost must not be done again in its place.
        record.end(&episodes, &lines, failure.as_deref())?;
        done += episodes.len();
        if let Some(failure) = failure {
            bail!("seed {}, up to fault {done}: {failure}", setting.seed);
        }
    }
    Ok(())
}

/// Faults one after the other, up to the first that does not go well; that one is told, too.
fn one_round(
    audit: &Audit<'_>,
    target: Target<'_>,
    done: usize,
    faults: &[(Fault, usize)],
) -> (Vec<Value>, Result<()>) {
    let mut episodes = Vec::new();
    for &(fault, nth) in faults {
        match Episode::run(audit, target, fault, nth) {
            Ok(episode) => {
                println!("{:>3}  {episode}", done + episodes.len() + 1);
                episodes.push(episode.to_json());
            }
            Err(error) => {
                episodes.push(json!({"fault": fault.name(), "failure": format!("{error:#}")}));
                return (episodes, Err(error.context(fault.name())));
            }
        }
    }
    (episodes, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_faults_and_each_kind_before_any_comes_again() -> Result<()> {
        let faults = schedule(3, 40, &Fault::ALL, true)?;
        assert_eq!(faults, schedule(3, 40, &Fault::ALL, true)?);
        assert_ne!(faults, schedule(4, 40, &Fault::ALL, true)?);
        let first: std::collections::BTreeSet<_> = faults[..Fault::ALL.len()].iter().map(|f| f.0).collect();
        assert_eq!(first.len(), Fault::ALL.len());
        assert!(schedule(3, 40, &Fault::ALL, false)?.iter().all(|f| !f.0.needs_nodes()));
        assert!(schedule(3, 1, &[Fault::KillNode], false).is_err());
        Ok(())
    }
}
