//! `make chaos N=100 SEED=7`: faults in random order to one cluster under an audit of every acknowledged message, and the report that this run writes.
//! Rounds that are done are on record: the same command goes on where it was.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use gantry_e2e::audit::{Audit, nothing_lost};
use gantry_e2e::chaos::{CLUSTER, Episode, FLOWS, ground};
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::{Fault, Target, nodes};
use gantry_e2e::report;
use serde_json::{Value, json};

/// Faults under one audit.
const ROUND: usize = 10;
/// Ten JVMs that start at once on two cores.
const START: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let number = |name: &str, default: u64| -> Result<u64> {
        match std::env::var(name).ok().filter(|v| !v.is_empty()) {
            Some(text) => {
                text.parse().with_context(|| format!("{name}={text} is no whole number: write e.g. {name}={default}"))
            }
            None => Ok(default),
        }
    };
    let (n, seed) = (usize::try_from(number("N", 100)?)?, number("SEED", 1)?);
    let record = PathBuf::from(format!("target/chaos/seed-{seed}.jsonl"));
    fs::create_dir_all(record.parent().unwrap_or(Path::new(".")))?;
    let mut rounds = read(&record)?;
    let mut done: usize = rounds.iter().map(|r| r["episodes"].as_array().map_or(0, Vec::len)).sum();
    println!("seed {seed}: {done} of {n} faults are on record in {}", record.display());
    if done < n {
        let faults = schedule(seed, n, nodes()?.len() >= 3);
        let namespace = ground(3, &FLOWS, START)?;
        let clients = Clients::start(&namespace)?;
        while done < n {
            let target = Target { namespace: &namespace, cluster: CLUSTER };
            let round = one_round(&clients, target, seed, rounds.len(), &faults[done..n.min(done + ROUND)])?;
            done += round["episodes"].as_array().map_or(0, Vec::len);
            writeln!(fs::OpenOptions::new().create(true).append(true).open(&record)?, "{round}")?;
            rounds.push(round);
        }
    }
    if std::env::var("REPORT").is_ok_and(|r| r == "no") {
        return Ok(());
    }
    report::write(Path::new("docs"), seed, &rounds)
}

/// The faults of a seed, and a number for each that chooses to whom: all kinds in random order, then all again.
fn schedule(seed: u64, n: usize, many_nodes: bool) -> Vec<(Fault, usize)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kinds: Vec<Fault> = Fault::ALL.into_iter().filter(|f| many_nodes || !f.needs_nodes()).collect();
    let mut faults = Vec::new();
    while faults.len() < n {
        random.shuffle(&mut kinds);
        faults.extend(kinds.iter().map(|&kind| (kind, random.usize(..1000))));
    }
    faults.truncate(n);
    faults
}

fn one_round(
    clients: &Clients<'_>,
    target: Target<'_>,
    seed: u64,
    round: usize,
    faults: &[(Fault, usize)],
) -> Result<Value> {
    let audit = Audit::start(clients, &FLOWS)?;
    let mut episodes = Vec::new();
    for &(fault, nth) in faults {
        match Episode::run(&audit, target, fault, nth) {
            Ok(episode) => {
                println!("{:>3}  {episode}", round * ROUND + episodes.len() + 1);
                episodes.push(episode);
            }
            Err(error) => {
                let accounts = audit.finish();
                bail!("seed {seed}, round {round}, {}: {error:#}; {accounts:?}", fault.name());
            }
        }
    }
    let accounts = audit.finish()?;
    nothing_lost(&accounts).with_context(|| format!("seed {seed}, round {round}"))?;
    let accounts: Vec<Value> = accounts
        .iter()
        .map(|a| json!({"topic": a.topic, "acked": a.acked, "lost": a.lost.len(), "failed": a.failed.len(), "duplicates": a.duplicates, "disordered": a.disordered}))
        .collect();
    Ok(
        json!({"round": round, "episodes": episodes.iter().map(Episode::to_json).collect::<Vec<_>>(), "accounts": accounts}),
    )
}

fn read(record: &Path) -> Result<Vec<Value>> {
    match fs::read_to_string(record) {
        Ok(text) => {
            text.lines().map(|l| serde_json::from_str(l).with_context(|| record.display().to_string())).collect()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
