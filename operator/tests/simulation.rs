//! Gantry in a fake world: API objects, controllers, pods and RocketMQ itself, tick by tick, while processes are killed, the operator among them, objects
//! are edited by hand and specs change. What must hold is checked at every tick.
//!
//! A schedule that fails prints its transcript and how to run it alone: `SEED=17 make simulation`. More of them: `SIMULATIONS=2000 make simulation`,
//! from another one on: `SEED=10000 SIMULATIONS=2000 make simulation`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use gantry::child::ChildKind;
use gantry_crds::BrokerCluster;
use gantry_crds::names::Component;
use gantry_crds::status::UpgradePhase;
use serde_json::{Value, json};
use support::operator::{condition, pass, settle};
use support::oracle::Oracle;
use support::schedule::Schedule;
use support::world::World;
use support::{object, parsed};

/// Schedules that run always; as many as take some seconds.
const SIMULATIONS: u64 = 10;

fn three_copies() -> Value {
    json!({"brokers": {"groups": 2, "replicas": 3}, "controllers": {"replicas": 3}, "proxies": {"replicas": 2}})
}

fn world_of(spec: Value) -> (World, BrokerCluster) {
    let object = object("shop", spec);
    (World::new(&parsed(&object)), object)
}

/// Everything on the API server that Gantry decides, to compare two worlds: no uids, no versions, no stamps of time.
fn declared(world: &World) -> Vec<String> {
    let objects =
        world.api.all().map(|((kind, name), object)| format!("{kind:?}/{name} {} {}", object["spec"], object["data"]));
    objects.collect()
}

#[test]
fn a_cluster_comes_up_and_then_nothing_is_written_any_more() {
    let (mut world, mut object) = world_of(three_copies());
    let ticks = settle(&mut world, &mut object, 120).unwrap();
    assert!(ticks < 90, "it took {ticks} s");
    let (version, status) = (world.api.version(), object.status.clone());
    for _ in 0..300 {
        world.tick();
        assert!(pass(&mut world, &mut object, None).idle());
    }
    assert_eq!((world.api.version(), object.status), (version, status));
}

#[test]
fn an_operator_that_is_killed_before_any_write_of_a_creation_still_finishes_it() {
    let (mut world, mut object) = world_of(three_copies());
    settle(&mut world, &mut object, 300).unwrap();
    let wanted = declared(&world);
    let (mut fresh, mut object) = world_of(three_copies());
    // The last one is that of the status.
    let writes = pass(&mut fresh, &mut object, None).done;
    assert!(writes > 20, "{writes}");
    for k in 0..writes {
        let (mut world, mut object) = world_of(three_copies());
        assert!(pass(&mut world, &mut object, Some(k)).killed);
        settle(&mut world, &mut object, 300).unwrap_or_else(|e| panic!("killed after {k} writes: {e}"));
        assert_eq!(declared(&world), wanted, "killed after {k} writes");
    }
}

#[test]
fn an_operator_that_is_killed_after_every_single_write_still_creates_a_cluster() {
    let (mut world, mut object) = world_of(three_copies());
    while pass(&mut world, &mut object, Some(1)).killed {
        world.tick();
    }
    settle(&mut world, &mut object, 300).unwrap();
}

/// Every write and step of a change of everything, rolls included.
#[test]
fn an_operator_that_is_killed_before_any_write_of_an_upgrade_still_finishes_it() {
    // Not killed at all it says how many writes there are.
    let (wanted, total) = upgrade(usize::MAX).unwrap();
    assert!(total > 20, "{total}");
    let failures = in_parallel((0..total).collect(), |k| match upgrade(k) {
        Ok((found, _)) if found == wanted => None,
        Ok((found, _)) => Some(format!("killed after {k} writes: {found:#?} instead of {wanted:#?}")),
        Err(error) => Some(format!("killed after {k} writes: {error}")),
    });
    assert!(failures.is_empty(), "{} of {total} failed, the first one: {}", failures.len(), failures[0]);
}

