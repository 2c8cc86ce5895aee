//! What a person sees while waiting: a line per step with its time, and a sign of life at least every ten seconds.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A sign of life comes this often: a step is never silent for more than 10 s.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(100);

/// What a running step is doing now; shown with the sign of life.
#[derive(Debug, Clone, Default)]
pub struct Note(Arc<Mutex<String>>);

impl Note {
    /// Says what is being done.
    pub fn set(&self, text: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }
    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells a person something, on standard error: standard output belongs to results. Nobody listening any more (`| head`) is no error:
/// a cluster that is half up must still be brought to an end.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a result on standard output; whoever has stopped reading wants no more.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Runs one step and tells how long it took.
pub fn step<T>(title: &str, work: impl FnOnce(&Note) -> Result<T>) -> Result<T> {
    let (started, note, done) = (Instant::now(), Note::default(), Arc::new(AtomicBool::new(false)));
    let ticker = thread::spawn({
        let (title, note, done) = (title.to_owned(), note.clone(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Acquire) {
                thread::park_timeout(HEARTBEAT);
                if !done.load(Ordering::Acquire) {
                    let doing = note.get();
                    let colon = if doing.is_empty() { "" } else { ": " };
                    say(&format!("  …  {:>8}  {title}{colon}{doing}", seconds(started.elapsed())));
                }
            }
        }
    });
    let result = work(&note);
    done.store(true, Ordering::Release);
    ticker.thread().unpark();
    let _ = ticker.join();
    let mark = if result.is_ok() { "ok" } else { "!!" };
    say(&format!("  {mark} {:>8}  {title}", seconds(started.elapsed())));
    result
}

/// Prints a step that had nothing to do, because its result was there already.
pub fn cached(title: &str) {
    say(&format!("  ok   cached  {title}"));
}

/// Waits until `ready` says so. `what` ends the sentence "waited N s for …", which is the error when it never comes.
pub fn wait_for(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    loop {
        if ready()? {
            return Ok(());
        }
        if started.elapsed() > limit {
            bail!("waited {} for {what}, in vain", seconds(limit));
        }
        thread::sleep(POLL);
    }
}

/// A duration for people: `0.4 s`, `12 s`, `3 m 05 s`.
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        total @ 10..60 => format!("{total} s"),
        total => format!("{} m {:02} s", total / 60, total % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_keep_their_unit() {
        let shown = |ms| seconds(Duration::from_millis(ms));
        assert_eq!(shown(449), "0.4 s");
        assert_eq!(shown(12_900), "12 s");
        assert_eq!(shown(185_000), "3 m 05 s");
    }

    #[test]
    fn a_wait_that_ends_in_vain_says_what_was_waited_for() {
        let error = wait_for("rain", Duration::ZERO, || Ok(false)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0.0 s for rain, in vain");
    }

    #[test]
    fn a_wait_ends_with_the_first_error() {
        let error = wait_for("rain", Duration::from_secs(60), || bail!("the sky fell")).unwrap_err();
        assert_eq!(error.to_string(), "the sky fell");
    }
}
