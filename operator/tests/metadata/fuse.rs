//! Kills an operator at one of its writes: that one and all that come after it never return.

use std::sync::{Arc, Mutex};

/// Whether the write at which the operator is killed is still carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    Out,
    Not,
}

#[derive(Clone, Default)]
pub struct Fuse(Arc<Mutex<Option<(usize, Carried)>>>);

impl Fuse {
    /// So many writes are made, the next one is the last.
    pub fn set(&self, writes: usize, carried: Carried) {
        *self.0.lock().unwrap() = Some((writes, carried));
    }

    /// Another operator, that nobody kills.
    pub fn remove(&self) {
        *self.0.lock().unwrap() = None;
    }

    /// Makes a write, if there is still somebody who makes it.
    pub async fn burn<T>(&self, write: impl Future<Output = T>) -> T {
        let (made, returns) = match &mut *self.0.lock().unwrap() {
            None => (true, true),
            Some((left, _)) if *left > 0 => {
                *left -= 1;
                (true, true)
            }
            Some((_, carried)) => (std::mem::replace(carried, Carried::Not) == Carried::Out, false),
        };
        if !made {
            return std::future::pending().await;
        }
        let result = write.await;
        if returns { result } else { std::future::pending().await }
    }
}
