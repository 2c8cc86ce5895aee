//! What Gantry would do, and what it would report, in every situation that matters: `golden/<case>.yaml` holds the situation,
//! `<case>.plan.yaml` and `<case>.status.yaml` what comes of it. `UPDATE=1 cargo test -p gantry-operator --test golden` writes them anew.
//!
//! A situation is a `cluster` (a BrokerCluster, `ns` and a uid are added) and a `world`:
//!
//! - `settled`: a spec; the world is as it is when all of that spec serves. Without it nothing is there yet. `same`: the cluster's own spec.
//! - `went`: a spec that was declared then, and for how many ticks an operator worked on it.
//! - `written`: the cluster's own children were then written, and no pod restarted yet.
//! - `live`, `pods`, `engine`: JSON merge patches on what is seen then: objects by `Kind/name`, pods by name (`revision: $current` is the one that the
//!   StatefulSet has now; a name may end in `*`), and the engine's view (`$null` for a null).
//! - `nodes`: nodes that take no new pods, or why that is not known.
//! - `claims`: claims of volumes instead of those that are there; `now`: the time, in seconds of the epoch.
//! - `old`: the status that the object had.
//!
//! An annotation `gantry.dev/approve-plan: $own` approves the plan that is shown, whatever its stamp. `show: resources` adds the children themselves to the plan.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use gantry::broker_cluster::cluster::Cluster;
use gantry::broker_cluster::parse::parse;
use gantry::broker_cluster::plan::{self};
use gantry::broker_cluster::resources::Resources;
use gantry::broker_cluster::status::{self};
use gantry::broker_cluster::steps::Outcome;
use gantry::broker_cluster::steps::Plan;
use gantry::broker_cluster::view::{ClaimFact, EngineView, NodeView, Observed, PodFact};
use gantry::child::ChildKind;
use gantry::error::Error;
use gantry_crds::BrokerClusterStatus;
use gantry_crds::condition::Reason;
use gantry_crds::names::Component;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use support::operator::{at, pass, settle};
use support::world::World;
use support::{golden, merge, object_of, parsed, settings};

/// Time of every status.
const NOW: u64 = 0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Situation {
    cluster: Value,
    #[serde(default)]
    world: Seen,
    #[serde(default)]
    show: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Seen {
    settled: Option<Value>,
    written: bool,
    went: Option<Went>,
    live: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    engine: Value,
    nodes: NodeView,
    now: Option<i64>,
    /// Instead of those that are seen.
    claims: Vec<ClaimFact>,
    old: Option<BrokerClusterStatus>,
    failure: Option<String>,
}

/// A spec that an operator then worked on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Went {
    /// `same`: the cluster's own.
    spec: Value,
    ticks: u64,
    /// A version whose name servers never serve.
    #[serde(default)]
    broken: Option<String>,
}

