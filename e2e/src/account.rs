//! What became of the messages of a flow, judged by what its clients saw. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::audit::Flow;

/// What became of the messages of a flow.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Topic.
    pub topic: String,
    /// Messages that the broker acknowledged (and that were to be delivered).
    pub acked: usize,
    /// Sends that failed at the program, after all that the client itself had tried.
    pub failed: Vec<String>,
    /// Acknowledged, and never received by anybody.
    pub lost: Vec<i64>,
    /// Acknowledged, not received by the readers: another group found them. They are skipped or late.
    pub missed: Vec<i64>,
    /// As many of them as the readers still have before them.
    pub late: usize,
    /// Rolled back, and received all the same.
    pub undone: Vec<i64>,
    /// Received more than once by the readers.
    pub duplicates: usize,
    /// Of FIFO and ordered flows: acknowledged, and received after a later one of its message group.
    pub disordered: usize,
    /// Longest time between two acknowledgements, in ms.
    pub write_gap: i64,
    /// Longest time between two receptions, in ms.
    pub read_gap: i64,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, acked, failed, lost, late, undone, duplicates, disordered, write_gap, read_gap, .. } = self;
        let skipped = self.skipped();
        write!(
            f,
            "{topic:<20} acknowledged {acked:>6}  lost {}  skipped {skipped}  late {late}  rolled back but received {}  out of order {disordered}  failed sends {}  duplicates {duplicates}  longest without a write {write_gap} ms, without a read {read_gap} ms",
            lost.len(),
            undone.len(),
            failed.len(),
        )
    }
}

impl Account {
    /// Tells apart what the readers missed: what another group `found` is late as far as the brokers have that much `left` for the readers;
    /// beyond that it was skipped. What nobody found is lost.
    pub(crate) fn judge(&mut self, found: &BTreeSet<i64>, left: u64) {
        (self.missed, self.lost) = std::mem::take(&mut self.lost).into_iter().partition(|seq| found.contains(seq));
        self.late = usize::try_from(left).unwrap_or(usize::MAX).min(self.missed.len());
    }

    /// As many of those that the readers missed as they have nothing left to read of.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.missed.len() - self.late
    }

    /// As a part of a record.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"topic": self.topic, "acked": self.acked, "lost": self.lost.len(), "skipped": self.skipped(), "late": self.late, "undone": self.undone.len(),
            "failed": self.failed.len(), "failures": self.failed, "duplicates": self.duplicates, "disordered": self.disordered})
    }
}

/// Events of one name of one command.
pub(crate) fn of<'e>(events: &'e [Value], command: &str, event: &str) -> impl Iterator<Item = &'e Value> {
    let (command, event) = (command.to_owned(), event.to_owned());
    events.iter().filter(move |e| e["cmd"] == command && e["event"] == event)
}

/// The account of a flow by its events. What nobody has received yet is called lost: see [`Account::judge`].
pub(crate) fn account(flow: &Flow, events: &[Value]) -> Account {
    let (out, inn) = (format!("{}-out", flow.topic), format!("{}-in", flow.topic));
    let seqs = |command: &str, event: &str| -> Vec<i64> {
        of(events, command, event).filter_map(|e| e["seq"].as_i64()).collect()
    };
    let (acked, received) = (seqs(&out, "acked"), seqs(&inn, "received"));
    let distinct: BTreeSet<i64> = received.iter().copied().collect();
    Account {
        topic: flow.topic.into(),
        acked: acked.len(),
        failed: of(events, &out, "failed")
            .map(|e| format!("after {} ms: {}", e["ms"], e["error"].as_str().unwrap_or_default()))
            .collect(),
        lost: acked.iter().copied().filter(|s| !distinct.contains(s)).collect(),
        missed: Vec::new(),
        late: 0,
        undone: seqs(&out, "rolledback").into_iter().filter(|s| distinct.contains(s)).collect(),
        duplicates: received.len() - distinct.len(),
        disordered: if matches!(flow.type_, "fifo" | "ordered") { disordered(events, &inn, &acked) } else { 0 },
        write_gap: longest_gap(of(events, &out, "acked")),
        read_gap: longest_gap(of(events, &inn, "received")),
    }
}

/// First receptions of acknowledged messages that come after a later one of their group. A message that comes again says nothing of order, and neither does
/// one whose sender was told that it failed, and sent the next: a request that a cut connection holds back arrives when that is whole again.
fn disordered(events: &[Value], command: &str, acked: &[i64]) -> usize {
    let acked: BTreeSet<i64> = acked.iter().copied().collect();
    let mut seen = BTreeSet::new();
    let mut latest: BTreeMap<String, i64> = BTreeMap::new();
    let mut wrong = 0;
    for event in of(events, command, "received") {
        let (Some(seq), group) = (event["seq"].as_i64(), event["group"].to_string()) else { continue };
        if !seen.insert(seq) {
            continue;
        }
        let last = latest.entry(group).or_insert(-1);
        if seq < *last && acked.contains(&seq) {
            wrong += 1;
        }
        *last = (*last).max(seq);
    }
    wrong
}

