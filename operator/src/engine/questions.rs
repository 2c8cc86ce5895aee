//! What Gantry asks of an engine, each question as the calls that answer it.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use gantry_remoting::ResponseCode;
use gantry_remoting::access::{ListAcls, ListUsers};
use gantry_remoting::broker::{GetBrokerConfig, GetRuntimeInfo};
use gantry_remoting::cluster::GetNameServerConfig;
use gantry_remoting::consume::GetRequestModes;
use gantry_remoting::consumption::{GetBrokerConsumeStats, GetTimerMetrics};
use gantry_remoting::controller::GetControllerConfig;
use gantry_remoting::group::GetAllGroups;
use gantry_remoting::stats::{
    ConsumeStats, ConsumerConnections, GetAllConsumerOffsets, GetConsumeStats, GetConsumerConnections,
    GetTopicConsumers, GetTopicStats, TopicStats,
};
use gantry_remoting::topic::GetAllTopics;

use super::client::RemotingEngine;
use super::{
    BrokerAccess, BrokerConsumption, BrokerMetadata, BrokerRuntime, ClusterAddresses, ClusterId, ConfigTarget,
    ConsumerOffsets, Engine, EngineError, EngineFacts, EngineWrite, WriteOutcome,
};

impl Engine for RemotingEngine {
    fn observe<'a>(&'a self, addresses: &'a ClusterAddresses) -> BoxFuture<'a, EngineFacts> {
        super::observe::observe(self, addresses).boxed()
    }

    fn runtime<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerRuntime, EngineError>> {
        async move {
            let answer = self.ask(cluster, broker, &GetRuntimeInfo).await;
            answer.and_then(|info| super::observe::runtime_of(broker, &info))
        }
        .boxed()
    }

    fn metadata<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerMetadata, EngineError>> {
        async move {
            let topics = self.ask(cluster, broker, &GetAllTopics);
            let groups = self.ask(cluster, broker, &GetAllGroups);
            let modes = self.ask(cluster, broker, &GetRequestModes);
            let (topics, mut groups, modes) = futures::try_join!(topics, groups, modes)?;
            for (group, modes) in modes {
                // Modes outlive their group.
                if let Some(group) = groups.get_mut(&group) {
                    group.request_modes = modes;
                }
            }
            Ok(BrokerMetadata::new(topics, groups))
        }
        .boxed()
    }

    fn topic_stats<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Option<TopicStats>, EngineError>> {
        async move {
            match self.ask(cluster, broker, &GetTopicStats { topic: topic.to_owned() }).await {
                Ok(stats) => Ok(Some(stats)),
                Err(error) if error.refusal() == Some(ResponseCode::TopicNotExist) => Ok(None),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn topic_consumers<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        topic: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        async move { self.ask(cluster, broker, &GetTopicConsumers { topic: topic.to_owned() }).await }.boxed()
    }

    fn consumption<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BrokerConsumption, EngineError>> {
        async move {
            let groups = self.ask(cluster, broker, &GetBrokerConsumeStats);
            let (groups, delayed) = futures::try_join!(groups, self.delayed(cluster, broker))?;
            Ok(BrokerConsumption { groups, delayed })
        }
        .boxed()
    }

    fn delayed<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, i64>, EngineError>> {
        async move {
            match self.ask(cluster, broker, &GetTimerMetrics).await {
                // Its word for a broker without a timer wheel: nothing waits there.
                Err(error) if error.refusal() == Some(ResponseCode::SystemError) => Ok(BTreeMap::new()),
                answer => answer,
            }
        }
        .boxed()
    }

    fn consume_stats<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumeStats, EngineError>> {
        async move { self.ask(cluster, broker, &GetConsumeStats { group: group.to_owned(), topic: None }).await }
            .boxed()
    }

    fn offsets<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerOffsets, EngineError>> {
        async move { self.ask(cluster, broker, &GetAllConsumerOffsets).await }.boxed()
    }

    fn access<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        acls: bool,
    ) -> BoxFuture<'a, Result<BrokerAccess, EngineError>> {
        async move {
            let users = self.ask(cluster, broker, &ListUsers).await?;
            let acls = if acls { self.ask(cluster, broker, &ListAcls).await? } else { BTreeMap::new() };
            Ok(BrokerAccess { users, acls })
        }
        .boxed()
    }

    fn consumers<'a>(
        &'a self,
        cluster: &'a ClusterId,
        broker: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<ConsumerConnections, EngineError>> {
        async move { self.ask(cluster, broker, &GetConsumerConnections { group: group.to_owned() }).await }.boxed()
    }

    fn config<'a>(
        &'a self,
        cluster: &'a ClusterId,
        target: &'a ConfigTarget,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        async move {
            match target {
                ConfigTarget::NameServer(address) => self.ask(cluster, address, &GetNameServerConfig).await,
                ConfigTarget::Controller(address) => self.ask(cluster, address, &GetControllerConfig).await,
                ConfigTarget::Broker(address) => self.ask(cluster, address, &GetBrokerConfig).await,
            }
        }
        .boxed()
    }

    fn execute<'a>(
        &'a self,
        cluster: &'a ClusterId,
        write: &'a EngineWrite,
    ) -> BoxFuture<'a, Result<WriteOutcome, EngineError>> {
        super::execute::execute(self, cluster, write).boxed()
    }
}
