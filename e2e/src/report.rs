//! The report of a chaos run: docs/reliability.md and its picture, from nothing but the run's record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::faults::Fault;
use crate::record::Record;

/// Upper bounds of the picture's bars, in seconds; the last bar is what took longer.
const BOUNDS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
/// What is counted of each flow.
const COUNTS: [&str; 8] = ["acked", "lost", "skipped", "undone", "disordered", "late", "duplicates", "failed"];

/// Writes `reliability.md` and `reliability.svg` into `docs`.
///
/// # Errors
/// Where they can't be written, or nothing is on record.
pub fn write(docs: &Path, record: &Record) -> Result<()> {
    let text = text(record).context("nothing is on record")?;
    fs::write(docs.join("reliability.svg"), picture(&record.episodes().collect::<Vec<_>>()))?;
    fs::write(docs.join("reliability.md"), text)?;
    println!("wrote {}", docs.join("reliability.md").display());
    Ok(())
}

/// In seconds.
fn figures(episodes: &[&Value], key: &str) -> Vec<f64> {
    let scale = if key.ends_with("Ms") { 1000.0 } else { 1.0 };
    let mut all: Vec<f64> = episodes.iter().filter_map(|e| e[key].as_f64()).map(|v| v / scale).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn median_and_worst(sorted: &[f64]) -> String {
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(worst)) => format!("{median:.1} / {worst:.1}"),
        _ => "–".into(),
    }
}

fn text(record: &Record) -> Option<String> {
    let episodes: Vec<&Value> = record.episodes().collect();
    let (with, days) = record.made_with()?;
    let said = |key: &str| with[key].as_str().map_or_else(|| with[key].to_string(), Into::into);
    let flows = flows(record);
    let sum = |of: usize| flows.values().map(|counts| counts[of]).sum::<i64>();
    let mut out = String::new();
    let _ = write!(
        out,
        "# Reliability\n\nWritten by `{without}make chaos N={n} SEED={seed}` on {days} at commit {commit}: {n} faults, one after the other, to a cluster of {replicas} replicas, 3\n\
         controllers, 2 name servers and 2 proxies on {nodes} of Kubernetes {kubernetes} with RocketMQ {engine}, while clients of both protocols wrote and\n\
         read without a pause. All of it shared one machine, so brokers and proxies ran with `-XX:TieredStopAtLevel=1`. Each fault was undone after at\n\
         most 60 s, and the next came when everything was as declared again.\n\n\
         **{acked} messages were acknowledged; {lost} of them were lost, {skipped} were skipped.**\n\n",
        without = if flows.contains_key("ha-transaction") { "" } else { "TRANSACTIONS=no " },
        n = episodes.len(),
        seed = said("seed"),
        commit = said("commit"),
        replicas = said("replicas"),
        nodes = if with["nodes"] == 1 { "1 node".into() } else { format!("{} nodes", said("nodes")) },
        kubernetes = said("kubernetes"),
        engine = said("engine"),
        acked = sum(0),
        lost = sum(1),
        skipped = sum(2),
    );
    write_failures(&mut out, &record.failures());
    let switches = |key: &str| episodes.iter().filter_map(|e| e[key].as_i64()).sum::<i64>();
    let _ = write!(
        out,
        "Masters changed {} times to\n\
         a replica that was seen in sync just before, {} times so fast that it could not be seen.\n\n\
         ![how long until all was whole, and how long nothing could be written](reliability.svg)\n\n",
        switches("switchesInSync"),
        switches("switchesUnseen"),
    );
    write_kinds(&mut out, &episodes);
    write_flows(&mut out, &flows);
    Some(out)
}

fn flows(record: &Record) -> BTreeMap<&str, [i64; COUNTS.len()]> {
    let mut flows: BTreeMap<&str, [i64; COUNTS.len()]> = BTreeMap::new();
    for account in record.accounts() {
        let sums = flows.entry(account["topic"].as_str().unwrap_or_default()).or_default();
        for (sum, key) in sums.iter_mut().zip(COUNTS) {
            *sum += account[key].as_i64().unwrap_or(0);
        }
    }
    flows
}

