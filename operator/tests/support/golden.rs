//! Compares a text with a committed one.

use std::path::{Path, PathBuf};

use similar::TextDiff;

/// Folder of the committed texts.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// What differs from the committed text, as a unified diff; `UPDATE=1` commits instead.
pub fn difference(name: &str, actual: &str) -> Option<String> {
    let path = folder().join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).expect("the golden can be written");
        return None;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if wanted == actual {
        return None;
    }
    let diff = TextDiff::from_lines(wanted.as_str(), actual);
    let unified = diff.unified_diff().context_radius(3).header("committed", "now").to_string();
    Some(format!("tests/golden/{name}:\n{unified}"))
}
