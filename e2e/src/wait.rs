//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `condition` every half second until it says what was waited for.
///
/// # Errors
/// After `limit`, with what it said last.
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Result<Answer<T>>) -> Result<T> {
    until_every(Duration::from_millis(500), what, limit, condition)
}

/// Asks `condition` as often as said: each kubectl takes a quarter of a second of a core from what is measured meanwhile.
///
/// # Errors
/// After `limit`, with what it said last.
pub fn until_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Answer<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        let last = match condition() {
            Ok(Answer::Yes(value)) => return Ok(value),
            Ok(Answer::NotYet(why)) => why,
            Err(error) => format!("{error:#}"),
        };
        if begun.elapsed() > limit {
            bail!("{what}: not within {} s; last: {last}", limit.as_secs());
        }
        std::thread::sleep(pause);
    }
}

/// What a condition says.
pub enum Answer<T> {
    /// It holds; with what was found.
    Yes(T),
    /// It does not hold yet, because.
    NotYet(String),
}

impl<T> Answer<T> {
    /// `value` where `holds`.
    pub fn when(holds: bool, value: T, otherwise: impl FnOnce() -> String) -> Self {
        if holds { Self::Yes(value) } else { Self::NotYet(otherwise()) }
    }
}
