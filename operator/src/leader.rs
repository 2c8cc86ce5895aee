//! Leadership by a Lease: one process writes at a time.
//!
//! A process leads while its own monotonic clock says so: `VALID` after the moment *before* its last successful renewal, which is shorter than
//! the `DURATION` after which others may take over. Those measure it on their own clocks too, from when they saw the Lease change last: the times that
//! are written in it are another machine's, and its clock may be wrong. Who can't renew ends the process: half a leader is worse than a restart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

use crate::error::Error;

/// Name of the Lease.
pub const LEASE: &str = "gantry-operator";
/// After this long without renewal another process may take over. Kubernetes' own controllers use 15 s.
const DURATION: Duration = Duration::from_secs(15);
/// A leader trusts its lease for this long after it asked for it: less than `DURATION` by far more than clocks drift in that time.
const VALID: Duration = Duration::from_secs(10);
/// Time between two renewals, and between two looks of a process that waits.
const RENEW: Duration = Duration::from_secs(2);

/// Whether this process leads now. Asked right before every write to the engine.
#[derive(Clone, Debug, Default)]
pub struct Leadership(Arc<Mutex<Option<Instant>>>);

impl Leadership {
    /// Leads without a Lease: for tools and tests that run alone.
    #[must_use]
    pub fn alone() -> Self {
        let far = Instant::now() + Duration::from_secs(60 * 60 * 24 * 365);
        Self(Arc::new(Mutex::new(Some(far))))
    }

    /// Fails where this process does not lead, by its own clock.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub fn check(&self) -> Result<(), Error> {
        if self.until().is_some_and(|until| Instant::now() < until) { Ok(()) } else { Err(Error::NotLeader) }
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// The Lease as one process sees it.
pub struct Elector {
    api: Api<Lease>,
    identity: String,
    leadership: Leadership,
    /// The Lease as it was when it was last seen to change, and when that was.
    seen: Mutex<Option<(LeaseSpec, Instant)>>,
}

impl Elector {
    /// For the process `identity`, with the Lease in `namespace`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            identity: identity.into(),
            leadership: Leadership::default(),
            seen: Mutex::default(),
        }
    }

    /// What says whether this process leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until this process leads.
    pub async fn acquire(&self) {
        loop {
            match self.try_once().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the leader lease can't be read or written"),
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// Renews until that fails for too long. Returns only when this process leads no more.
    pub async fn hold(&self) -> Error {
        loop {
            tokio::time::sleep(RENEW).await;
            match tokio::time::timeout(RENEW * 2, self.try_once()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Error::NotLeader,
                Ok(Err(error)) => tracing::warn!(%error, "the leader lease was not renewed"),
                Err(_) => tracing::warn!("the leader lease was not renewed in time"),
            }
            if let Err(error) = self.leadership.check() {
                return error;
            }
        }
    }

    /// Gives the lease back, so that the next process need not wait for it to expire.
    pub async fn release(&self) {
        // First of all: a write that is about to be made must not meet the next leader's.
        self.leadership.set(None);
        if let Ok(Some(mut lease)) = self.api.get_opt(LEASE).await
            && let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.identity))
        {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            // Lost races are fine: somebody else has it then.
            let _ = self.api.replace(LEASE, &PostParams::default(), &lease).await;
        }
    }

    /// Takes or renews the lease where it is free or ours. `false`: somebody else leads.
    async fn try_once(&self) -> Result<bool, kube::Error> {
        let asked = Instant::now();
        let now = Timestamp::now();
        let current = self.api.get_opt(LEASE).await?;
        let held = match current {
            None => self.api.create(&PostParams::default(), &self.lease(None, now)).await.map(|_| true),
            Some(lease) if !self.may_take(lease.spec.as_ref()) => return Ok(false),
            Some(lease) => {
                self.api.replace(LEASE, &PostParams::default(), &self.lease(Some(lease), now)).await.map(|_| true)
            }
        };
        match held {
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
            Ok(_) => {
                self.leadership.set(Some(asked + VALID));
                Ok(true)
            }
        }
    }

    /// Is the lease ours, unheld, or has it not changed for as long as it lasts?
    fn may_take(&self, lease: Option<&LeaseSpec>) -> bool {
        let Some(spec) = lease else { return true };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.as_ref().filter(|(known, _)| known == spec) {
            Some((_, since)) => since.elapsed() > lasts(spec),
            None => {
                *seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn lease(&self, old: Option<Lease>, now: Timestamp) -> Lease {
        let (metadata, old) = match old {
            Some(l) => (l.metadata, l.spec.unwrap_or_default()),
            None => (ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() }, LeaseSpec::default()),
        };
        let mine = old.holder_identity.as_deref() == Some(&self.identity);
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if mine { old.acquire_time } else { Some(MicroTime(now)) },
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!mine)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// How long its holder may go without renewing it.
fn lasts(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    seconds.map_or(DURATION, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_as_long_as_its_holder_says() {
        let of = |seconds| LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
        assert_eq!(lasts(&of(Some(60))), Duration::from_secs(60));
        for nonsense in [None, Some(0), Some(-1)] {
            assert_eq!(lasts(&of(nonsense)), DURATION);
        }
    }

    #[test]
    fn a_leader_stops_trusting_its_lease_before_others_may_take_it() {
        assert!(VALID + RENEW < DURATION);
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_the_clock_even_when_nothing_else_happens() {
        let leadership = Leadership::default();
        assert!(leadership.check().is_err());
        leadership.set(Some(Instant::now() + VALID));
        assert!(leadership.check().is_ok());
        tokio::time::advance(VALID).await;
        assert!(matches!(leadership.check(), Err(Error::NotLeader)));
    }
}