/// A change of everything; the operator is killed before write number `k`. What is declared at the end, and how many writes and steps it took.
fn upgrade(k: usize) -> Result<(Vec<String>, usize), String> {
    let before = json!({"brokers": {"replicas": 2}, "controllers": {"replicas": 1}, "nameServers": {"replicas": 1}});
    let after = json!({
        "version": "5.5.1", "brokers": {"groups": 2, "replicas": 2, "drainBeforeRestart": false, "config": {"sendMessageThreadPoolNums": "4", "fileReservedTime": "48"}}, "controllers": {"replicas": 1},
        "nameServers": {"replicas": 1}, "endpoints": [{"name": "private"}],
    });
    let (mut world, mut object) = world_of(before);
    settle(&mut world, &mut object, 300)?;
    object.spec = support::object("shop", after).spec;
    object.metadata.generation = Some(2);
    let done = killed_once(&mut world, &mut object, k)?;
    Ok((declared(&world), done))
}

/// Passes until all is settled, one of them killed before write number `k`. The number of writes and steps that were made.
fn killed_once(world: &mut World, object: &mut BrokerCluster, k: usize) -> Result<usize, String> {
    let mut oracle = Oracle::default();
    let (mut done, mut killed, mut quiet, mut settled, began) = (0, false, 0, false, world.now);
    let mut last = String::new();
    while quiet < 10 {
        if world.now >= began + 900 {
            return Err(format!("it does not settle, the last pass that had something to do: {last}"));
        }
        world.tick();
        let left = if killed { None } else { k.checked_sub(done) };
        let pass = oracle.watched_pass(world, object, left)?;
        if let Some(pass) = &pass {
            done += pass.done;
            killed |= pass.killed;
            let ready = condition(&object.status.clone().unwrap_or_default(), "Ready") == "True AsDeclared";
            settled = pass.idle() && ready && pass.plan.outdated.is_empty();
            last = pass.summary(object);
        }
        quiet = if settled && pass.is_none() { quiet + 1 } else { 0 };
    }
    Ok(done)
}

/// Ticks under the oracle's eyes until `done` says so, at most `limit`.
fn watch(
    world: &mut World,
    object: &mut BrokerCluster,
    limit: u64,
    done: impl Fn(&World, &BrokerCluster) -> bool,
) -> Result<(), String> {
    let mut oracle = Oracle::default();
    for _ in 0..limit {
        world.tick();
        oracle.watched_pass(world, object, None)?;
        if done(world, object) {
            return Ok(());
        }
    }
    Err(format!("not after {limit} ticks: {}", serde_yaml::to_string(&object.status).unwrap()))
}

fn phase(object: &BrokerCluster) -> Option<UpgradePhase> {
    Some(object.status.as_ref()?.upgrade.as_ref()?.phase)
}

fn all_run(world: &World, version: &str) -> bool {
    world.pods.values().all(|p| p.version == version && p.ready)
}

#[test]
fn a_version_whose_pods_of_some_role_do_not_serve_is_taken_back_and_when_it_is_mended_taken_again() {
    for role in Component::ALL {
        for (from, to) in [("5.5.0", "5.5.1"), ("5.5.1", "5.5.0")] {
            let spec =
                |version| json!({"version": version, "brokers": {"groups": 2, "replicas": 2}, "upgradeTimeout": "1m"});
            let (mut world, mut object) = world_of(spec(from));
            settle(&mut world, &mut object, 300).unwrap();
            world.broken = Some((to.to_owned(), role));
            object.spec = support::object("shop", spec(to)).spec;
            object.metadata.generation = Some(2);
            watch(&mut world, &mut object, 900, |w, o| phase(o) == Some(UpgradePhase::RolledBack) && all_run(w, from))
                .unwrap_or_else(|e| panic!("{role:?} of {to}: {e}"));
            // It is not tried again by itself.
            let before = declared(&world);
            assert!(watch(&mut world, &mut object, 100, |_, o| phase(o) != Some(UpgradePhase::RolledBack)).is_err());
            assert_eq!(declared(&world), before, "{role:?} of {to}");
            world.broken = None;
            object.metadata.annotations = Some([("gantry.dev/retry-upgrade".to_owned(), "1".to_owned())].into());
            watch(&mut world, &mut object, 900, |w, o| phase(o).is_none() && all_run(w, to))
                .unwrap_or_else(|e| panic!("{role:?} of {to}, mended: {e}"));
        }
    }
}