fn write_failures(out: &mut String, failures: &[String]) {
    if failures.is_empty() {
        out.push_str(
            "No round of faults failed: after every fault each broker had every topic and consumer group as declared, and readers were at least where they had been.\n\n",
        );
        return;
    }
    let _ = writeln!(out, "**Rounds that failed: {}.**\n", failures.len());
    for failure in failures {
        // The account follows on lines of its own.
        let _ = writeln!(out, "- {}", failure.lines().next().unwrap_or_default());
    }
    out.push('\n');
}

fn write_kinds(out: &mut String, episodes: &[&Value]) {
    let mut kinds: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for e in episodes {
        kinds.entry(e["fault"].as_str().unwrap_or_default()).or_default().push(e);
    }
    out.push_str(
        "## Faults\n\nMedian / worst, in seconds. *Without a write*: the longest time in which some flow had no send acknowledged, its client's own retries\n\
         included; ten sends a second are tried. *Aim*: what that should stay below: 2 s for what is planned, 3 s where a process dies, 10 s where one\n\
         hangs or is cut off. *Whole*: everything that is declared serves again; it includes the time that the fault lasted, and is looked at every two seconds.\n\n\
         | fault | times | without a write | aim | | without a read | whole after |\n|---|---|---|---|---|---|---|\n",
    );
    for (kind, of) in &kinds {
        let column = |key| median_and_worst(&figures(of, key));
        let aim = Fault::named(kind).and_then(Fault::aim);
        let _ = writeln!(
            out,
            "| {kind} | {} | {} | {} | {} | {} | {} |",
            of.len(),
            column("writeGapMs"),
            aim.map_or_else(|| "–".into(), |aim| format!("< {aim}")),
            verdict(aim, of),
            column("readGapMs"),
            column("wholeAfter")
        );
    }
}

/// Whether an aim was met every time, and how often it was not. A fault that failed met none.
fn verdict(aim: Option<f64>, of: &[&Value]) -> String {
    let failed = of.iter().filter(|e| e["failure"].is_string()).count();
    let over = aim.map_or(0, |aim| figures(of, "writeGapMs").iter().filter(|gap| **gap >= aim).count());
    match (aim, over, failed) {
        (_, _, 1..) => format!("**failed {failed} of {}**", of.len()),
        (None, ..) => "–".into(),
        (Some(_), 0, _) => "met".into(),
        (Some(_), over, _) => format!("**missed {over} of {}**", of.len()),
    }
}

fn write_flows(out: &mut String, flows: &BTreeMap<&str, [i64; COUNTS.len()]>) {
    out.push_str(
        "\n## Messages\n\nLost: acknowledged, and received neither by the readers nor by a group that read the topic once more from its start. Skipped: received by that group\n\
         alone, while the brokers had nothing left for the readers. Rolled back: taken back by its sender, and received all the same. Out of order:\n\
         acknowledged, and received for the first time after a later one of its message group. Late: still before the readers three minutes after the last\n\
         send. Received again: what a broker could not know to be done. Failed: sends that told their program so; such a message may be there all the same.\n\n\
         | flow | acknowledged | lost | skipped | rolled back | out of order | late | received again | failed |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (flow, [acked, lost, skipped, undone, disordered, late, duplicates, failed]) in flows {
        let ordered =
            if flow.contains("fifo") || flow.contains("ordered") { disordered.to_string() } else { "–".into() };
        let _ = writeln!(
            out,
            "| {flow} | {acked} | {lost} | {skipped} | {undone} | {ordered} | {late} | {duplicates} | {failed} |"
        );
    }
}

/// Two rows of bars: how many faults took how long.
fn picture(episodes: &[&Value]) -> String {
    let (width, row) = (760, 170);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        2 * row
    );
    let rows = [
        ("longest time without an acknowledged send", "writeGapMs", "#c2593f"),
        ("everything as declared again", "wholeAfter", "#3f6fc2"),
    ];
    for (i, (title, key, colour)) in rows.into_iter().enumerate() {
        bars(&mut svg, i * row, row, title, colour, &counts(&figures(episodes, key)));
    }
    svg.push_str("</svg>\n");
    svg
}

