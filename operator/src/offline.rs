//! `gantry crds` and `gantry plan`: pure output, no cluster, for review in a pull request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gantry_crds::admission::Admission;
use gantry_crds::{BrokerCluster, ConsumerGroup, Topic};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::Value;

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
/// Where a file can't be read, or holds something that `kubectl apply` would refuse, with the API server's sentences.
pub fn plan(files: &[PathBuf], from: &[PathBuf], settings: &Settings) -> anyhow::Result<String> {
    let before = read(from)?;
    let mut admissions = BTreeMap::new();
    let mut text = String::new();
    for new in read(files)? {
        let old = before.iter().find(|old| old.kind() == new.kind() && old.id() == new.id());
        admit(&new, old, &mut admissions)?;
        match typed(&new)? {
            Typed::BrokerCluster(new) => match old.map(typed).transpose()? {
                Some(Typed::BrokerCluster(old)) => broker_cluster(&new, Some(&old), settings, &mut text)?,
                _ => broker_cluster(&new, None, settings, &mut text)?,
            },
            Typed::Topic(new) => topic(&new, &mut text)?,
            Typed::ConsumerGroup(new) => consumer_group(&new, &mut text)?,
        }
    }
    Ok(text)
}

fn topic(topic: &Topic, text: &mut String) -> std::fmt::Result {
    let name = topic.spec.topic_name.clone().unwrap_or_else(|| topic.name_any());
    let takes = topic.spec.type_.message_type();
    let queues = topic.spec.queues;
    writeln!(text, "Topic {}: {name}, {queues} queues on each broker group, takes {takes} messages", id(topic))
}

fn consumer_group(group: &ConsumerGroup, text: &mut String) -> std::fmt::Result {
    let name = group.spec.group_name.clone().unwrap_or_else(|| group.name_any());
    let attempts = group.spec.retry.max_attempts;
    writeln!(text, "ConsumerGroup {}: {name}, {:?} delivery, {attempts} attempts", id(group), group.spec.delivery)
}

/// Asks what the API server would ask. Rules take a moment to compile: those of a kind that is not there are not.
fn admit(new: &Manifest, old: Option<&Manifest>, admissions: &mut BTreeMap<String, Admission>) -> anyhow::Result<()> {
    let kind = new.kind();
    if !admissions.contains_key(kind) {
        let definition = gantry_crds::definitions().into_iter().find(|d| d.spec.names.kind == kind);
        let Some(definition) = definition else {
            bail!(
                "{}: {} has no kind {kind}: write BrokerCluster, Topic or ConsumerGroup",
                new.file.display(),
                gantry_crds::GROUP
            );
        };
        admissions.insert(kind.to_owned(), Admission::of(&definition));
    }
    let said = admissions.get(kind).map(|a| a.refusals(&new.value, old.map(|o| &o.value))).unwrap_or_default();
    if !said.is_empty() {
        bail!("{}: {kind} {} would be refused:\n  {}", new.file.display(), new.id(), said.join("\n  "));
    }
    Ok(())
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

/// A document of a file.
struct Manifest {
    file: PathBuf,
    value: Value,
}

impl Manifest {
    fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    fn id(&self) -> String {
        let metadata = |key: &str| self.value["metadata"][key].as_str().unwrap_or_default();
        let namespace = Some(metadata("namespace")).filter(|name| !name.is_empty()).unwrap_or("default");
        format!("{namespace}/{}", metadata("name"))
    }
}

/// Documents of other groups are passed over: a folder holds more than Gantry's kinds.
fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let ours = format!("{}/", gantry_crds::GROUP);
    let mut found = Vec::new();
    for file in files {
        let text = if file == Path::new("-") {
            std::io::read_to_string(std::io::stdin())?
        } else {
            std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?
        };
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).with_context(|| format!("{} is no YAML", file.display()))?;
            if value["apiVersion"].as_str().is_some_and(|version| version.starts_with(&ours)) {
                found.push(Manifest { file: file.clone(), value });
            }
        }
    }
    Ok(found)
}

/// A manifest as it is understood.
enum Typed {
    BrokerCluster(Box<BrokerCluster>),
    Topic(Box<Topic>),
    ConsumerGroup(Box<ConsumerGroup>),
}

fn typed(manifest: &Manifest) -> anyhow::Result<Typed> {
    let value = &manifest.value;
    let read = || -> serde_json::Result<Typed> {
        Ok(match manifest.kind() {
            "Topic" => Typed::Topic(Box::new(Topic::deserialize(value)?)),
            "ConsumerGroup" => Typed::ConsumerGroup(Box::new(ConsumerGroup::deserialize(value)?)),
            _ => {
                let mut cluster = BrokerCluster::deserialize(value)?;
                // What the API server would add.
                cluster.metadata.namespace.get_or_insert_with(|| "default".into());
                cluster.metadata.uid.get_or_insert_with(|| "not-applied".into());
                Typed::BrokerCluster(Box::new(cluster))
            }
        })
    };
    read().with_context(|| format!("{}: {} {}", manifest.file.display(), manifest.kind(), manifest.id()))
}

fn id(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_else(|| "default".into()), object.name_any())
}