#[test]
fn a_plan_is_carried_out_when_it_is_approved_also_by_operators_that_are_killed_after_a_few_writes() {
    let spec = |n: &str| json!({"reconcilePolicy": "Plan", "version": n, "brokers": {"replicas": 2}});
    let (mut world, mut object) = world_of(spec("5.5.0"));
    let approve = |object: &mut BrokerCluster| {
        let hash = object.status.as_ref().and_then(|s| s.plan_hash.clone()).expect("a plan");
        object.metadata.annotations = Some([("gantry.dev/approve-plan".to_owned(), hash)].into());
    };
    pass(&mut world, &mut object, None);
    assert_eq!(world.api.version(), 0, "nothing is written without approval");
    approve(&mut object);
    settle(&mut world, &mut object, 300).unwrap();
    object.spec = support::object("shop", spec("5.5.1")).spec;
    object.metadata.generation = Some(2);
    // The approval was for another plan.
    for _ in 0..50 {
        world.tick();
        assert_eq!(pass(&mut world, &mut object, None).done, 0);
    }
    assert_eq!(condition(&object.status.clone().unwrap(), "Progressing"), "False NotApplied");
    assert_eq!(phase(&object), None, "what is not approved does not begin");
    approve(&mut object);
    let mut oracle = Oracle::default();
    for tick in 0.. {
        assert!(tick < 900, "it is not carried out: {:#?}", object.status);
        world.tick();
        // One write would not do for a hand-over, which notes where a log ends before it elects.
        oracle.watched_pass(&mut world, &mut object, Some(1 + tick % 4)).unwrap();
        let status = object.status.clone().unwrap();
        if all_run(&world, "5.5.1") && condition(&status, "Progressing") == "False AsDeclared" {
            assert_eq!((status.plan, status.plan_hash), (vec![], None));
            break;
        }
    }
}

#[test]
fn any_schedule_of_faults_and_edits_ends_well_and_breaks_nothing_on_the_way() {
    let seeds = seeds();
    let count = seeds.len();
    let mut failures = in_parallel(seeds, failure);
    failures.sort_by_key(|f| f.seed);
    let Some(first) = failures.first() else { return };
    let lines: Vec<String> = failures.iter().map(Failure::line).collect();
    let Failure { seed, error, transcript } = first;
    panic!(
        "{} of {count} schedules failed:\n{}\n\nThe first one:\n{transcript}\n{error}\nRun it alone: SEED={seed} make simulation",
        lines.len(),
        lines.join("\n")
    );
}

/// `SEED` alone is that one; `SIMULATIONS` says how many, from `SEED` or 0 on.
fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|s| s.parse::<u64>().expect("a number"));
    let (first, count) = match (number("SEED"), number("SIMULATIONS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SIMULATIONS)),
    };
    (first..first + count).collect()
}

/// What `failure` says of each, on all processors. A panic is a failure of the whole.
fn in_parallel<T: Copy + Send + Sync, F: Send>(all: Vec<T>, failure: impl Fn(T) -> Option<F> + Sync) -> Vec<F> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (all, failure) = (&all, &failure);
    std::thread::scope(|scope| {
        let share = move |w| all.iter().skip(w).step_by(workers).filter_map(|one| failure(*one)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..workers).map(|w| scope.spawn(move || share(w))).collect();
        threads.into_iter().flat_map(|t| t.join().expect("it does not panic")).collect()
    })
}

/// A schedule that failed.
struct Failure {
    seed: u64,
    error: String,
    transcript: String,
}

impl Failure {
    fn line(&self) -> String {
        format!("seed {}: {}", self.seed, self.error.lines().next().unwrap_or_default())
    }
}

fn failure(seed: u64) -> Option<Failure> {
    let mut schedule = Schedule::new(seed);
    let error = schedule.run().err()?;
    Some(Failure { seed, error, transcript: schedule.transcript() })
}

