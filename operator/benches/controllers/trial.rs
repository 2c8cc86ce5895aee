//! What is done to the controllers of one type, one thing after the other, and what was seen.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cluster::{ALL, Cluster, Type, until};

/// How long something may take before it counts as never.
const NEVER: Duration = Duration::from_secs(60);
/// How long everything may take to be whole again before the next step.
const WHOLE: Duration = Duration::from_secs(180);
/// How long idle controllers are watched.
const IDLE: Duration = Duration::from_secs(40);
/// More changes than a DLedger node applies before it takes a snapshot (`snapshotThreshold`, 1,000).
const MANY: u32 = 1_100;

/// One line of the table.
pub type Row = (&'static str, String);

type Step = fn(&mut Cluster) -> Result<String>;

const STEPS: [(&str, Step); 22] = [
    ("first leader, all three started at once", first_leader),
    ("two brokers of a new group in sync", brokers_up),
    ("idle: resident memory of a follower, the leader", memory),
    ("idle: % of a core of a follower, the leader", processor),
    ("idle: written to disk by the leader", disk),
    ("leader killed: a change is acknowledged again after", leader_killed),
    ("leader hangs: a change is acknowledged again after", leader_hangs),
    ("all three killed and started: all is known after", all_restarted),
    ("follower moves to another address: it helps to acknowledge after", follower_moves),
    ("master killed: another one after", master_killed),
    ("master hangs: another one after", master_hangs),
    ("leader and master killed at once: another master after", both_killed),
    ("leader and master hang at once: another master after", both_hang),
    ("both brokers hang, one wakes up: it is master after", one_wakes_up),
    ("both brokers killed, one starts: it is master after", one_starts),
    ("follower lost its disk, few changes so far: it helps to acknowledge after", follower_wiped),
    ("1,100 changes: each took", many_changes),
    ("follower lost its disk after a snapshot: it helps to acknowledge after", follower_wiped),
    ("1,100 changes more, then the leader lost its disk: it helps to acknowledge after", leader_wiped),
    ("60,000 heartbeats, six brokers' in 2.8 h: resident memory of a follower, the leader", heartbeats),
    ("all three killed and started after a snapshot: all is known after", all_restarted),
    ("all three lost their disks: the group is led again after", all_wiped),
];

/// Goes through all steps with controllers of a type. A step that can't be done says why, and the next one is tried.
pub fn run(type_: Type, hosts: &Path) -> Result<Vec<Row>> {
    let mut cluster = Cluster::start(type_, hosts.to_owned())?;
    let mut rows = Vec::new();
    for (name, step) in STEPS {
        let seen = step(&mut cluster).unwrap_or_else(|error| format!("not tried: {error:#}"));
        println!("   {name}: {seen}");
        rows.push((name, seen));
    }
    Ok(rows)
}

fn seconds(took: Option<Duration>) -> String {
    took.map_or_else(|| format!("not within {} s", NEVER.as_secs()), |t| format!("{:.1} s", t.as_secs_f64()))
}

fn leader(cluster: &Cluster) -> Result<usize> {
    let mut found = None;
    until(NEVER, || {
        found = cluster.leader();
        found.is_some()
    });
    found.context("no controller leads")
}

/// The followers, and then the leader.
fn roles(cluster: &Cluster) -> Result<[usize; 3]> {
    let leader = leader(cluster)?;
    Ok([(leader + 1) % 3, (leader + 2) % 3, leader])
}

/// Everything as it was before anything was done to it.
fn whole(cluster: &mut Cluster) -> Result<()> {
    let so = until(WHOLE, || cluster.agrees() && cluster.master().is_some() && cluster.in_sync() == 2);
    so.map(drop).context("the cluster was not whole before")
}

/// Does something to controllers that should not touch the group's master, and says when it did.
fn without_an_election(cluster: &mut Cluster, what: impl FnOnce(&mut Cluster) -> Result<String>) -> Result<String> {
    whole(cluster)?;
    let epoch = |cluster: &Cluster| cluster.group().map(|g| g.master_epoch);
    let before = epoch(cluster);
    let seen = what(cluster)?;
    whole(cluster)?;
    Ok(if epoch(cluster) == before { seen } else { format!("{seen}; the group's master was elected anew") })
}

fn first_leader(cluster: &mut Cluster) -> Result<String> {
    Ok(seconds(until(NEVER, || cluster.leader().is_some())))
}

fn brokers_up(cluster: &mut Cluster) -> Result<String> {
    cluster.start_broker(0);
    cluster.start_broker(1);
    Ok(seconds(until(WHOLE, || cluster.in_sync() == 2)))
}

fn memory(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let [follower, _, leader] = roles(cluster)?;
    let mebibytes = |i| cluster.usage(i).map(|(bytes, _)| bytes / 1_048_576);
    Ok(format!("{} MiB, {} MiB", mebibytes(follower)?, mebibytes(leader)?))
}

fn processor(cluster: &mut Cluster) -> Result<String> {
    let [follower, _, leader] = roles(cluster)?;
    let before = [cluster.usage(follower)?.1, cluster.usage(leader)?.1];
    sleep(IDLE);
    let percent = |now: f64, then: f64| (now - then) / IDLE.as_secs_f64() * 100.0;
    let follower = percent(cluster.usage(follower)?.1, before[0]);
    let leader = percent(cluster.usage(leader)?.1, before[1]);
    Ok(format!("{follower:.1}, {leader:.1}"))
}

fn disk(cluster: &mut Cluster) -> Result<String> {
    let leader = leader(cluster)?;
    let before = cluster.written_to_disk(leader)?;
    sleep(IDLE);
    let bytes = (cluster.written_to_disk(leader)? - before) as f64;
    Ok(format!("{:.1} KiB/s", bytes / 1024.0 / IDLE.as_secs_f64()))
}

fn leader_killed(cluster: &mut Cluster) -> Result<String> {
    without_an_election(cluster, |cluster| {
        let leader = leader(cluster)?;
        cluster.kill_controller(leader);
        let took = until(NEVER, || cluster.write());
        cluster.start_controller(leader);
        Ok(seconds(took))
    })
}

fn leader_hangs(cluster: &mut Cluster) -> Result<String> {
    without_an_election(cluster, |cluster| {
        let leader = leader(cluster)?;
        cluster.hang_controller(leader);
        let took = until(NEVER, || cluster.write());
        cluster.wake_controller(leader);
        let agree = until(NEVER, || cluster.agrees());
        Ok(format!("{}; woken up, all agree after {}", seconds(took), seconds(agree)))
    })
}

fn all_restarted(cluster: &mut Cluster) -> Result<String> {
    without_an_election(cluster, |cluster| {
        for i in ALL {
            cluster.kill_controller(i);
        }
        for i in ALL {
            cluster.start_controller(i);
        }
        Ok(seconds(until(NEVER, || cluster.master().is_some() && cluster.write())))
    })
}

/// Whether a controller has what the leader has, once it is started: with the third one away, nothing is acknowledged without it.
fn helps(cluster: &mut Cluster, i: usize) -> Result<String> {
    let begun = Instant::now();
    cluster.start_controller(i);
    helps_since(cluster, i, begun)
}

fn helps_since(cluster: &mut Cluster, i: usize, begun: Instant) -> Result<String> {
    let other = ALL.into_iter().find(|o| *o != i && Ok(*o) != leader(cluster).map_err(drop)).context("no other")?;
    // It may take its time to start; what counts is whether it ever helps.
    until(NEVER, || cluster.metadata(i).is_some());
    cluster.kill_controller(other);
    let took = until(NEVER, || cluster.write()).map(|_| begun.elapsed());
    cluster.start_controller(other);
    Ok(seconds(took))
}

fn follower_moves(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let [follower, ..] = roles(cluster)?;
    cluster.kill_controller(follower);
    cluster.move_controller(follower)?;
    helps(cluster, follower)
}

fn broker(i: usize) -> String {
    format!("broker-{i}")
}

fn another_master(cluster: &mut Cluster, old: usize) -> String {
    seconds(until(NEVER, || cluster.master() == Some(1 - old)))
}

fn master_killed(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let master = cluster.master().context("no master")?;
    cluster.machine.kill(&broker(master));
    let took = another_master(cluster, master);
    cluster.start_broker(master);
    Ok(took)
}

fn master_hangs(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let master = cluster.master().context("no master")?;
    cluster.machine.signal(&broker(master), "STOP");
    let took = another_master(cluster, master);
    cluster.machine.signal(&broker(master), "CONT");
    Ok(took)
}

fn both_killed(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let (leader, master) = (leader(cluster)?, cluster.master().context("no master")?);
    cluster.kill_controller(leader);
    cluster.machine.kill(&broker(master));
    let took = another_master(cluster, master);
    cluster.start_controller(leader);
    cluster.start_broker(master);
    Ok(took)
}

fn both_hang(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let (leader, master) = (leader(cluster)?, cluster.master().context("no master")?);
    cluster.hang_controller(leader);
    cluster.machine.signal(&broker(master), "STOP");
    let took = another_master(cluster, master);
    cluster.wake_controller(leader);
    cluster.machine.signal(&broker(master), "CONT");
    Ok(took)
}

/// The election that follows finds nobody alive; somebody has to hold another one.
fn one_wakes_up(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let master = cluster.master().context("no master")?;
    for i in [master, 1 - master] {
        cluster.machine.signal(&broker(i), "STOP");
    }
    let found_nobody = until(NEVER, || cluster.in_sync() == 0);
    // Some more scans by the controllers.
    sleep(Duration::from_secs(5));
    cluster.machine.signal(&broker(1 - master), "CONT");
    let took = found_nobody.map(|_| another_master(cluster, master)).context("the brokers were never missed");
    cluster.machine.signal(&broker(master), "CONT");
    took
}

fn one_starts(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let master = cluster.master().context("no master")?;
    for i in [master, 1 - master] {
        cluster.machine.kill(&broker(i));
    }
    let found_nobody = until(NEVER, || cluster.in_sync() == 0);
    cluster.start_broker(1 - master);
    let took = found_nobody.map(|_| another_master(cluster, master)).context("the brokers were never missed");
    cluster.start_broker(master);
    took
}

fn wiped(cluster: &mut Cluster, i: usize) -> Result<String> {
    cluster.kill_controller(i);
    cluster.wipe_controller(i);
    let took = helps(cluster, i)?;
    if !took.starts_with("not") {
        return Ok(took);
    }
    // The only cure that is known: whoever starts anew has its whole log to give away.
    until(NEVER, || cluster.agrees());
    let leader = leader(cluster)?;
    let other = ALL.into_iter().find(|o| *o != i && *o != leader).context("no other")?;
    for restarted in [other, leader] {
        cluster.kill_controller(restarted);
        cluster.start_controller(restarted);
        until(NEVER, || cluster.agrees() && cluster.leader().is_some());
    }
    let cured = helps_since(cluster, i, Instant::now())?;
    Ok(format!("{took}; the other follower and the leader restarted: {cured}"))
}

fn follower_wiped(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let [follower, ..] = roles(cluster)?;
    wiped(cluster, follower)
}

fn leader_wiped(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    cluster.writes(MANY)?;
    until(NEVER, || cluster.has_snapshots());
    let leader = leader(cluster)?;
    wiped(cluster, leader)
}

fn many_changes(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    let each = cluster.writes(MANY)?;
    let snapshot = until(NEVER, || cluster.has_snapshots());
    Ok(format!("{:.1} ms; all have a snapshot after {}", each.as_secs_f64() * 1e3, seconds(snapshot)))
}

fn heartbeats(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    cluster.heartbeats(6, 10_000)?;
    memory(cluster)
}

fn all_wiped(cluster: &mut Cluster) -> Result<String> {
    whole(cluster)?;
    for i in ALL {
        cluster.kill_controller(i);
        cluster.wipe_controller(i);
    }
    for i in ALL {
        cluster.start_controller(i);
    }
    Ok(seconds(until(NEVER, || cluster.master().is_some())))
}
