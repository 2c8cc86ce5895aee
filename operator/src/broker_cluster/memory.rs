//! How a container's memory limit is divided between heap, direct memory and the rest. docs/how-to/size-memory.md explains it to users.

use gantry_crds::names::Component;

/// Parts of a memory limit, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The container's limit.
    pub limit: i64,
    /// `-Xms` and `-Xmx`.
    pub heap: i64,
    /// `-XX:MaxDirectMemorySize`.
    pub direct: i64,
}

/// What a role needs beside heap and direct memory, and the shares of what remains.
struct Shares {
    /// Metaspace, code cache, thread stacks, native libraries (RocksDB in brokers), in MiB. Measured, see docs/design/0004-memory.md.
    fixed: i64,
    /// Heap, in percent of the rest.
    heap: i64,
    /// Direct memory, in percent of the rest.
    direct: i64,
    /// Smallest heap and direct memory with which the role starts and serves, in MiB.
    least: (i64, i64),
    /// Limit where the user sets none, in MiB.
    default: i64,
}

fn shares(component: Component) -> Shares {
    match component {
        Component::NameServer => Shares { fixed: 112, heap: 55, direct: 30, least: (32, 32), default: 256 },
        // RocksDB keeps the last 64 MiB of a jRaft controller's log in memory, beside what it needs itself.
        Component::Controller => Shares { fixed: 224, heap: 55, direct: 30, least: (48, 32), default: 384 },
        // The rest of a broker's memory is page cache, which is where reads of recent messages come from.
        // Direct memory: the timer wheel takes 77 MiB, and each of some forty threads that store messages keeps a buffer of 4.1 MiB.
        Component::Broker => Shares { fixed: 224, heap: 40, direct: 25, least: (128, 256), default: 1024 },
        Component::Proxy => Shares { fixed: 176, heap: 50, direct: 35, least: (96, 64), default: 512 },
    }
}

/// Above this more heap only makes pauses longer: messages live in the page cache, not on the heap.
const MOST_HEAP: i64 = 8 * 1024;
/// Above this netty's pools never grow in practice.
const MOST_DIRECT: i64 = 4 * 1024;

/// Least budget of netty in a broker. Some forty threads that store messages take 170 MiB of it in buffers of 4.06 MiB each, and keep them; with 320 MiB
/// and 48 sending threads beside those, storing failed for good under load (`OutOfDirectMemoryError`), delayed messages among the rest.
const LEAST_NETTY: i64 = 512;
/// What one more thread that stores messages keeps of it: 4 MiB and 64 KiB (MessageExtEncoder.java), rounded up.
const STORING_THREAD: i64 = 5;

impl Memory {
    /// The limit of a role where the user sets none, in MiB.
    #[must_use]
    pub fn default_limit(component: Component) -> i64 {
        shares(component).default
    }

    /// The smallest limit with which a role runs, in MiB.
    #[must_use]
    pub fn least(component: Component) -> i64 {
        let s = shares(component);
        s.fixed + s.least.0 + s.least.1
    }

    /// Divides `limit` MiB. `heap_percent`, a share of the whole limit, replaces the role's own. `None`: the limit is too small.
    #[must_use]
    pub fn divide(component: Component, limit: i64, heap_percent: Option<i32>) -> Option<Self> {
        let s = shares(component);
        let rest = limit - s.fixed;
        let direct = (rest * s.direct / 100).clamp(s.least.1, MOST_DIRECT);
        let heap = match heap_percent {
            Some(percent) => limit * i64::from(percent) / 100,
            // Near the least limit direct memory takes more than its share, and the heap what it leaves.
            None => (rest * s.heap / 100).max(s.least.0).min(rest - direct),
        };
        let heap = heap.min(MOST_HEAP);
        if heap < s.least.0 {
            return None;
        }
        (s.fixed + heap + direct <= limit).then_some(Self { limit, heap, direct })
    }

    /// `-Dio.netty.maxDirectMemory` of a broker, in MiB, with so many threads of its configuration that store messages. It is a bound of address space and
    /// no part of the limit: buffers are touched as far as the longest message goes, and page cache gives way to them.
    #[must_use]
    pub fn netty(self, storing_threads: i64) -> i64 {
        (self.limit / 2).max(LEAST_NETTY) + STORING_THREAD * storing_threads
    }

    /// Least and most of what the API takes as `heap_percent` that fits a limit, where anything does.
    #[must_use]
    pub fn heap_percents(component: Component, limit: i64) -> Option<(i32, i32)> {
        let mut fit = (10..=75).filter(|percent| Self::divide(component, limit, Some(*percent)).is_some());
        let least = fit.next()?;
        Some((least, fit.next_back().unwrap_or(least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_what_is_needed_beside_them_fit_every_limit_from_the_least_up() {
        for component in Component::ALL {
            for limit in Memory::least(component)..40_000 {
                let m = Memory::divide(component, limit, None).unwrap_or_else(|| panic!("{component:?} {limit}"));
                assert!(m.heap + m.direct + shares(component).fixed <= limit, "{component:?} {m:?}");
            }
            assert_eq!(Memory::divide(component, Memory::least(component) - 1, None), None);
            assert!(Memory::divide(component, Memory::default_limit(component), None).is_some());
        }
    }

    #[test]
    fn a_broker_leaves_a_third_of_a_large_limit_to_the_page_cache() {
        let m = Memory::divide(Component::Broker, 16 * 1024, None).unwrap();
        assert!(m.limit - m.heap - m.direct > m.limit / 3, "{m:?}");
    }

    #[test]
    fn every_thread_that_stores_messages_has_room_for_its_buffer() {
        let m = Memory::divide(Component::Broker, 1024, None).unwrap();
        assert_eq!((m.netty(0), m.netty(48)), (512, 752));
        assert_eq!(Memory::divide(Component::Broker, 8 * 1024, None).unwrap().netty(0), 4 * 1024);
    }

    #[test]
    fn heap_shares_that_fit_a_limit_are_told() {
        assert_eq!(Memory::heap_percents(Component::Broker, 1024), Some((13, 53)));
        assert_eq!(Memory::heap_percents(Component::Broker, Memory::least(Component::Broker)), None);
    }

    #[test]
    fn a_heap_share_that_leaves_no_room_is_refused() {
        assert_eq!(Memory::divide(Component::Broker, 1024, Some(75)), None);
        assert!(Memory::divide(Component::Broker, 1024, Some(50)).is_some());
    }
}