#[test]
fn a_group_takes_messages_all_the_while_that_it_gets_more_copies() {
    let spec = |replicas: u8| json!({"brokers": {"replicas": replicas}, "controllers": {"replicas": 3}, "nameServers": {"replicas": 2}});
    let (mut world, mut object) = world_of(spec(1));
    settle(&mut world, &mut object, 300).unwrap();
    object.spec = support::object("shop", spec(3)).spec;
    object.metadata.generation = Some(2);
    for tick in 0..120 {
        world.tick();
        pass(&mut world, &mut object, None);
        assert!(world.engine.world(|w| w.is_writable("shop-broker-0")), "after {tick} s");
    }
    assert_eq!(condition(&object.status.unwrap(), "Ready"), "True AsDeclared");
    let live = world.api.get(ChildKind::ConfigMap, "shop-broker-0-live").unwrap()["data"]["live.conf"].to_string();
    assert!(live.contains("minInSyncReplicas=2"), "{live}");
}

#[test]
fn a_replica_that_is_elected_while_it_goes_comes_back_and_goes_when_another_has_all_messages() {
    for policy in ["Retain", "Delete"] {
        let spec = |replicas: u8| json!({"brokers": {"replicas": replicas, "storage": {"reclaimPolicy": policy}}});
        let (mut world, mut object) = world_of(spec(2));
        settle(&mut world, &mut object, 300).unwrap();
        let master = world.group_facts()["shop-broker-0"].master_address.clone().unwrap();
        assert!(master.starts_with("shop-broker-0-0."), "the other one goes: {master}");
        object.spec = support::object("shop", spec(1)).spec;
        object.metadata.generation = Some(2);
        let goes = |w: &World, _: &BrokerCluster| w.pods["shop-broker-0-1"].terminating;
        watch(&mut world, &mut object, 60, goes).unwrap();
        world.engine.world(|w| w.kill(&master));
        let comes_back = |w: &World, _: &BrokerCluster| w.pods.get("shop-broker-0-1").is_some_and(|p| !p.terminating);
        watch(&mut world, &mut object, 60, comes_back).unwrap_or_else(|e| panic!("{policy}: {e}"));
        assert!(world.group_facts()["shop-broker-0"].master_epoch > 1, "it was elected");
        let gone = |w: &World, _: &BrokerCluster| {
            !w.pods.contains_key("shop-broker-0-1") && w.engine.world(|w| w.is_writable("shop-broker-0"))
        };
        watch(&mut world, &mut object, 300, gone).unwrap_or_else(|e| panic!("{policy}: {e}"));
        assert_eq!(world.engine.world(|w| w.groups["shop-broker-0"].lost), 0, "{policy}");
    }
}

