//! One topic that producers send to and one consumer group that reads it, so that what is skipped or left behind can be counted.

use std::collections::BTreeMap;

use super::super::{EngineError, QueueOffsets, WriteOutcome};
use super::world::{Disk, World};

/// Messages that a consumer reads of one broker in a tick.
const READS: i64 = 5;
/// Of a queue whose first message is still in memory a group without an offset reads all, of others only what comes from now on
/// (ConsumerManageProcessor.java, queryConsumerOffset).
const IN_MEMORY: i64 = 20;

/// Who reads what.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// It is away: nothing is read.
    pub away: bool,
    /// Messages that it will never read, because it began behind them.
    pub skipped: i64,
}

impl World {
    /// Does this broker let producers send? They go by routes, and these have its permission.
    #[must_use]
    pub fn takes_messages(&self, address: &str) -> bool {
        let config = self.brokers.get(address).map(|b| &b.process.config);
        let value = |key: &str| config.and_then(|c| c.get(key)).map(String::as_str);
        value("brokerPermission").is_none_or(|p| p == "6")
            && value("startAcceptSendRequestTimeStamp").is_none_or(|t| t == "0")
    }

    /// A message to each group that takes one, and the reader reads on.
    pub(super) fn tick_consumers(&mut self) {
        let Some(reader) = self.reader.clone() else { return };
        let key = (reader.topic.clone(), reader.group.clone());
        // Who reads for the first time ever asks for what comes from now on: only one that has read elsewhere can miss something.
        let first_time = !self.brokers.values().any(|broker| broker.disk.offsets.contains_key(&key));
        let names: Vec<String> = self.groups.keys().cloned().collect();
        let mut skipped = 0;
        for name in names {
            let Some(master) = self.serving_master(&name).map(str::to_owned) else { continue };
            let sends = self.traffic && self.is_writable(&name) && self.takes_messages(&master);
            let Some(broker) = self.brokers.get_mut(&master) else { continue };
            if !broker.disk.metadata.topics.contains_key(&reader.topic) {
                continue;
            }
            let end = broker.disk.messages.entry(reader.topic.clone()).or_insert(0);
            *end += i64::from(sends);
            let end = *end;
            if reader.away || !broker.disk.metadata.groups.contains_key(&reader.group) {
                continue;
            }
            let at = broker.disk.offsets.entry(key.clone()).or_default().entry(0).or_insert_with(|| {
                let begins = if end <= IN_MEMORY { 0 } else { end };
                skipped += if first_time { 0 } else { begins };
                begins
            });
            *at = end.min(*at + READS);
        }
        if let Some(reader) = &mut self.reader {
            reader.skipped += skipped;
        }
    }

    /// Messages of the reader's topic that it has not read, and delayed ones, on one group's master or the most complete of the group's disks.
    #[must_use]
    pub fn unread(&self, name: &str) -> i64 {
        let Some(reader) = &self.reader else { return 0 };
        let key = (reader.topic.clone(), reader.group.clone());
        let of = self.brokers.iter().filter(|(_, broker)| broker.group == name);
        let read = |disk: &Disk| disk.offsets.get(&key).and_then(|queues| queues.get(&0)).copied().unwrap_or(0);
        // A disk that was emptied holds nothing for anybody, whatever the group does; one that was left does not know what was read since.
        let last = of.max_by_key(|(at, broker)| (self.is_master(at), broker.disk.end, read(&broker.disk)));
        let Some((_, broker)) = last else { return 0 };
        let end = broker.disk.messages.get(&reader.topic).copied().unwrap_or(0);
        let at = read(&broker.disk);
        end - at + broker.disk.delayed
    }

    /// A broker forgets what its consumer groups have read, as one that copied it too late.
    pub fn forget_offsets(&mut self, broker: &str) {
        if let Some(broker) = self.brokers.get_mut(broker) {
            broker.disk.offsets.clear();
        }
    }

    /// What somebody does who delays messages, or lets them come due.
    pub fn delay_messages(&mut self, broker: &str, messages: i64) {
        if let Some(broker) = self.brokers.get_mut(broker) {
            broker.disk.delayed = messages;
        }
    }

    pub(super) fn set_offsets(
        &mut self,
        address: &str,
        offsets: &BTreeMap<String, BTreeMap<String, QueueOffsets>>,
    ) -> Result<WriteOutcome, EngineError> {
        self.broker(address, "UPDATE_CONSUMER_OFFSET")?;
        if let Some(broker) = self.brokers.get_mut(address) {
            for (group, topics) in offsets {
                for (topic, queues) in topics {
                    broker.disk.offsets.entry((topic.clone(), group.clone())).or_default().extend(queues);
                }
            }
        }
        Ok(WriteOutcome::default())
    }
}
