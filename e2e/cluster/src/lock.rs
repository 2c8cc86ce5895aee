//! One process at a time: a lock that ends with whoever has it.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::progress::step;

/// Takes the lock that is the file at `path`; `others` says who may have it, for a person who waits. It is given back when the file is dropped.
pub fn take(path: &Path, others: &str) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    let file = File::create(path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        step(&format!("wait for {others}"), |_| Ok(file.lock()?))?;
    }
    Ok(file)
}
