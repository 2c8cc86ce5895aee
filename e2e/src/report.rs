//! The report of a chaos run: docs/reliability.md and its picture, from nothing but the run's record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::faults::nodes;
use crate::kubectl::kubectl;

/// Upper bounds of the picture's bars, in seconds; the last bar is what took longer.
const BOUNDS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// Writes `reliability.md` and `reliability.svg` into `docs`.
///
/// # Errors
/// Where they can't be written, or the cluster's versions can't be asked.
pub fn write(docs: &Path, seed: u64, rounds: &[Value]) -> Result<()> {
    let episodes: Vec<&Value> = rounds.iter().flat_map(|r| r["episodes"].as_array().into_iter().flatten()).collect();
    let version: Value = serde_json::from_str(&kubectl(&["version", "-o", "json"])?)?;
    let kubernetes = version["serverVersion"]["gitVersion"].as_str().unwrap_or_default().to_owned();
    let nodes = match nodes()?.len() {
        1 => "1 node".to_owned(),
        n => format!("{n} nodes"),
    };
    fs::write(docs.join("reliability.svg"), picture(&episodes))?;
    fs::write(docs.join("reliability.md"), text(seed, &nodes, &kubernetes, rounds, &episodes))?;
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

fn text(seed: u64, nodes: &str, kubernetes: &str, rounds: &[Value], episodes: &[&Value]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for e in episodes {
        kinds.entry(e["fault"].as_str().unwrap_or_default()).or_default().push(e);
    }
    let mut flows: BTreeMap<&str, [i64; 5]> = BTreeMap::new();
    for account in rounds.iter().flat_map(|r| r["accounts"].as_array().into_iter().flatten()) {
        let sums = flows.entry(account["topic"].as_str().unwrap_or_default()).or_default();
        for (sum, key) in sums.iter_mut().zip(["acked", "lost", "disordered", "duplicates", "failed"]) {
            *sum += account[key].as_i64().unwrap_or(0);
        }
    }
    let lost: i64 = flows.values().map(|f| f[1]).sum();
    let acked: i64 = flows.values().map(|f| f[0]).sum();
    let mut out = String::new();
    let _ = write!(
        out,
        "# Reliability\n\nWritten by `make chaos N={n} SEED={seed}`: {n} faults, one after the other, to a cluster of 3 replicas, 3 controllers, 2 name servers and\n\
         2 proxies on {nodes} of Kubernetes {kubernetes} with RocketMQ 5.5.0, while clients of both protocols wrote and read without a pause. Each fault was\n\
         undone after at most 60 s, and the next came when everything was as declared again.\n\n\
         **{acked} messages were acknowledged; {lost} of them were lost.**\n\n\
         ![how long until all was whole, and how long nothing could be written](reliability.svg)\n\n\
         ## Faults\n\nMedian / worst, in seconds. *Without a write*: the longest time in which some flow had no send acknowledged, its client's own retries\n\
         included; ten sends a second are tried. *Whole*: everything that is declared serves again; it includes the time that the fault lasted.\n\n\
         | fault | times | without a write | without a read | whole after |\n|---|---|---|---|---|\n",
        n = episodes.len(),
    );
    for (kind, of) in &kinds {
        let column = |key| median_and_worst(&figures(of, key));
        let _ = writeln!(
            out,
            "| {kind} | {} | {} | {} | {} |",
            of.len(),
            column("writeGapMs"),
            column("readGapMs"),
            column("wholeAfter")
        );
    }
    out.push_str(
        "\n## Messages\n\nLost: acknowledged, and received neither by the readers nor by a group that read the topic once more from its start. Out of order: received\n\
         for the first time after a later one of its message group. Received again: what a broker could not know to be done. Failed: sends that told\n\
         their program so.\n\n| flow | acknowledged | lost | out of order | received again | failed |\n|---|---|---|---|---|---|\n",
    );
    for (flow, [acked, lost, disordered, duplicates, failed]) in &flows {
        let ordered = if flow.contains("fifo") { disordered.to_string() } else { "–".into() };
        let _ = writeln!(out, "| {flow} | {acked} | {lost} | {ordered} | {duplicates} | {failed} |");
    }
    out
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

    #[test]
    fn a_report_sums_what_is_on_record() {
        let episode = |gap: i64, whole: f64| json!({"fault": "master killed", "writeGapMs": gap, "readGapMs": 700, "wholeAfter": whole});
        let account = |acked: i64| json!({"topic": "ha-fifo", "acked": acked, "lost": 0, "disordered": 0, "duplicates": 2, "failed": 1});
        let rounds = [
            json!({"episodes": [episode(1500, 20.0), episode(900, 31.5)], "accounts": [account(100)]}),
            json!({"episodes": [episode(4000, 400.0)], "accounts": [account(50)]}),
        ];
        let episodes: Vec<&Value> =
            rounds.iter().flat_map(|r| r["episodes"].as_array().into_iter().flatten()).collect();
        let text = text(7, "3 nodes", "v1", &rounds, &episodes);
        assert!(text.contains("N=3 SEED=7"), "{text}");
        assert!(text.contains("**150 messages were acknowledged; 0 of them were lost.**"), "{text}");
        assert!(text.contains("| master killed | 3 | 1.5 / 4.0 | 0.7 / 0.7 | 31.5 / 400.0 |"), "{text}");
        assert!(text.contains("| ha-fifo | 150 | 0 | 0 | 4 | 2 |"), "{text}");
        assert_eq!(counts(&figures(&episodes, "wholeAfter")), [0, 0, 0, 0, 1, 0, 1, 0, 0, 1]);
        assert!(picture(&episodes).ends_with("</svg>\n"));
    }
}
