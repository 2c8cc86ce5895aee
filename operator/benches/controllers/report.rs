//! The table in docs/design/0009-controller-type.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::trial::Row;

/// What stands around the table; all else on the page is written by hand.
const FROM: &str = "<!-- written by `make trial-controllers` -->\n";
const TO: &str = "<!-- end -->";

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Puts the table into the page.
pub fn write(dledger: &[Row], jraft: &[Row]) -> Result<()> {
    let lines: String =
        dledger.iter().zip(jraft).map(|((name, d), (_, j))| format!("| {name} | {d} | {j} |\n")).collect();
    let when = format!("{}, {} cores, RocketMQ 5.5.0", said("date", &["-u", "+%F"]), said("nproc", &[]));
    let table = format!("Seen on {when}:\n\n| what | DLedger | jRaft |\n|---|---|---|\n{lines}");
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/design/0009-controller-type.md");
    let page = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (before, rest) = page.split_once(FROM).context("the page has no place for the table")?;
    let (_, after) = rest.split_once(TO).context("the table's end is not marked")?;
    Ok(std::fs::write(&path, format!("{before}{FROM}{table}{TO}{after}"))?)
}