#[test]
fn a_broker_group_that_is_declared_while_a_version_is_taken_takes_what_the_others_have_in_their_turn() {
    for (from, to, last) in [("5.5.0", "5.4.0", "shop-controller"), ("5.4.0", "5.5.0", "shop-proxy")] {
        let spec = |version, groups: u8| json!({"version": version, "brokers": {"groups": groups, "replicas": 2}});
        let (mut world, mut object) = world_of(spec(from, 1));
        object.metadata.annotations =
            Some([(gantry_crds::ACCEPT_HAZARDS_ANNOTATION.to_owned(), "replicas-forget-topics".to_owned())].into());
        settle(&mut world, &mut object, 300).unwrap();
        object.spec = support::object("shop", spec(to, 1)).spec;
        object.metadata.generation = Some(2);
        let begins = |w: &World, _: &BrokerCluster| {
            let of_last = |(_, name): &(ChildKind, String)| name == last;
            w.api.all().any(|(key, o)| {
                of_last(key) && o["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == to
            })
        };
        watch(&mut world, &mut object, 900, begins).unwrap_or_else(|e| panic!("{to}: {e}"));
        object.spec = support::object("shop", spec(to, 2)).spec;
        object.metadata.generation = Some(3);
        let done = |w: &World, o: &BrokerCluster| {
            phase(o).is_none() && all_run(w, to) && w.pods.contains_key("shop-broker-1-1")
        };
        watch(&mut world, &mut object, 900, done).unwrap_or_else(|e| panic!("{to}: {e}"));
    }
}

#[test]
fn a_child_that_is_deleted_or_edited_by_hand_is_put_right_by_the_next_pass() {
    let (mut world, mut object) = world_of(three_copies());
    settle(&mut world, &mut object, 300).unwrap();
    let wanted = declared(&world);
    let all: Vec<(ChildKind, String)> = world.api.all().map(|(key, _)| key.clone()).collect();
    for (kind, name) in &all {
        world.api.delete(*kind, name, None).unwrap();
        let pass = pass(&mut world, &mut object, None);
        assert!(pass.failure.is_none(), "{kind:?}/{name} deleted: {:?}", pass.failure);
        if *kind == ChildKind::StatefulSet && name.contains("-broker-") {
            // A broker group that is made anew is closed until it is known to have everything.
            settle(&mut world, &mut object, 300).unwrap();
        }
        assert_eq!(declared(&world), wanted, "{kind:?}/{name} deleted");
    }
    for (kind, name) in &all {
        world.api.edit(*kind, name, |o| o["metadata"]["labels"] = json!({"mine": "now"}));
        pass(&mut world, &mut object, None);
        let labels = &world.api.get(*kind, name).expect("it is there")["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/managed-by"], "gantry", "{kind:?}/{name} {labels}");
    }
    settle(&mut world, &mut object, 300).unwrap();
}

/// `kubectl drain` of the node of the first group's master, a try with every tick. At the moment in which the eviction is admitted every replica must be in
/// sync and somebody else the master.
fn drains(replicas: u8) {
    let spec = json!({"brokers": {"replicas": replicas}, "controllers": {"replicas": 3}});
    let (mut world, mut object) = world_of(spec);
    settle(&mut world, &mut object, 300).unwrap();
    let pod_of = |address: &str| address.split_once('.').map(|(pod, _)| pod.to_owned()).unwrap();
    let group = |world: &World| world.group_facts().remove("shop-broker-0").unwrap();
    let master = pod_of(&group(&world).master_address.unwrap());
    assert!(!world.evict(&master), "its budget admits no eviction of a master");
    world.cordon(&master);
    let mut admitted = None;
    for tick in 0..120 {
        world.tick();
        pass(&mut world, &mut object, None);
        let facts = group(&world);
        if world.evict(&master) {
            assert_ne!(pod_of(&facts.master_address.unwrap()), master, "after {tick} s");
            let behind: Vec<String> = facts.not_in_sync.iter().map(|r| pod_of(&r.address)).collect();
            assert_eq!(behind, Vec::<String>::new(), "{master} is evicted after {tick} s");
            admitted = Some(tick);
            break;
        }
    }
    assert!(admitted.is_some(), "the node of {master} is never drained: {:#?}", object.status);
    world.uncordon(&master);
    settle(&mut world, &mut object, 300).unwrap();
}

#[test]
fn a_drained_node_keeps_a_former_master_until_it_is_in_sync_again() {
    drains(3);
    drains(2);
}

#[test]
fn no_proxy_stops_when_an_autoscaler_takes_over_their_number() {
    let (mut world, mut object) = world_of(json!({"proxies": {"replicas": 4}}));
    settle(&mut world, &mut object, 300).unwrap();
    object.spec =
        support::object("shop", json!({"proxies": {"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}})).spec;
    object.metadata.generation = Some(2);
    settle(&mut world, &mut object, 300).unwrap();
    let replicas =
        |world: &World| world.api.get(ChildKind::Deployment, "shop-proxy").unwrap()["spec"]["replicas"].clone();
    assert_eq!(replicas(&world), 4);
    // What the autoscaler then decides is nobody's to write.
    world.api.edit(ChildKind::Deployment, "shop-proxy", |o| o["spec"]["replicas"] = json!(6));
    world.tick();
    assert_eq!(pass(&mut world, &mut object, None).plan.writes, vec![]);
    assert_eq!(replicas(&world), 6);
}
