//! `make bench-failover`: how long writers stand still with Gantry, and without it on the same pods, by turns in one run. Writes
//! docs/benchmarks-failover.md.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use gantry_e2e::account::{Account, nothing_lost};
use gantry_e2e::audit::Audit;
use gantry_e2e::chaos::{CLUSTER, Episode, FLOWS, ground, nothing_beside, until_whole};
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::{Fault, Target};

/// Ten JVMs that start at once on two cores.
const START: Duration = Duration::from_secs(600);
/// Longer than any of them keeps writers waiting.
const WATCHED: Duration = Duration::from_secs(90);
/// How often each is done, of which the median counts.
const ROUNDS: usize = 3;

/// The engine's own times, where Gantry sets others.
const ENGINES_TIMES: &str = r#"{"spec": {
  "brokers": {"config": {"controllerHeartBeatTimeoutMills": "10000", "haMaxTimeSlaveNotCatchup": "15000", "checkSyncStateSetPeriod": "5000",
    "haSendHeartbeatInterval": "5000", "haHousekeepingInterval": "20000", "registerNameServerPeriod": "30000"}},
  "controllers": {"config": {"scanNotActiveBrokerInterval": "5000"}},
  "proxies": {"config": {"topicRouteServiceCacheRefreshSeconds": "20"}}}}"#;
const GANTRYS_TIMES: &str = r#"{"spec": {
  "brokers": {"config": {"controllerHeartBeatTimeoutMills": null, "haMaxTimeSlaveNotCatchup": null, "checkSyncStateSetPeriod": null,
    "haSendHeartbeatInterval": null, "haHousekeepingInterval": null, "registerNameServerPeriod": null}},
  "controllers": {"config": {"scanNotActiveBrokerInterval": null}},
  "proxies": {"config": {"topicRouteServiceCacheRefreshSeconds": null}}}}"#;

struct Bench<'a> {
    audit: &'a Audit<'a>,
    target: Target<'a>,
}

fn main() -> Result<()> {
    nothing_beside()?;
    let namespace = ground(3, &FLOWS[..4], START)?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    patch(target, GANTRYS_TIMES)?;
    until_whole(target, "Gantry's times", Instant::now())?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..4])?;
    let figures = Bench { audit: &audit, target }.all();
    let accounts = audit.finish();
    let figures = figures.with_context(|| format!("{accounts:?}"))?;
    let accounts = accounts?;
    fs::write("docs/benchmarks-failover.md", text(&figures, &accounts))?;
    println!("wrote docs/benchmarks-failover.md");
    nothing_lost(&accounts)
}

/// Seconds without an acknowledged send, round by round.
struct Figures {
    what: &'static str,
    with: Vec<f64>,
    alone: Vec<f64>,
}

impl Bench<'_> {
    fn all(&self) -> Result<Vec<Figures>> {
        let mut rolls = Figures { what: "roll of three replicas", with: Vec::new(), alone: Vec::new() };
        for nth in 0..ROUNDS {
            rolls.with.push(self.with_gantry(Fault::Roll, nth)?);
            rolls.alone.push(self.alone("kubectl rollout restart", || self.rollout_restart())?);
        }
        let mut figures = vec![rolls];
        for (fault, what) in [(Fault::KillMaster, "master killed"), (Fault::HangMaster, "master hangs for 30 s")] {
            let with = (0..ROUNDS).map(|nth| self.with_gantry(fault, nth)).collect::<Result<_>>()?;
            figures.push(Figures { what, with, alone: Vec::new() });
        }
        patch(self.target, ENGINES_TIMES)?;
        until_whole(self.target, "the engine's times", Instant::now())?;
        for (fault, at) in [(Fault::KillMaster, 1), (Fault::HangMaster, 2)] {
            for nth in 0..ROUNDS {
                let gap = self.alone(fault.name(), || {
                    let injected = fault.inject(self.target, nth)?;
                    std::thread::sleep(fault.lasts());
                    injected.heal();
                    Ok(())
                })?;
                figures[at].alone.push(gap);
            }
        }
        Ok(figures)
    }

    fn with_gantry(&self, fault: Fault, nth: usize) -> Result<f64> {
        let episode = Episode::run(self.audit, self.target, fault, nth)?;
        println!("{episode}");
        Ok(seconds(episode.write_gap.ms))
    }

    /// The same while Gantry writes nothing; after it Gantry puts right what is left.
    fn alone(&self, what: &str, act: impl Fn() -> Result<()>) -> Result<f64> {
        let paused = |value: &str| {
            self.target.namespace.kubectl(&["annotate", "brokercluster", CLUSTER, value, "--overwrite"]).map(drop)
        };
        let (from, begun) = (self.audit.now(), Instant::now());
        paused("gantry.dev/paused=true")?;
        let done = act().and_then(|()| {
            std::thread::sleep(WATCHED.saturating_sub(begun.elapsed()));
            self.audit.until_received(2 * WATCHED)
        });
        let gap = self.audit.gaps_since(from).0;
        paused("gantry.dev/paused-")?;
        done?;
        println!("{:<28} without a write {gap}  (without Gantry)", what);
        until_whole(self.target, what, Instant::now())?;
        Ok(seconds(gap.ms))
    }

    /// What Kubernetes does with pods of a StatefulSet when it is asked to restart them.
    fn rollout_restart(&self) -> Result<()> {
        let set = format!("statefulset/{CLUSTER}-broker-0");
        let k = |words: &[&str]| self.target.namespace.kubectl(words).map(drop);
        k(&["patch", &set, "--type=merge", "-p", r#"{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}"#])?;
        k(&["rollout", "restart", &set])?;
        k(&["rollout", "status", &set, "--timeout=600s"])
    }
}

fn patch(target: Target<'_>, patch: &str) -> Result<()> {
    target.namespace.kubectl(&["patch", "brokercluster", CLUSTER, "--type=merge", "-p", patch]).map(drop)
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds of minutes")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn text(figures: &[Figures], accounts: &[Account]) -> String {
    let sum = |of: fn(&Account) -> usize| accounts.iter().map(of).sum::<usize>();
    let (acked, lost, skipped) = (sum(|a| a.acked), sum(|a| a.lost.len()), sum(Account::skipped));
    let mut out = format!(
        "# How long writers stand still, with Gantry and without\n\n\
         Written by `make bench-failover`. One broker group of three replicas, three controllers, two name servers, two proxies with RocketMQ 5.5.0, four flows\n\
         of ten sends a second over both protocols; {acked} messages were acknowledged, {lost} of them lost, {skipped} skipped. Longest time without an acknowledged send over all\n\
         flows, in seconds, median of {ROUNDS} and each one. *Alone*: the same pods while Gantry is paused; for the roll `kubectl rollout restart`, for failures with the\n\
         engine's own times in place of Gantry's ([design](design/0008-failover.md)). All of it shared one machine, so brokers and proxies ran with\n\
         `-XX:TieredStopAtLevel=1` either way.\n\n\
         | what | with Gantry | alone | ratio |\n|---|---|---|---|\n"
    );
    let list = |all: &[f64]| all.iter().map(|s| format!("{s:.1}")).collect::<Vec<_>>().join(", ");
    for Figures { what, with, alone } in figures {
        let (ours, theirs) = (median(with), median(alone));
        let _ = writeln!(
            out,
            "| {what} | {ours:.1} ({}) | {theirs:.1} ({}) | {:.2} |",
            list(with),
            list(alone),
            ours / theirs
        );
    }
    out
}