macro_rules! goldens {
    ($($name:ident,)+) => {
        const CASES: &[&str] = &[$(stringify!($name),)+];
        $(#[test] fn $name() { compare(stringify!($name)); })+
    };
}

goldens! {
    an_empty_spec_is_one_of_each,
    a_production_cluster_has_three_copies_of_each_message,
    everything_that_can_be_set_arrives_where_it_belongs,
    a_settled_cluster_needs_nothing,
    a_volume_that_fills_up_is_told_before_messages_are_refused,
    a_replica_to_which_its_master_does_not_send_is_restarted,
    a_replica_to_which_its_master_sends_is_left_to_catch_up,
    a_replica_gets_a_minute_to_find_its_master,
    a_controller_outside_its_group_is_restarted,
    a_controller_gets_a_minute_to_find_its_leader,
    a_leader_that_a_new_controller_never_heard_of_is_restarted,
    a_leader_is_restarted_for_a_controller_that_a_roll_left_out,
    a_leader_stays_where_another_controller_is_not_ready,
    a_leader_stays_until_the_others_have_run_for_five_minutes,
    a_controller_that_follows_no_leader_though_it_changed_gets_half_an_hour,
    controllers_that_all_answer_get_five_minutes_to_elect_a_leader,
    controllers_that_all_answer_and_elect_nobody_are_restarted,
    controllers_without_a_majority_are_left_alone,
    a_changed_broker_key_touches_brokers_only,
    a_key_that_brokers_take_while_they_run_restarts_none,
    a_key_that_was_set_by_hand_is_set_back,
    another_number_of_name_servers_restarts_no_broker,
    a_key_that_the_engine_does_not_have_is_refused_with_the_nearest,
    a_changed_proxy_key_touches_proxies_only,
    a_changed_label_of_brokers_rolls_brokers_only,
    a_new_version_rolls_name_servers_first,
    a_replica_goes_before_the_master,
    a_roll_goes_on_with_the_next_replica,
    a_master_goes_last_and_hands_over_first,
    a_master_that_handed_over_goes,
    a_master_that_handed_over_stays_until_it_has_copied_what_it_lacks,
    a_master_that_handed_over_stays_until_what_was_cut_off_is_overwritten,
    a_single_replica_goes_without_handing_over,
    a_group_without_a_master_is_left_alone,
    a_roll_waits_for_a_replica_that_is_not_in_sync,
    a_roll_waits_for_another_pod_of_the_group,
    a_roll_waits_for_another_group,
    a_roll_waits_for_an_engine_that_does_not_answer,
    a_roll_waits_until_every_name_server_lists_the_master,
    a_master_takes_no_new_messages_before_it_hands_over,
    a_master_that_clients_have_left_hands_over,
    a_master_whose_restart_can_wait_takes_messages_again,
    without_draining_a_master_hands_over_at_once,
    two_groups_restart_at_once_where_that_may_be,
    replicas_of_two_zones_do_not_restart_at_once,
    a_master_leaves_a_node_that_is_cordoned,
    a_master_stays_on_a_cordoned_node_while_a_replica_is_not_in_sync,
    a_master_stays_where_all_nodes_are_cordoned,
    a_roll_goes_on_where_nobody_knows_what_is_cordoned,
    a_former_master_keeps_its_budget_until_it_is_in_sync,
    a_former_master_keeps_its_budget_until_what_was_cut_off_is_overwritten,
    a_former_master_that_has_everything_is_a_slave,
    a_master_that_does_not_say_where_its_log_ends_stays,
    a_controller_waits_for_its_majority,
    a_broken_pod_is_replaced_although_others_are_not_well,
    a_group_that_is_declared_away_is_closed_first,
    a_group_behind_one_that_was_deleted_goes_too,
    fewer_replicas_go_one_at_a_time,
    fewer_copies_that_count_come_before_fewer_replicas,
    more_copies_count_only_when_they_are_in_sync,
    more_copies_that_are_in_sync_count,
    another_number_of_controllers_is_not_taken,
    volumes_grow_to_the_declared_size,
    a_claim_that_is_being_deleted_is_named_at_its_stateful_set,
    a_claim_that_is_gone_wakes_the_controller_that_waited_for_it,
    a_volume_that_has_not_grown_yet_is_named,
    volumes_that_are_not_kept_go_with_the_cluster,
    volumes_that_are_kept_again_do_not_go_with_the_cluster,
    a_name_that_is_taken_is_left_alone,
    an_old_config_stays_while_a_pod_mounts_it,
    an_endpoint_that_is_renamed_gets_a_new_service,
    a_cluster_grows_by_a_group_and_by_replicas,
    autoscaling_is_left_the_number_of_proxies,
    autoscaling_takes_over_the_number_of_proxies,
    a_cluster_in_plan_mode_shows_what_would_be_done,
    a_paused_cluster_says_so,
    a_spec_that_cannot_be_keeps_the_last_status,
    a_heap_share_that_does_not_fit_is_refused_with_those_that_do,
    a_cluster_without_a_controller_leader_is_not_ready,
    a_cluster_whose_engine_does_not_answer_is_unknown,
    a_cluster_without_proxies_is_not_ready,
    a_cluster_with_a_replica_missing_serves_degraded,
    a_cluster_with_too_few_in_sync_is_not_ready,
    a_pod_that_cannot_start_is_named_with_its_trouble,
    a_write_that_failed_is_reported,
    a_pod_of_an_empty_group_whose_node_is_gone_is_given_up_without_its_volume,
    a_group_that_goes_waits_for_its_consumers,
    a_group_that_goes_stays_while_nobody_can_say_what_it_holds,
    a_group_that_was_empty_for_a_minute_is_fenced,
    a_group_that_is_empty_and_fenced_is_stopped,
    a_group_that_holds_delayed_messages_only_stays,
    a_consumer_group_that_does_not_read_on_is_named,
    a_group_that_is_called_back_is_checked_before_it_opens,
    a_group_that_is_forgotten_loses_its_volumes_before_its_objects,
    a_group_that_stopped_is_forgotten_before_its_objects_go,
    a_group_that_stopped_waits_until_the_controllers_miss_it,
    a_group_that_keeps_its_volumes_keeps_its_ids,
    a_new_group_is_closed_and_gets_offsets_first,
    a_new_group_waits_for_topics_and_consumer_groups,
    a_new_group_waits_until_its_replicas_have_the_offsets,
    a_new_group_that_has_everything_opens,
    a_replica_that_is_declared_away_goes_when_the_others_are_in_sync,
    a_master_that_is_declared_away_hands_over_first,
    a_replica_that_is_declared_away_stays_while_another_is_not_in_sync,
    a_replica_that_is_declared_away_stays_until_what_was_cut_off_is_overwritten,
    a_replica_that_is_declared_away_stays_while_it_copies,
    a_replica_that_is_gone_takes_its_volume_along_where_volumes_are_not_kept,
    a_volume_stays_while_the_controllers_count_on_its_replica,
    a_replica_that_was_declared_away_is_given_up_with_its_node,
    a_replica_that_was_elected_while_it_went_comes_back_with_its_volume,
    a_replica_that_lost_its_volume_is_forgotten_under_its_old_id,
    a_group_that_lost_every_copy_says_what_to_do,
    a_replica_whose_node_is_gone_is_given_up_after_the_stated_time,
    a_replica_whose_node_is_gone_is_not_given_up_before_its_time,
    a_replica_whose_node_is_gone_stays_while_another_is_not_in_sync,
    a_single_replica_whose_node_is_gone_is_never_given_up,
    a_replica_that_the_controllers_still_hear_of_is_not_given_up,
    a_replica_is_not_given_up_while_another_group_makes_one_anew,
    a_new_version_is_written_down_before_anything_is_done,
    controllers_wait_until_all_name_servers_run_the_new_version,
    the_first_group_is_watched_before_others_take_the_new_version,
    proxies_keep_their_version_until_all_brokers_run_the_new_one,
    proxies_go_first_to_an_older_version,
    a_change_of_brokers_waits_for_the_new_version_to_restart_them_once,
    a_version_that_does_not_serve_in_time_is_taken_back,
    pods_go_back_to_the_version_before,
    a_version_that_was_taken_back_is_not_tried_again,
    a_version_that_was_taken_back_is_tried_again_when_somebody_asks,
    a_pod_that_crashes_again_and_again_stops_the_upgrade,
    a_pod_whose_node_is_gone_does_not_stop_the_upgrade,
    an_upgrade_that_cannot_go_back_stops,
    the_former_version_may_be_declared_again_on_the_way,
    another_version_waits_until_the_one_under_way_is_there,
    a_version_that_forgets_topics_is_refused_for_a_new_cluster,
    a_version_that_forgets_topics_is_taken_where_somebody_accepts_it,
    a_step_back_that_would_lose_light_queues_is_refused,
    more_than_one_minor_version_at_once_is_refused,
    a_key_that_the_version_does_not_have_yet_is_refused,
    the_way_messages_are_stored_stays,
    a_plan_tells_every_restart_in_order,
    a_plan_of_a_new_version_goes_through_all_roles,
    a_plan_of_an_older_version_goes_the_other_way_round,
    a_plan_tells_of_volumes_that_are_deleted,
    a_plan_that_is_approved_is_carried_out,
    an_approval_of_another_plan_approves_nothing,
    a_plan_of_what_is_refused_says_why_it_is_empty,
}

#[test]
fn every_situation_has_a_test() {
    let files: BTreeSet<String> =
        std::fs::read_dir(golden::folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    let of = |suffix: &str| CASES.iter().map(|c| format!("{c}{suffix}")).collect::<BTreeSet<_>>();
    let known = &(&of(".yaml") | &of(".plan.yaml")) | &of(".status.yaml");
    let strangers: Vec<_> = files.difference(&known).collect();
    assert!(strangers.is_empty(), "no test is for {strangers:?}");
}

fn compare(case: &str) {
    let text = std::fs::read_to_string(golden::folder().join(format!("{case}.yaml"))).expect("the situation");
    let mut situation: Situation = serde_yaml::from_str(&text).expect("the situation can be read");
    approve_own(&mut situation.cluster);
    let mut object = object_of(situation.cluster.clone());
    object.status = situation.world.old.clone();
    let (plan, status) = match parse(&object, &settings()) {
        Err(error) => {
            let error = Error::from(error);
            (None, status::of_failure(&object, error.reason(), &error.sentence(), at(NOW)))
        }
        Ok(cluster) => {
            let observed = observed(&situation, &cluster);
            let plan = plan::plan(&cluster, &observed).expect("a plan");
            let failure = situation.world.failure.clone().map(|message| (Reason::ApplyFailed, message));
            let outcome = Outcome { plan: &plan, failure };
            let old = object.status.clone().unwrap_or_default();
            let status = status::status(&cluster, &observed, &outcome, &old, &at(NOW));
            (Some(plan), status)
        }
    };
    let mut differences = Vec::new();
    if let Some(plan) = plan {
        let yaml = shown(&plan, situation.show.as_deref() == Some("resources"));
        differences.extend(golden::difference(&format!("{case}.plan.yaml"), &yaml));
    }
    let yaml = serde_yaml::to_string(&status).unwrap();
    differences.extend(golden::difference(&format!("{case}.status.yaml"), &yaml));
    assert!(differences.is_empty(), "{}\nUPDATE=1 accepts this.", differences.join("\n"));
}

/// An approval of `$own` is one of the very plan that is shown.
fn approve_own(cluster: &mut Value) {
    let annotation = "/metadata/annotations/gantry.dev~1approve-plan";
    if cluster.pointer(annotation).is_some_and(|a| a == "$own") {
        cluster["metadata"]["annotations"]["gantry.dev/approve-plan"] =
            json!(parsed(&object_of(cluster.clone())).plan_hash);
    }
}

/// The plan as YAML; the children only where they are asked for, they are the same in most cases.
fn shown(plan: &Plan, resources: bool) -> String {
    let mut value = serde_json::to_value(plan).unwrap();
    if let Some(plan) = value.as_object_mut().filter(|_| !resources) {
        plan.remove("resources");
    }
    serde_yaml::to_string(&value).unwrap()
}

/// What the operator sees in a situation.
fn observed(situation: &Situation, cluster: &Cluster) -> Observed {
    let Some(spec) = &situation.world.settled else { return Observed::default() };
    let mut manifest = situation.cluster.clone();
    if spec != "same" {
        manifest["spec"] = spec.clone();
    }
    manifest["metadata"]["annotations"] = Value::Null;
    manifest["spec"]["reconcilePolicy"] = json!("Apply");
    let mut settled = object_of(manifest);
    let mut world = World::new(&parsed(&settled));
    settle(&mut world, &mut settled, 300).expect("the world settles");
    let mut remembered = BrokerClusterStatus::default();
    if let Some(went) = &situation.world.went {
        let mut manifest = situation.cluster.clone();
        if went.spec != "same" {
            manifest["spec"] = went.spec.clone();
        }
        let mut object = object_of(manifest);
        object.status = settled.status.take();
        world.broken = went.broken.clone().map(|version| (version, Component::NameServer));
        for _ in 0..went.ticks {
            world.tick();
            pass(&mut world, &mut object, None);
        }
        remembered = object.status.unwrap_or_default();
    }
    if situation.world.written {
        let mut object = object_of(situation.cluster.clone());
        // A change of version is written down by a pass of its own.
        let writes = (0..2).map(|_| pass(&mut world, &mut object, None).plan.writes.len()).sum::<usize>();
        assert!(writes > 0, "the cluster's own children are those of the settled spec");
        world.run_controllers();
        remembered = object.status.unwrap_or_default();
    }
    let mut observed = world.observe(cluster);
    observed.nodes.clone_from(&situation.world.nodes);
    if let Some(now) = situation.world.now {
        observed.now = now;
    }
    observed = observed.remembering(&situation.world.old.clone().unwrap_or(remembered));
    patched(observed, &situation.world)
}

fn patched(mut observed: Observed, seen: &Seen) -> Observed {
    if !seen.claims.is_empty() {
        observed.claims.clone_from(&seen.claims);
    }
    let revisions: BTreeMap<String, String> = observed
        .live
        .stateful_sets
        .iter()
        .filter_map(|s| Some((s.name_any(), s.status.as_ref()?.update_revision.clone()?)))
        .collect();
    let mut pods: BTreeMap<String, Value> =
        observed.pods.iter().map(|p| (p.name.clone(), serde_json::to_value(p).unwrap())).collect();
    for (pattern, patch) in &seen.pods {
        let matches = |name: &str| pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start));
        let names: Vec<String> = pods.keys().filter(|name| matches(name)).cloned().collect();
        assert!(!names.is_empty(), "there is no pod {pattern}");
        for name in names {
            if patch.is_null() {
                pods.remove(&name);
            } else if let Some(pod) = pods.get_mut(&name) {
                merge(pod, patch);
                if pod["revision"] == "$current" {
                    pod["revision"] = json!(revisions[pod["set"].as_str().unwrap_or_default()]);
                }
            }
        }
    }
    observed.pods = pods.into_values().map(|p| serde_json::from_value::<PodFact>(p).expect("a pod")).collect();
    if !seen.engine.is_null() {
        let mut view = serde_json::to_value(&observed.engine).unwrap();
        merge(&mut view, &seen.engine);
        put_nulls(&mut view);
        observed.engine = serde_json::from_value::<EngineView>(view).expect("a view of the engine");
    }
    observed.live = patched_objects(&observed.live, &seen.live);
    observed
}

