//! Names of objects for names in the engine, which allows what Kubernetes does not. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A name for each: the engine's own where Kubernetes takes it; else made from it, the same with every import.
#[must_use]
pub fn object_names<'a>(engine_names: impl IntoIterator<Item = &'a String>) -> BTreeMap<&'a String, String> {
    let all: Vec<&String> = engine_names.into_iter().collect();
    let mut taken: BTreeSet<String> = all.iter().filter(|n| made_from(n) == ***n).map(|n| (*n).clone()).collect();
    let mut found = BTreeMap::new();
    for name in all {
        let mut made = made_from(name);
        // `Orders` and `orders` are two topics.
        if made != *name && (made.is_empty() || !taken.insert(made.clone())) {
            made = format!("{made}-{:08x}", hash(name)).trim_start_matches('-').to_owned();
            taken.insert(made.clone());
        }
        found.insert(name, made);
    }
    found
}

fn made_from(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let kept: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    kept.trim_matches('-').to_owned()
}

/// FNV-1a: the same on every machine.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_the_engine_are_two_objects_whatever_kubernetes_allows() {
        let names = ["orders", "Orders", "ORDERS", "page_views", "_", "-a-"].map(str::to_owned);
        let found = object_names(&names);
        let made: Vec<&str> = names.iter().map(|n| found[n].as_str()).collect();
        assert_eq!(made, ["orders", "orders-7872110c", "orders-d51e03ac", "page-views", "da0c196e", "a"]);
        assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
