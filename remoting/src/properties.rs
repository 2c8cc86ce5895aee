//! The engine's configuration as text: lines `key=value` in the form of Java's properties.

use std::collections::BTreeMap;

/// Reads what the engine answers to a request for its configuration. It writes `key=value` without any escape, so the first
/// equals sign divides; a line without one is left out.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Writes an update of the configuration, escaped as java.util.Properties reads it.
#[must_use]
pub fn format(properties: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in properties {
        escape(key, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
    }
    text
}

fn escape(part: &str, key: bool, text: &mut String) {
    for (at, character) in part.chars().enumerate() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' => text.push_str("\\\\"),
            ' ' | '#' | '!' if key || at == 0 => text.extend(['\\', character]),
            '=' | ':' if key => text.extend(['\\', character]),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_divides() {
        let parsed = parse("a=1\nb=x=y\nrubbish\n c = d \nempty=\n");
        let parsed: Vec<_> = parsed.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        assert_eq!(parsed, ["a:1", "b:x=y", "c:d", "empty:"]);
    }

    #[test]
    fn what_is_written_reads_back_as_itself() {
        let properties = [("fileReservedTime", "48"), ("namesrvAddr", "a:9876;b:9876"), ("x y", " #1\\2\n")];
        let properties: BTreeMap<_, _> = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(format(&properties), "fileReservedTime=48\nnamesrvAddr=a:9876;b:9876\nx\\ y=\\ #1\\\\2\\n\n");
    }
}
