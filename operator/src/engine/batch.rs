//! Many topics or consumer groups in few requests, and each refusal with the one that it is about.
//!
//! The engine answers a list with one code. A name that it refuses makes it refuse the whole list; an attribute that it refuses leaves what came
//! before it done and what came after it not. So a refused list is compared with what the broker holds by then, and what is still to be
//! done is tried again in halves, until a single one is refused: its refusal is the reason.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use gantry_remoting::group::{GetAllGroups, GroupChange, GroupConfig, UpsertGroup, UpsertGroups};
use gantry_remoting::topic::{GetAllTopics, TopicChange, TopicConfig, UpsertTopic, UpsertTopics};
use gantry_remoting::{Code, Request};
use tokio::time::Instant;

use super::client::RemotingEngine;
use super::{ClusterId, EngineError, audit};

/// What is changed in lists.
pub(super) trait Item: Clone + Send + Sync {
    /// What a broker holds of it.
    type Config: Send;
    type List: Request<Answer = ()> + Send + Sync;
    type Single: Request<Answer = ()> + Send + Sync;
    type All: Request<Answer = BTreeMap<String, Self::Config>> + Send + Sync;
    const ALL: Self::All;

    fn name(&self) -> &str;
    fn list(items: Vec<Self>) -> Self::List;
    fn single(self) -> Self::Single;
    /// False for one that the engine might take for done in a list and then do nothing of that list.
    fn may_be_listed(&self) -> bool;
    /// What is still to be done, given what the broker holds by now.
    fn rest(&self, current: Option<&Self::Config>) -> Option<Self>;
}

impl Item for TopicChange {
    type Config = TopicConfig;
    type List = UpsertTopics;
    type Single = UpsertTopic;
    type All = GetAllTopics;
    const ALL: GetAllTopics = GetAllTopics;

    fn name(&self) -> &str {
        &self.config.topic_name
    }

    fn list(items: Vec<Self>) -> UpsertTopics {
        UpsertTopics(items)
    }

    fn single(self) -> UpsertTopic {
        UpsertTopic(self)
    }

    fn may_be_listed(&self) -> bool {
        self.is_sure_in_a_list()
    }

    fn rest(&self, current: Option<&TopicConfig>) -> Option<Self> {
        TopicChange::between(current, &self.config)
    }
}

impl Item for GroupChange {
    type Config = GroupConfig;
    type List = UpsertGroups;
    type Single = UpsertGroup;
    type All = GetAllGroups;
    const ALL: GetAllGroups = GetAllGroups;

    fn name(&self) -> &str {
        &self.config.group_name
    }

    fn list(items: Vec<Self>) -> UpsertGroups {
        UpsertGroups(items)
    }

    fn single(self) -> UpsertGroup {
        UpsertGroup(self)
    }

    fn may_be_listed(&self) -> bool {
        true
    }

    fn rest(&self, current: Option<&GroupConfig>) -> Option<Self> {
        GroupChange::between(current, &self.config)
    }
}

/// Changes at one broker until a deadline.
pub(super) struct Batches<'a> {
    pub(super) engine: &'a RemotingEngine,
    pub(super) cluster: &'a ClusterId,
    pub(super) broker: &'a str,
    pub(super) deadline: Instant,
    pub(super) within: Duration,
}

type Failed = BTreeMap<String, EngineError>;

impl Batches<'_> {
    /// Does all of `items`; gives back those that were not done, by name.
    pub(super) async fn run<I: Item + 'static>(&self, items: &[I]) -> Failed {
        let (listed, alone): (Vec<&I>, Vec<&I>) = items.iter().partition(|item| item.may_be_listed());
        let mut failed = Failed::new();
        for batch in listed.chunks(self.engine.limits.batch.max(1)) {
            let batch: Vec<I> = batch.iter().map(|item| (*item).clone()).collect();
            failed.extend(self.list(batch).await);
        }
        for item in alone {
            failed.extend(self.single(item.clone()).await);
        }
        failed
    }

    async fn single<I: Item>(&self, item: I) -> Failed {
        let name = item.name().to_owned();
        let result = self.send(&I::single(item), &name).await;
        result.err().map(|error| (name, error)).into_iter().collect()
    }

    fn list<I: Item + 'static>(&self, batch: Vec<I>) -> BoxFuture<'_, Failed> {
        Box::pin(async move {
            let names: Vec<String> = batch.iter().map(|item| item.name().to_owned()).collect();
            let error = match self.send(&I::list(batch.clone()), &names.join(" ")).await {
                Ok(()) => return Failed::new(),
                Err(error) => error,
            };
            // Only a refusal is about what was sent; anything else would happen to the halves too.
            if error.refusal().is_none() || batch.len() == 1 {
                return names.into_iter().map(|name| (name, error.clone())).collect();
            }
            let mut rest = match self.still_to_do(batch).await {
                Ok(rest) => rest,
                Err(unknown) => return names.into_iter().map(|name| (name, unknown.clone())).collect(),
            };
            let second = rest.split_off(rest.len() / 2);
            let mut failed = self.half(rest).await;
            failed.extend(self.half(second).await);
            failed
        })
    }

    async fn half<I: Item + 'static>(&self, half: Vec<I>) -> Failed {
        let (listed, alone): (Vec<I>, Vec<I>) = half.into_iter().partition(Item::may_be_listed);
        let mut failed = if listed.is_empty() { Failed::new() } else { self.list(listed).await };
        for item in alone {
            failed.extend(self.single(item).await);
        }
        failed
    }

    async fn still_to_do<I: Item>(&self, batch: Vec<I>) -> Result<Vec<I>, EngineError> {
        let current = self.engine.ask(self.cluster, self.broker, &I::ALL).await?;
        Ok(batch.iter().filter_map(|item| item.rest(current.get(item.name()))).collect())
    }

    async fn send<R: Request<Answer = ()>>(&self, request: &R, what: &str) -> Result<(), EngineError> {
        if Instant::now() >= self.deadline {
            let because = format!("{} ms were not enough for all", self.within.as_millis());
            return Err(EngineError::NotTried { because });
        }
        write(self.engine, self.cluster, self.broker, request, what).await
    }
}

/// Sends one change, with its line in the audit log.
pub(super) async fn write<R: Request>(
    engine: &RemotingEngine,
    cluster: &ClusterId,
    address: &str,
    request: &R,
    what: &str,
) -> Result<R::Answer, EngineError> {
    let code: Code = R::CODE;
    let result = engine.ask(cluster, address, request).await;
    audit::line(cluster, address, code, what, result.as_ref().map(|_| ()));
    result
}