/// A merge patch can't set `null`: `$null` stands for it.
fn put_nulls(value: &mut Value) {
    match value {
        Value::String(text) if text == "$null" => *value = Value::Null,
        Value::Object(fields) => fields.values_mut().for_each(put_nulls),
        Value::Array(items) => items.iter_mut().for_each(put_nulls),
        _ => {}
    }
}

/// Children with patches by `Kind/name`; `null` takes one away.
fn patched_objects(live: &Resources, patches: &BTreeMap<String, Value>) -> Resources {
    if patches.is_empty() {
        return live.clone();
    }
    let mut left: BTreeSet<&String> = patches.keys().collect();
    let mut all = Resources::default();
    for (kind, object) in objects(live) {
        let key = format!("{}/{}", kind.as_str(), object["metadata"]["name"].as_str().unwrap_or_default());
        let patch = patches.get_key_value(&key);
        left.retain(|k| **k != key);
        match patch {
            Some((_, Value::Null)) => {}
            Some((_, patch)) => {
                let mut object = object;
                merge(&mut object, patch);
                all.insert(kind, object).unwrap();
            }
            None => all.insert(kind, object).unwrap(),
        }
    }
    assert!(left.is_empty(), "there is no {left:?}");
    all
}

/// Every object with its kind.
fn objects(resources: &Resources) -> Vec<(ChildKind, Value)> {
    let Resources {
        service_accounts,
        config_maps,
        services,
        pod_disruption_budgets,
        stateful_sets,
        deployments,
        horizontal_pod_autoscalers,
    } = resources;
    fn of<K: serde::Serialize>(kind: ChildKind, all: &[K]) -> impl Iterator<Item = (ChildKind, Value)> + '_ {
        all.iter().map(move |o| (kind, serde_json::to_value(o).unwrap()))
    }
    of(ChildKind::ServiceAccount, service_accounts)
        .chain(of(ChildKind::ConfigMap, config_maps))
        .chain(of(ChildKind::Service, services))
        .chain(of(ChildKind::PodDisruptionBudget, pod_disruption_budgets))
        .chain(of(ChildKind::StatefulSet, stateful_sets))
        .chain(of(ChildKind::Deployment, deployments))
        .chain(of(ChildKind::HorizontalPodAutoscaler, horizontal_pod_autoscalers))
        .collect()
}
