//! What the documents tell people to type is typed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shop::Shop;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The ```sh blocks of a page, in order.
fn blocks(page: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root().join(page)).with_context(|| page.to_owned())?;
    let mut parts = text.split("\n```");
    parts.next();
    let found: Vec<String> =
        parts.filter_map(|p| p.strip_prefix("sh\n")).map(|p| format!("{}\n", p.trim_end())).collect();
    ensure!(!found.is_empty(), "{page} has no block of commands");
    Ok(found)
}

/// Runs all blocks of a page in one shell that stops at the first failure, in a folder.
fn execute(page: &str, folder: &Path) -> Result<()> {
    let script = format!("set -euo pipefail\nset -x\n{}", blocks(page)?.concat());
    let output = Command::new("bash").arg("-c").arg(&script).current_dir(folder).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{page}: {}\n{said}", output.status);
    Ok(())
}

#[test]
fn the_tutorial_works_as_it_is_written() -> Result<()> {
    execute("docs/tutorial.md", &root())
}

#[test]
fn changes_are_reviewed_as_it_is_written() -> Result<()> {
    execute("docs/how-to/review-changes.md", &root())
}

#[test]
fn the_pages_about_topics_and_groups_work_as_they_are_written() -> Result<()> {
    // They speak of a cluster that is there, on which nobody has followed them yet.
    let shop = Shop::alone()?;
    let kinds = "topics.rocketmq.gantry.dev,consumergroups.rocketmq.gantry.dev";
    let topics = ["invoices", "shipments", "returns", "parcels", "readings"];
    let groups = ["bookkeeping", "parcels-by-road", "statistics"];
    shop.namespace.kubectl(&[&["delete", kinds, "--ignore-not-found"], &topics[..], &groups[..]].concat())?;
    // Their objects retain them, and what is there with other settings is not changed by a new object.
    for topic in topics {
        shop.admin(&format!("deleteTopic -c shop -t {topic}"))?;
    }
    for group in groups {
        shop.admin(&format!("deleteSubGroup -c shop -g {}", group.replace("parcels-by-road", "parcels_by_road")))?;
    }
    // What they write goes into a folder of the reader's.
    let folder = std::env::temp_dir().join(format!("gantry-documents-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let pages = [
        "declare-topics",
        "adopt-a-topic",
        "import-topics",
        "move-a-tenant-in",
        "reset-offsets",
        "delete-topics-safely",
    ];
    for page in pages {
        execute(&format!("docs/how-to/{page}.md"), &folder)?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

#[test]
fn the_readme_asks_for_targets_that_are_part_of_the_test() -> Result<()> {
    let makefile = std::fs::read_to_string(root().join("Makefile"))?;
    let run = std::fs::read_to_string(root().join("hack/test"))?;
    let mut targets = 0;
    for line in blocks("README.md")?.concat().lines() {
        let command = line.split(" #").next().unwrap_or_default().trim();
        let target = command.strip_prefix("make ").with_context(|| format!("README says {command:?}"))?;
        ensure!(makefile.contains(&format!("\n{target}: ")), "there is no target {target}");
        // `make test` runs hack/test, which runs the others.
        ensure!(
            target.starts_with("test") || run.contains(&format!("README: {command}")),
            "hack/test does not run {command}"
        );
        targets += 1;
    }
    ensure!(targets >= 4, "README names {targets} targets");
    Ok(())
}
