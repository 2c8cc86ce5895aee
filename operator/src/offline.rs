//! `gantry crds` and `gantry plan`: pure output, no cluster, for review in a pull request.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gantry_crds::{BrokerCluster, ConsumerGroup, Topic};
use kube::ResourceExt;
use serde::Deserialize;

use crate::broker_cluster::resources::Resources;
use crate::broker_cluster::view::Observed;
use crate::broker_cluster::{parse, plan as planning};
use crate::child::Write;
use crate::config::Settings;

/// All definitions as one YAML stream.
///
/// # Errors
/// Where a definition can't be written, which would be a defect.
pub fn definitions() -> anyhow::Result<String> {
    let mut text = String::new();
    for definition in gantry_crds::definitions() {
        write!(text, "---\n{}", serde_yaml::to_string(&definition)?)?;
    }
    Ok(text)
}

/// What the manifests in `files` would create, or change against those in `from`.
///
/// # Errors
/// Where a file can't be read, or holds something that can't be.
pub fn plan(files: &[PathBuf], from: &[PathBuf], settings: &Settings) -> anyhow::Result<String> {
    let before = read(from)?;
    let mut text = String::new();
    for object in read(files)? {
        match object {
            Manifest::BrokerCluster(new) => {
                let old = before.iter().find_map(|o| match o {
                    Manifest::BrokerCluster(c) if same(&**c, &*new) => Some(&**c),
                    _ => None,
                });
                broker_cluster(&new, old, settings, &mut text)?;
            }
            Manifest::Topic(t) => {
                let name = t.spec.topic_name.clone().unwrap_or_else(|| t.name_any());
                writeln!(
                    text,
                    "Topic {}: {name}, {} queues on each broker group, takes {} messages",
                    id(&*t),
                    t.spec.queues,
                    t.spec.type_.message_type()
                )?;
            }
            Manifest::ConsumerGroup(g) => {
                let name = g.spec.group_name.clone().unwrap_or_else(|| g.name_any());
                writeln!(
                    text,
                    "ConsumerGroup {}: {name}, {:?} delivery, {} attempts",
                    id(&*g),
                    g.spec.delivery,
                    g.spec.retry.max_attempts
                )?;
            }
        }
    }
    Ok(text)
}

fn broker_cluster(
    new: &BrokerCluster,
    old: Option<&BrokerCluster>,
    settings: &Settings,
    text: &mut String,
) -> anyhow::Result<()> {
    let cluster = parse::parse(new, settings).with_context(|| format!("BrokerCluster {}", id(new)))?;
    let observed = match old {
        Some(old) => as_applied(old, settings)?,
        None => Observed::default(),
    };
    let plan = planning::plan(&cluster, &observed)?;
    writeln!(text, "BrokerCluster {}: {} changes", id(new), plan.writes.len())?;
    for write in &plan.writes {
        match write {
            Write::Create { child, .. } => writeln!(text, "  + {child}")?,
            Write::Update { child, differences, .. } => {
                writeln!(text, "  ~ {child}")?;
                for path in differences.iter().filter(|p| !p.contains("gantry.dev/applied")) {
                    writeln!(text, "      {path}")?;
                }
            }
            Write::Delete { child, .. } => writeln!(text, "  - {child}")?,
        }
    }
    for hold in &plan.holds {
        writeln!(text, "  ! {}: {hold}", hold.reason().as_str())?;
    }
    Ok(())
}

/// What the API server would hold after `old` was applied.
fn as_applied(old: &BrokerCluster, settings: &Settings) -> anyhow::Result<Observed> {
    let cluster = parse::parse(old, settings)?;
    let first = planning::plan(&cluster, &Observed::default())?;
    let mut live = Resources::default();
    for write in first.writes {
        if let Write::Create { child, object } = write {
            live.insert(child.kind, object)?;
        }
    }
    Ok(Observed { live, ..Observed::default() })
}

enum Manifest {
    BrokerCluster(Box<BrokerCluster>),
    Topic(Box<Topic>),
    ConsumerGroup(Box<ConsumerGroup>),
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for file in files {
        let text = if file == Path::new("-") {
            std::io::read_to_string(std::io::stdin())?
        } else {
            std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?
        };
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value =
                serde_yaml::Value::deserialize(document).with_context(|| format!("{} is no YAML", file.display()))?;
            if !value.is_null() {
                found.extend(manifest(value).with_context(|| file.display().to_string())?);
            }
        }
    }
    Ok(found)
}

/// Objects of other groups are passed over: a folder holds more than Gantry's kinds.
fn manifest(value: serde_yaml::Value) -> anyhow::Result<Option<Manifest>> {
    let text = |key: &str| value.get(key).and_then(serde_yaml::Value::as_str).unwrap_or_default().to_owned();
    if !text("apiVersion").starts_with(&format!("{}/", gantry_crds::GROUP)) {
        return Ok(None);
    }
    Ok(Some(match text("kind").as_str() {
        "BrokerCluster" => {
            let mut cluster: BrokerCluster = serde_yaml::from_value(value)?;
            // What the API server would add.
            cluster.metadata.namespace.get_or_insert_with(|| "default".into());
            cluster.metadata.uid.get_or_insert_with(|| "not-applied".into());
            Manifest::BrokerCluster(Box::new(cluster))
        }
        "Topic" => Manifest::Topic(Box::new(serde_yaml::from_value(value)?)),
        "ConsumerGroup" => Manifest::ConsumerGroup(Box::new(serde_yaml::from_value(value)?)),
        other => bail!("{} has no kind {other}: write BrokerCluster, Topic or ConsumerGroup", gantry_crds::GROUP),
    }))
}

fn id(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_else(|| "default".into()), object.name_any())
}

fn same(a: &impl ResourceExt, b: &impl ResourceExt) -> bool {
    id(a) == id(b)
}
