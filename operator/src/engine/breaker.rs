//! Leaves a cluster alone for a while that answers nothing, so that it costs the others nothing.

use std::time::{Duration, Instant};

/// Time-outs in a row, over all of a cluster's processes, after which it is left alone. One observation of a cluster of three name servers, three
/// controllers and six brokers puts some 25 questions, so this is a cluster of which nobody answered; a single answer starts over.
pub const TIME_OUTS: u32 = 20;

/// How long a cluster is left alone at first, and at most. The longest is what its recovery may go unnoticed.
pub const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The state of one cluster's circuit. Only time-outs count: a refused connection and a name that does not resolve cost nothing, and are what a
/// cluster looks like while it is being born.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    time_outs: u32,
    pause: Duration,
    /// Until when no call is let through; passed, one is.
    open_until: Option<Instant>,
    /// A call that was let through to see whether the cluster is back, and when it was.
    trial: Option<Instant>,
}

impl Breaker {
    /// Asks to make a call.
    ///
    /// # Errors
    /// How much longer the cluster is left alone.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(open_until) = self.open_until else { return Ok(()) };
        if now < open_until {
            return Err(open_until - now);
        }
        // Half open: one call at a time. A caller that went away without a word does not keep it so.
        match self.trial {
            Some(since) if now < since + PAUSE.0 => Err(since + PAUSE.0 - now),
            _ => {
                self.trial = Some(now);
                Ok(())
            }
        }
    }

    /// A call was answered, or refused at once.
    pub fn answered(&mut self) {
        *self = Breaker::default();
    }

    /// A call cost its whole time.
    pub fn timed_out(&mut self, now: Instant) {
        self.time_outs = self.time_outs.saturating_add(1);
        let trial_failed = self.trial.take().is_some();
        if self.open_until.is_some() && !trial_failed {
            // A call that was under way when the circuit opened.
            return;
        }
        if trial_failed || self.time_outs >= TIME_OUTS {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
            self.open_until = Some(now + self.pause);
        }
    }

    /// True when there is nothing to remember.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.time_outs == 0 && self.open_until.is_none()
    }

    /// True while calls are held back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..TIME_OUTS {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.timed_out(now);
        }
        breaker
    }

    #[test]
    fn a_cluster_of_which_nobody_answers_is_left_alone() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.is_open());
        assert_eq!(breaker.admit(now), Err(PAUSE.0));
    }

    #[test]
    fn one_answer_among_many_time_outs_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            for _ in 1..TIME_OUTS {
                breaker.timed_out(now);
            }
            breaker.answered();
        }
        assert_eq!(breaker.admit(now), Ok(()));
    }

    #[test]
    fn after_the_pause_one_call_is_let_through_and_an_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + PAUSE.0;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(PAUSE.0), "only one at a time");
        breaker.answered();
        assert_eq!(breaker.admit(later), Ok(()));
        assert!(!breaker.is_open());
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let pause = breaker.admit(now).unwrap_err();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.timed_out(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn calls_under_way_when_it_opened_do_not_lengthen_the_pause() {
        let now = Instant::now();
        let mut breaker = opened(now);
        for _ in 0..10 {
            breaker.timed_out(now + PAUSE.0 / 2);
        }
        assert_eq!(breaker.admit(now), Err(PAUSE.0));
    }

    #[test]
    fn a_trial_whose_caller_went_away_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + PAUSE.0;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later + PAUSE.0), Ok(()));
    }
}