fn counts(sorted: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; BOUNDS.len() + 1];
    for value in sorted {
        counts[BOUNDS.iter().position(|b| value <= b).unwrap_or(BOUNDS.len())] += 1;
    }
    counts
}

fn bars(svg: &mut String, top: usize, row: usize, title: &str, colour: &str, counts: &[usize]) {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let (left, step, room) = (20, 72, row - 70);
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 22);
    for (i, count) in counts.iter().enumerate() {
        let (x, height) = (left + i * step, count * room / most);
        let base = top + row - 30;
        let label = BOUNDS.get(i).map_or_else(|| "longer".into(), |b| format!("≤ {b} s"));
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"56\" height=\"{height}\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{count}</text><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555555\">{label}</text>",
            base - height,
            x + 28,
            base - height - 4,
            x + 28,
            base + 16
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn begun(n: u64) -> Value {
        json!({"begun": n, "date": "2026-11-29", "seed": 7, "commit": "abc1234", "nodes": 3, "replicas": 3, "kubernetes": "v1", "engine": "5.5.0"})
    }

    fn episode(gap: i64, whole: f64) -> Value {
        json!({"fault": "master killed", "writeGapMs": gap, "readGapMs": 700, "wholeAfter": whole, "switchesInSync": 1, "switchesUnseen": 0})
    }

    fn account(acked: i64, lost: i64) -> Value {
        json!({"topic": "ha-fifo", "acked": acked, "lost": lost, "skipped": 0, "disordered": 0, "duplicates": 2, "failed": 1})
    }

    #[test]
    fn a_report_sums_what_is_on_record_and_says_which_aims_were_missed() -> Result<()> {
        let record = Record::of(&[
            begun(0),
            json!({"round": 0, "episodes": [episode(1500, 20.0), episode(900, 31.5)], "accounts": [account(100, 0)], "failure": null}),
            begun(1),
            json!({"round": 1, "episodes": [episode(4000, 400.0)], "accounts": [account(50, 0)], "failure": null}),
        ]);
        let text = text(&record).context("no text")?;
        assert!(text.contains("N=3 SEED=7` on 2026-11-29 at commit abc1234"), "{text}");
        assert!(text.contains("RocketMQ 5.5.0"), "{text}");
        assert!(text.contains("**150 messages were acknowledged; 0 of them were lost, 0 were skipped.**"), "{text}");
        assert!(text.contains("No round of faults failed:"), "{text}");
        assert!(text.contains("Masters changed 3 times"), "{text}");
        let row = "| master killed | 3 | 1.5 / 4.0 | < 3 | **missed 1 of 3** | 0.7 / 0.7 | 31.5 / 400.0 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| ha-fifo | 150 | 0 | 0 | 0 | 0 | 0 | 4 | 2 |"), "{text}");
        let episodes: Vec<&Value> = record.episodes().collect();
        assert_eq!(counts(&figures(&episodes, "wholeAfter")), [0, 0, 0, 0, 1, 0, 1, 0, 0, 1]);
        assert!(picture(&episodes).ends_with("</svg>\n"));
        Ok(())
    }

    #[test]
    fn a_round_that_lost_something_stays_in_the_report_when_later_ones_go_well() -> Result<()> {
        let record = Record::of(&[
            begun(0),
            json!({"round": 0, "episodes": [episode(900, 20.0), {"fault": "slave killed", "failure": "not whole"}], "accounts": [account(100, 3)],
                "failure": "slave killed: not whole\nha-fifo: 3 lost"}),
            begun(1),
            begun(2),
            json!({"round": 2, "episodes": [episode(900, 20.0)], "accounts": [account(50, 0)], "failure": null}),
        ]);
        let text = text(&record).context("no text")?;
        assert!(text.contains("**150 messages were acknowledged; 3 of them were lost, 0 were skipped.**"), "{text}");
        assert!(text.contains("**Rounds that failed: 2.**"), "{text}");
        assert!(text.contains("- round 1: slave killed: not whole\n- round 2: broken off"), "{text}");
        assert!(text.contains("| slave killed | 1 | – | < 3 | **failed 1 of 1** | – | – |"), "{text}");
        assert!(text.contains("| master killed | 2 | 0.9 / 0.9 | < 3 | met |"), "{text}");
        Ok(())
    }
}
