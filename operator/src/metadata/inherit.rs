//! Consumer groups that nobody declared, on broker groups that are new: they read declared topics elsewhere, and would miss what comes to these topics
//! there. Topics that nobody declared stay where they are: nobody sends to another place because of a new group. Pure.

use std::collections::BTreeSet;

use gantry_remoting::group::GroupConfig;

use crate::consumer_group::ConsumerGroups;
use crate::engine::system::is_system_group;
use crate::metadata::kind::Kind;
use crate::metadata::kind::Parsed;
use crate::metadata::plan::Plan;
use crate::metadata::view::{Master, Observed};

/// Adds to `plan` what masters of the new groups lack of undeclared consumer groups.
pub fn inherit(
    new: &BTreeSet<String>,
    declared: &Parsed<'_, ConsumerGroups>,
    observed: &Observed,
    plan: &mut Plan<ConsumerGroups>,
) {
    let names: BTreeSet<&String> = declared.iter().map(|(d, _)| &d.engine_name).collect();
    let masters = |is_new: bool| {
        let known = observed.groups.iter().filter(move |(group, _)| new.contains(*group) == is_new);
        known.filter_map(|(_, master)| master.as_ref().ok())
    };
    for heir in masters(true) {
        let mut seen = BTreeSet::new();
        for (name, config) in masters(false).flat_map(|m: &Master| &m.metadata.groups) {
            if is_system_group(name) || names.contains(name) || !seen.insert(name) {
                continue;
            }
            let current = heir.metadata.groups.get(name);
            let wanted = ConsumerGroups::fit(config.clone(), current, &heir.metadata);
            let wanted = match current {
                // What somebody says of it there is his word; modes come when their topics are there.
                Some(current) => GroupConfig { request_modes: wanted.request_modes, ..current.clone() },
                // Dead letters come with the first one.
                None => GroupConfig { dead_letter_topic: None, ..wanted },
            };
            if let Some(change) = ConsumerGroups::change(current, &wanted) {
                plan.upserts.entry(heir.address.clone()).or_default().push(change);
            }
        }
    }
}
