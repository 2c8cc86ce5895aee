//! `gantry plan`: what it says of the examples, of a change, and of what would be refused. `UPDATE=1` writes `offline/` anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use gantry::offline::plan;
use support::{golden, settings};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// A manifest of a test's own.
fn manifest(name: &str, text: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).unwrap();
    file
}

fn check(name: &str, said: &str) {
    if let Some(difference) = golden::difference(&format!("../offline/{name}.txt"), said) {
        panic!("{difference}");
    }
}

#[test]
fn every_example_is_planned_as_agreed() {
    let mut examples: Vec<_> = std::fs::read_dir(example("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    examples.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    assert!(examples.len() >= 6, "{examples:?}");
    for file in examples {
        let name = file.file_stem().unwrap().to_str().unwrap();
        check(name, &plan(std::slice::from_ref(&file), &[], &settings()).unwrap());
    }
}

#[test]
fn against_a_former_manifest_only_what_differs_is_shown() {
    let former = example("production.yaml");
    let text = std::fs::read_to_string(&former).unwrap();
    let (replicas, hours) = ("proxies:\n    replicas: 2", "fileReservedTime: \"168\"\n");
    assert!(text.contains(replicas) && text.contains(hours), "the example is another one");
    let changed = text
        .replace(replicas, "proxies:\n    replicas: 3")
        .replace(hours, &format!("{hours}      sendMessageThreadPoolNums: \"24\"\n"));
    let changed = manifest("changed.yaml", &changed);
    check("a-change-of-production", &plan(&[changed], std::slice::from_ref(&former), &settings()).unwrap());
    let same = plan(std::slice::from_ref(&former), std::slice::from_ref(&former), &settings()).unwrap();
    assert!(same.starts_with("BrokerCluster default/shop: 0 changes\n"), "{same}");
}

#[test]
fn several_files_are_planned_together() {
    let files = [example("development.yaml"), example("topics.yaml")];
    let [one, two] = &files;
    let each = |file: &PathBuf| plan(std::slice::from_ref(file), &[], &settings()).unwrap();
    assert_eq!(plan(&files, &[], &settings()).unwrap(), each(one) + &each(two));
}

fn refusal(name: &str, text: &str, former: &[PathBuf]) -> String {
    plan(&[manifest(name, text)], former, &settings()).expect_err("it should be refused").to_string()
}

const CLUSTER: &str = "apiVersion: rocketmq.gantry.dev/v1alpha1\nkind: BrokerCluster\nmetadata: {name: shop}\n";

#[test]
fn what_apply_would_refuse_is_refused_in_the_same_words() {
    for (name, spec, sentence) in [
        ("rule", "spec: {brokers: {replicas: 1, minInSyncReplicas: 2}}", "minInSyncReplicas"),
        ("range", "spec: {brokers: {replicas: 99}}", "should be less than or equal to"),
        ("type", "spec: {brokers: {replicas: two}}", "must be of type integer"),
        ("field", "spec: {broker: {replicas: 2}}", "spec.broker: unknown field"),
    ] {
        let said = refusal(&format!("{name}.yaml"), &format!("{CLUSTER}{spec}\n"), &[]);
        assert!(said.contains(&format!("{name}.yaml: BrokerCluster default/shop would be refused:")), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}

#[test]
fn a_change_that_can_not_be_is_refused_against_the_former_manifest() {
    let former = manifest("former.yaml", &format!("{CLUSTER}spec: {{controllers: {{replicas: 1}}}}\n"));
    let said = refusal("three.yaml", &format!("{CLUSTER}spec: {{controllers: {{replicas: 3}}}}\n"), &[former]);
    assert!(said.contains("controllers.replicas can't change after creation"), "{said}");
}

#[test]
fn a_kind_that_gantry_does_not_have_is_named_and_kinds_of_others_are_passed_over() {
    let said =
        refusal("kind.yaml", "apiVersion: rocketmq.gantry.dev/v1alpha1\nkind: Broker\nmetadata: {name: x}\n", &[]);
    assert!(said.contains("has no kind Broker: write BrokerCluster, Topic or ConsumerGroup"), "{said}");
    let others = manifest("others.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n");
    assert_eq!(plan(&[others], &[], &settings()).unwrap(), "");
}
