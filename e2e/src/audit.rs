//! The account of every acknowledged message: clients of both protocols write and read without a pause while something is done to the cluster;
//! then each acknowledged message is looked for.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::account::{Account, account, of};
pub use crate::account::{accounted, nothing_lost};
use crate::clients::{Client, Clients};
use crate::engine::Engine;
use crate::wait::{Answer, until};

/// How long a message that was on its way to a client which went may take to come again: the invisible time of a gRPC consumer and some.
const LATE: Duration = Duration::from_secs(180);
/// How long clients write and read where nobody stops them, in seconds: longer than every failure, one after the other, on a slow machine.
const SPAN: u32 = 8 * 60 * 60;

/// One topic that is written and read all the time.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Topic; the consumer group is `<topic>-readers`.
    pub topic: &'static str,
    /// `grpc` or `remoting`.
    pub protocol: &'static str,
    /// Endpoint of that protocol.
    pub endpoint: &'static str,
    /// `normal`, `fifo`, `delay`, `transaction` or `ordered`.
    pub type_: &'static str,
    /// Messages a second.
    pub rate: u32,
}

/// An audit under way.
pub struct Audit<'a> {
    clients: &'a Clients<'a>,
    flows: Vec<Flow>,
    run: String,
    child: Child,
    stdin: ChildStdin,
    events: Arc<Mutex<Vec<Value>>>,
}

/// A time in which nothing came of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// How long, in ms.
    pub ms: i64,
    /// The flow's topic.
    pub topic: &'static str,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_millis(self.ms.unsigned_abs());
        write!(f, "{:>5.1} s ({})", time.as_secs_f64(), self.topic)
    }
}

