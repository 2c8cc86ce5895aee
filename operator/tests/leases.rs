//! Who leads: the Lease's requests, and that two processes never lead at the same time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry::error::Error;
use gantry::leader::Elector;
use serde_json::{Value, json};
use support::requests::{Answer, Asked, client, refusal};
use tokio::time::Instant;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";

/// The one Lease, as an API server keeps it: a write must know the version that it changes.
#[derive(Clone, Default)]
struct Lease(Arc<Mutex<(u64, Option<Value>)>>);

impl Lease {
    /// One that this process held and did not renew for an hour.
    fn expired(holder: &str) -> Self {
        let spec =
            json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"});
        let lease = json!({"metadata": {"name": "gantry-operator", "resourceVersion": "1"}, "spec": spec});
        Self(Arc::new(Mutex::new((1, Some(lease)))))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let (version, lease) = &mut *self.0.lock().unwrap();
        let sent = asked.body["metadata"]["resourceVersion"].as_str();
        match (asked.line.split(' ').next().unwrap(), &lease) {
            ("GET", Some(lease)) => return Some((200, lease.clone())),
            ("GET", None) => return refusal(404, "NotFound"),
            ("POST", Some(_)) => return refusal(409, "AlreadyExists"),
            ("PUT", Some(lease)) if lease["metadata"]["resourceVersion"].as_str() != sent => {
                return refusal(409, "Conflict");
            }
            _ => {}
        }
        *version += 1;
        let mut stored = asked.body.clone();
        stored["metadata"]["resourceVersion"] = version.to_string().into();
        *lease = Some(stored.clone());
        Some((200, stored))
    }

    fn holder(&self) -> Value {
        self.0.lock().unwrap().1.as_ref().unwrap()["spec"]["holderIdentity"].clone()
    }

    /// Its holder renews it, by its own clock.
    fn renew(&self, at: &str) {
        let (version, lease) = &mut *self.0.lock().unwrap();
        *version += 1;
        let lease = lease.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = version.to_string().into();
        lease["spec"]["renewTime"] = at.into();
    }

    /// Somebody else takes it, whatever it holds.
    fn steal(&self) {
        let (version, lease) = &mut *self.0.lock().unwrap();
        *version += 1;
        let lease = lease.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = version.to_string().into();
        lease["spec"]["holderIdentity"] = "thief".into();
    }
}

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_made_held_and_given_back() {
    let lease = Lease::default();
    let server = lease.clone();
    let (client, log) = client(move |asked| server.answer(asked));
    let elector = Elector::new(&client, "ns", "a");
    assert!(elector.leadership().check().is_err());
    elector.acquire().await;
    elector.leadership().check().unwrap();
    let spec = &log.all()[1].body["spec"];
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!("a"), &json!(15)));
    // It holds while it renews.
    assert!(tokio::time::timeout(Duration::from_secs(60), elector.hold()).await.is_err());
    elector.leadership().check().unwrap();
    elector.release().await;
    assert_eq!(lease.holder(), Value::Null);
    let renewals = log.lines().iter().filter(|l| **l == format!("PUT {LEASES}/gantry-operator?")).count();
    assert!((28..=31).contains(&renewals), "{renewals} writes");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_ask_at_the_same_time_one_leads() {
    // Until one of them has it; who got it renews nothing here, and loses it again later.
    for (lease, seconds) in [(Lease::default(), 5), (Lease::expired("gone"), 20)] {
        let (one, other) = (lease.clone(), lease.clone());
        let electors = [client(move |a| one.answer(a)).0, client(move |a| other.answer(a)).0];
        let electors = [Elector::new(&electors[0], "ns", "a"), Elector::new(&electors[1], "ns", "b")];
        let both = futures::future::join(electors[0].acquire(), electors[1].acquire());
        assert!(tokio::time::timeout(Duration::from_secs(seconds), both).await.is_err(), "both lead");
        let leading: Vec<bool> = electors.iter().map(|e| e.leadership().check().is_ok()).collect();
        assert_eq!(leading.iter().filter(|l| **l).count(), 1, "{leading:?}");
        assert_eq!(lease.holder(), if leading[0] { "a" } else { "b" });
    }
}

/// Clocks of two machines differ: what one wrote an hour ago by the other's clock may be a moment old.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_is_never_taken_whatever_times_are_written_in_it() {
    let lease = Lease::expired("b");
    let server = lease.clone();
    let (client, log) = client(move |asked| server.answer(asked));
    let elector = Elector::new(&client, "ns", "a");
    let renewing = async {
        for second in 0..120 {
            lease.renew(&format!("2026-01-01T00:{:02}:{:02}.000000Z", second / 60, second % 60));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = elector.acquire() => panic!("it took the lease of one that renews it"),
        () = renewing => {}
    }
    assert!(log.lines().iter().all(|line| line.starts_with("GET")), "{:?}", log.lines());
    // The holder dies: after as long as the lease lasts, and not before, it is free.
    let died = Instant::now();
    elector.acquire().await;
    assert!((14..=20).contains(&died.elapsed().as_secs()), "{:?}", died.elapsed());
    assert_eq!(lease.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_says_it_was_just_renewed_and_does_not_change_is_taken_when_it_has_lasted() {
    let lease = Lease::expired("gone");
    lease.renew("2099-01-01T00:00:00.000000Z");
    let server = lease.clone();
    let (client, _) = client(move |asked| server.answer(asked));
    let elector = Elector::new(&client, "ns", "a");
    let begun = Instant::now();
    elector.acquire().await;
    assert!((15..=20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_finds_the_lease_in_other_hands_stops() {
    let lease = Lease::default();
    let server = lease.clone();
    let (client, _) = client(move |asked| server.answer(asked));
    let elector = Elector::new(&client, "ns", "a");
    elector.acquire().await;
    lease.steal();
    let begun = Instant::now();
    assert!(matches!(elector.hold().await, Error::NotLeader));
    assert!(begun.elapsed() <= Duration::from_secs(2));
    assert_eq!(lease.holder(), "thief");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_the_lease_is_a_lost_lead() {
    let lease = Lease::default();
    let server = lease.clone();
    let mut conflict = false;
    let (client, _) = client(move |asked| {
        if conflict && asked.line.starts_with("PUT") {
            return refusal(409, "Conflict");
        }
        conflict |= asked.line.starts_with("POST");
        server.answer(asked)
    });
    let elector = Elector::new(&client, "ns", "a");
    elector.acquire().await;
    assert!(matches!(elector.hold().await, Error::NotLeader));
}

/// The others may take over 15 s after the last renewal.
#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_others_may_take_over() {
    for silent in [true, false] {
        let lease = Lease::default();
        let server = lease.clone();
        let mut cut = false;
        let (client, _) = client(move |asked| {
            if cut {
                return if silent { None } else { refusal(500, "InternalError") };
            }
            cut = asked.line.starts_with("POST");
            server.answer(asked)
        });
        let elector = Elector::new(&client, "ns", "a");
        elector.acquire().await;
        let begun = Instant::now();
        assert!(matches!(elector.hold().await, Error::NotLeader));
        assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    }
}
