//! docs/benchmarks-topics.md.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::engine::SIZE;

/// What was measured with one number of topics.
#[derive(Debug)]
pub struct Row {
    pub size: usize,
    pub applying: f64,
    pub ready: f64,
    /// In order, seconds.
    pub edits: Vec<f64>,
    pub meanwhile: Vec<f64>,
    pub writes: f64,
    pub calls: f64,
    pub group_calls: f64,
    pub idle_writes: f64,
    pub memory: f64,
    pub peak: f64,
    pub deletions: f64,
    pub processor: f64,
    pub idle_processor: f64,
}

/// Of figures in order.
fn percentile(figures: &[f64], p: usize) -> f64 {
    figures.get((figures.len() * p / 100).min(figures.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

const METHOD: &str = "\
A real kube-apiserver with etcd, real brokers as bare processes (ENGINE), the operator as it is released, and the program that applies \
and watches, all on this one machine: they share its processors, so the figures are an upper bound of what each needs alone.

- *Applied*: topics and a tenth as many consumer groups, created by 16 requests at a time, in seconds. *All Ready*: from the last of them until a watch has seen Ready with \
`observedGeneration` on every one; the operator works meanwhile, that is what it is for.
- *Edit*: `spec.queues` of one topic after another, 200 times (100 with 100 topics), from the answer to the edit until a watch has seen Ready for it.
- *Edit while they are applied*: `spec.permission` of one more topic that was Ready before, every 200 ms, or as soon as it is Ready again, from the first topic that is applied until \
all are Ready.
- *Idle*: 63 s, after 45 s of rest. *Calls*: what is asked of the two replicas for topics and groups in one resync (20 s), and for the figures of consumer groups in one look (30 s). \
*Writes*: to the API server about topics and groups.
- *Deletions*: of topics with `deletionPolicy: Delete`, at most 1,000 of them beside the others, confirmed before; from the one request that deletes them until the last object is gone, \
by which time master, replica and name server have none of them.
";

const STRIMZI: &str = "\
## Strimzi's published figures

Of its unidirectional topic operator, as its authors published them; measured on other machines against Kafka, so they are for the order of magnitude, not for a ratio.

| what | figure | conditions | source |
|---|---|---|---|
| topics created | 34/s (250 in 7.3 s), 26/s (750 in 28.8 s) | JVM 125 MB and 270 MB | strimzi-kafka-operator PR #9907 |
| topics deleted | 5/s (250 in 50.2 s; 750 in 154 s) | the same | PR #9907 |
| 10,000 topic events | less than 10 min | three nodes of Minikube, 0.38 | strimzi.io, 2023-11-02 |
| 50 changes at once on 16 topics | 4.7 s end to end | | PR #10138 |
| falls over at | 4,100 topics of 12 partitions × 3, JVM 314 MB | | issue #10054 |
| queue of events full | the operator stops itself | 1,024 events, batches of 100, 100 ms | its documentation on batches |
";

/// Writes the page.
pub fn write(kubernetes: &str, rows: &[Row]) -> Result<()> {
    let machine = format!(
        "{} cores of {}, {} of memory",
        said("nproc", &[]),
        said("sh", &["-c", "sed -n 's/model name.*: //p' /proc/cpuinfo | head -1"]),
        said("sh", &["-c", "awk '/MemTotal/ { printf \"%d GiB\", $2 / 1048576 }' /proc/meminfo"]),
    );
    let mut page = format!(
        "# Topics by the thousand\n\nWritten by `make bench-topics` on {}, {machine}, Kubernetes {kubernetes}, RocketMQ 5.5.0, commit {}.\n\n## Method\n\n{}\n## Figures\n\n",
        said("date", &["-u", "+%F"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        METHOD.replace("ENGINE", SIZE),
    );
    let mut line = |name: &str, aim: &str, of: &dyn Fn(&Row) -> String| {
        let cells: Vec<String> = rows.iter().map(of).collect();
        writeln!(page, "| {name} | {} | {aim} |", cells.join(" | "))
    };
    line("topics", "aim", &|r| r.size.to_string())?;
    line("---", "---", &|_| "---".into())?;
    line("applied, s", "", &|r| format!("{:.1}", r.applying))?;
    line("all Ready after the last, s", "≤ 30", &|r| format!("{:.1}", r.ready))?;
    line("objects Ready a second, all in all", "", &|r| {
        format!("{:.0}", r.size as f64 * 1.1 / (r.applying + r.ready))
    })?;
    line("writes per topic or edit until Ready", "1", &|r| format!("{:.2}", r.writes))?;
    line("edit, median s", "", &|r| format!("{:.3}", percentile(&r.edits, 50)))?;
    line("edit, p99 s", "< 1", &|r| format!("{:.3}", percentile(&r.edits, 99)))?;
    line("edit while they are applied, median s", "", &|r| format!("{:.3}", percentile(&r.meanwhile, 50)))?;
    line("edit while they are applied, p99 s", "seconds", &|r| format!("{:.3}", percentile(&r.meanwhile, 99)))?;
    line("edit while they are applied, slowest s", "", &|r| format!("{:.3}", percentile(&r.meanwhile, 100)))?;
    line("deletions a second", "", &|r| format!("{:.0}", r.deletions))?;
    line("idle: engine calls in a resync", "the same", &|r| format!("{:.1}", r.calls))?;
    line("idle: engine calls in a look at groups", "bounded", &|r| format!("{:.0}", r.group_calls))?;
    line("idle: writes", "0", &|r| format!("{:.0}", r.idle_writes))?;
    line("idle: operator, MiB resident", "≤ 64", &|r| format!("{:.1}", r.memory))?;
    line("idle: operator, % of a core", "", &|r| format!("{:.1}", r.idle_processor))?;
    line("highest resident memory, MiB", "", &|r| format!("{:.1}", r.peak))?;
    line("operator's processor time until Ready, s", "", &|r| format!("{:.1}", r.processor))?;
    page.push('\n');
    page.push_str(STRIMZI);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks-topics.md");
    std::fs::write(path, &page)?;
    println!("{page}");
    Ok(())
}