impl<'a> Audit<'a> {
    /// Starts to write and read; returns when every flow has had a message there and back.
    ///
    /// # Errors
    /// Where a client does not start.
    pub fn start(clients: &'a Clients<'a>, flows: &[Flow]) -> Result<Self> {
        let run = format!("audit-{}-{}", std::process::id(), unique());
        let mut child = clients.serve()?;
        let (stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    held(&sink).push(event);
                }
            }
        });
        let mut audit = Self { clients, flows: flows.to_vec(), run, child, stdin, events };
        for flow in flows {
            let Flow { topic, protocol, endpoint, type_, rate } = flow;
            let run = &audit.run;
            let ordered = matches!(*type_, "fifo" | "ordered");
            let consume = format!(
                "{topic}-in consume --protocol {protocol} --endpoint {endpoint} --topic {topic} --consumer-group {topic}-readers --run {run} --until-idle {SPAN}000 --timeout {SPAN} --abandon{}",
                if ordered && *protocol == "remoting" { " --ordered" } else { "" }
            );
            // A slow machine is slow, not broken: a send of four seconds is no failure here.
            let produce = format!(
                "{topic}-out produce --protocol {protocol} --endpoint {endpoint} --topic {topic} --run {run} --type {type_} --rate {rate} --seconds {SPAN} --attempts 1 --timeout-ms 10000{}{}",
                if *type_ == "delay" { " --delay-ms 2000" } else { "" },
                if *type_ == "transaction" { " --rollback-every 10" } else { "" },
            );
            writeln!(audit.stdin, "{consume}\n{produce}")?;
        }
        audit.until_received(Duration::from_secs(120))?;
        Ok(audit)
    }

    /// Waits until every flow has received something that was sent after now.
    ///
    /// # Errors
    /// After `limit`.
    pub fn until_received(&self, limit: Duration) -> Result<()> {
        let last = |f: &Flow, events: &[Value]| {
            of(events, &format!("{}-out", f.topic), "acked").filter_map(|e| e["seq"].as_i64()).max().unwrap_or(-1)
        };
        let floor: Vec<i64> = self.flows.iter().map(|f| last(f, &held(&self.events))).collect();
        until("every flow has a message there and back", limit, || {
            let events = held(&self.events);
            let behind = self.flows.iter().zip(&floor).find(|(f, floor)| {
                !of(&events, &format!("{}-in", f.topic), "received").any(|e| e["seq"].as_i64() > Some(**floor))
            });
            let troubles = events.iter().rev().find(|e| e["event"] == "failed" || e["event"] == "summary");
            Ok(Answer::when(behind.is_none(), (), || format!("{behind:?}; last trouble: {troubles:?}")))
        })
    }

    /// The time that events are measured with, in ms.
    #[must_use]
    pub fn now(&self) -> i64 {
        i64::try_from(unique()).unwrap_or(i64::MAX)
    }

    /// Longest time without an acknowledgement and without a reception since `from` (of [`Audit::now`]), in ms, of the flow that fared worst.
    #[must_use]
    pub fn gaps_since(&self, from: i64) -> (Gap, Gap) {
        let (events, now) = (held(&self.events), self.now());
        let worst = |suffix: &str, event: &str| {
            let gaps = self.flows.iter().map(|f| {
                let command = format!("{}-{suffix}", f.topic);
                let times: Vec<i64> = of(&events, &command, event).filter_map(|e| e["wall_ms"].as_i64()).collect();
                Gap { ms: gap_since(&times, from, now), topic: f.topic }
            });
            gaps.max().unwrap_or_default()
        };
        (worst("out", "acked"), worst("in", "received"))
    }

    /// Stops writing, waits until everything acknowledged was received or is late, and gives the account. What is late is looked for once more,
    /// by a group that reads the topic from its start; what that finds was skipped where brokers say that the readers have nothing left.
    ///
    /// # Errors
    /// Where the clients went away before the end, or the brokers can't be asked what is left.
    pub fn finish(mut self) -> Result<Vec<Account>> {
        for flow in &self.flows {
            writeln!(self.stdin, "stop {}-out", flow.topic)?;
        }
        until("the producers have ended", Duration::from_secs(60), || {
            let events = held(&self.events);
            let ended = self.flows.iter().all(|f| of(&events, &format!("{}-out", f.topic), "summary").next().is_some());
            Ok(Answer::when(ended, (), || "one still sends".into()))
        })?;
        // Who is late is judged below, so that the account is printed in any case.
        let _ = until("everything acknowledged was received", LATE, || {
            let missing: usize = self.accounts().iter().map(|a| a.lost.len()).sum();
            Ok(Answer::when(missing == 0, (), || format!("{missing} are missing")))
        });
        for flow in &self.flows {
            writeln!(self.stdin, "stop {}-in", flow.topic)?;
        }
        writeln!(self.stdin, "wait")?;
        let mut accounts = self.accounts();
        let engine = Engine::of(self.clients.namespace());
        for (flow, account) in self.flows.iter().zip(&mut accounts).filter(|(_, a)| !a.lost.is_empty()) {
            let found = self.look_again(flow)?;
            account.judge(&found, engine.left(&format!("{}-readers", flow.topic))?);
        }
        drop(self.stdin);
        self.child.wait()?;
        accounts.iter().for_each(|account| println!("{account}"));
        Ok(accounts)
    }

    fn look_again(&self, flow: &Flow) -> Result<BTreeSet<i64>> {
        let Flow { topic, protocol, endpoint, .. } = flow;
        let command = format!(
            "consume --protocol {protocol} --endpoint {endpoint} --topic {topic} --consumer-group {topic}-again --run {} --until-idle 20000 --timeout 300 --abandon",
            self.run
        );
        let events = self.clients.run(Client::Java, &command)?;
        Ok(events.iter().filter(|e| e["event"] == "received").filter_map(|e| e["seq"].as_i64()).collect())
    }

    fn accounts(&self) -> Vec<Account> {
        let events = held(&self.events);
        self.flows.iter().map(|f| account(f, &events)).collect()
    }
}

fn unique() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis())
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest time between two of these, of which the later one is after `from`; the time up to `now` counts too.
fn gap_since(times: &[i64], from: i64, now: i64) -> i64 {
    let mut last = None;
    let mut longest = 0;
    for time in times.iter().copied().chain([now]) {
        if time > from {
            longest = longest.max(time - last.unwrap_or(from));
        }
        last = Some(time);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_from_the_last_one_before_and_up_to_now() {
        assert_eq!(gap_since(&[10, 20, 90, 100], 50, 120), 70);
        assert_eq!(gap_since(&[10, 20, 30], 25, 300), 270);
        assert_eq!(gap_since(&[10, 500, 510], 505, 520), 10);
        assert_eq!(gap_since(&[], 5, 9), 4);
    }
}