fn longest_gap<'e>(events: impl Iterator<Item = &'e Value>) -> i64 {
    let times: Vec<i64> = events.filter_map(|e| e["t_ms"].as_i64()).collect();
    times.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)
}

/// That nothing acknowledged was lost or skipped, no order was broken, and nothing was delivered that was taken back.
///
/// # Errors
/// Where it was, with the account.
pub fn nothing_lost(accounts: &[Account]) -> Result<()> {
    for account in accounts {
        let Account { topic, acked, lost, missed, undone, disordered, .. } = account;
        ensure!(*acked > 0, "{topic} was not written");
        let well = lost.is_empty() && account.skipped() == 0 && undone.is_empty() && *disordered == 0;
        ensure!(well, "{account}; lost {lost:?}, skipped or late {missed:?}, rolled back but received {undone:?}");
    }
    Ok(())
}

/// That what was done went well and nothing was lost. A failure of the former tells the account, too.
///
/// # Errors
/// Where one of them failed.
pub fn accounted<T>(done: Result<T>, accounts: Result<Vec<Account>>) -> Result<T> {
    let done = done.map_err(|error| match &accounts {
        Ok(accounts) => error.context(accounts.iter().map(|a| format!("\n{a}")).collect::<String>()),
        Err(unknown) => error.context(format!("no account: {unknown:#}")),
    })?;
    nothing_lost(&accounts?)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(type_: &'static str) -> Flow {
        Flow { topic: "t", protocol: "grpc", endpoint: "e", type_, rate: 1 }
    }

    fn event(command: &str, name: &str, seq: i64, at: i64) -> Value {
        json!({"cmd": command, "event": name, "seq": seq, "group": "g0", "t_ms": at})
    }

    #[test]
    fn an_acknowledged_message_that_nobody_received_is_lost() {
        let events = [
            event("t-out", "acked", 0, 10),
            event("t-out", "failed", 1, 20),
            event("t-out", "acked", 2, 910),
            event("t-in", "received", 0, 15),
            event("t-in", "received", 0, 25),
        ];
        let a = account(&flow("normal"), &events);
        assert_eq!((a.acked, a.lost.as_slice(), a.duplicates, a.failed.len(), a.write_gap), (2, &[2][..], 1, 1, 900));
        assert!(nothing_lost(&[a]).is_err());
    }

    #[test]
    fn what_another_group_finds_was_skipped_unless_the_readers_still_have_as_much_before_them() {
        let missing = || Account { acked: 9, lost: vec![3, 4, 5], ..Account::default() };
        let judged = |found: &[i64], left| {
            let mut account = missing();
            account.judge(&found.iter().copied().collect(), left);
            (account.lost.len(), account.skipped(), account.late, nothing_lost(&[account]).is_ok())
        };
        assert_eq!(judged(&[3, 4, 5, 6], 0), (0, 3, 0, false));
        assert_eq!(judged(&[3, 4, 5], 1), (0, 2, 1, false));
        assert_eq!(judged(&[3, 4, 5], 7), (0, 0, 3, true));
        assert_eq!(judged(&[3], 7), (2, 0, 1, false));
        assert_eq!(judged(&[], 0), (3, 0, 0, false));
    }

    #[test]
    fn a_message_that_was_rolled_back_must_not_be_received() {
        let mut events =
            vec![event("t-out", "acked", 0, 10), event("t-out", "rolledback", 1, 20), event("t-in", "received", 0, 15)];
        assert!(nothing_lost(&[account(&flow("transaction"), &events)]).is_ok());
        events.push(event("t-in", "received", 1, 25));
        let a = account(&flow("transaction"), &events);
        assert_eq!(a.undone, [1]);
        assert!(nothing_lost(&[a]).is_err());
    }

    #[test]
    fn a_message_after_a_later_one_of_its_group_is_out_of_order_and_one_that_comes_again_is_not() {
        let all = || (0..4).map(|s| event("t-out", "acked", s, s));
        let received =
            |seqs: &[i64]| all().chain(seqs.iter().map(|s| event("t-in", "received", *s, *s))).collect::<Vec<_>>();
        assert_eq!(account(&flow("fifo"), &received(&[0, 2, 1, 3])).disordered, 1);
        assert_eq!(account(&flow("fifo"), &received(&[0, 1, 0, 2, 1])).disordered, 0);
        assert_eq!(account(&flow("normal"), &received(&[0, 2, 1])).disordered, 0);
        // The sender of the late one was told that it failed, and sent the next.
        let mut failed = received(&[0, 2, 1, 3]);
        failed[1] = event("t-out", "failed", 1, 1);
        assert_eq!(account(&flow("fifo"), &failed).disordered, 0);
    }
}
