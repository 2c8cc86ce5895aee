//! The numbers of the protocol with the engine's own names for them (RequestCode.java and ResponseCode.java of 5.5.0).

use std::fmt;

/// Writes the request codes once: the enum, its numbers, its names and which of them change something.
macro_rules! request_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal $kind:ident,)+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self { $(Code::$variant => $number,)+ }
            }

            /// The engine's own name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ }
            }

            /// True when the request changes something in the engine, so that it belongs into the audit log.
            #[must_use]
            pub const fn writes(self) -> bool {
                match self { $(Code::$variant => request_codes!(@$kind),)+ }
            }
        }
    };
    (@read) => { false };
    (@write) => { true };
}

request_codes! {
    /// Says up to where a consumer group has read a queue.
    UpdateConsumerOffset = 15 "UPDATE_CONSUMER_OFFSET" write,
    /// Creates or updates one topic.
    UpdateAndCreateTopic = 17 "UPDATE_AND_CREATE_TOPIC" write,
    /// Creates or updates many topics.
    UpdateAndCreateTopicList = 18 "UPDATE_AND_CREATE_TOPIC_LIST" write,
    /// All topics of one broker.
    GetAllTopicConfig = 21 "GET_ALL_TOPIC_CONFIG" read,
    /// Sets configuration keys of a running broker.
    UpdateBrokerConfig = 25 "UPDATE_BROKER_CONFIG" write,
    /// The whole configuration of a broker.
    GetBrokerConfig = 26 "GET_BROKER_CONFIG" read,
    /// A broker's counters and state.
    GetBrokerRuntimeInfo = 28 "GET_BROKER_RUNTIME_INFO" read,
    /// The offset of a queue at a time.
    SearchOffsetByTimestamp = 29 "SEARCH_OFFSET_BY_TIMESTAMP" read,
    /// The end of a queue.
    GetMaxOffset = 30 "GET_MAX_OFFSET" read,
    /// The beginning of a queue.
    GetMinOffset = 31 "GET_MIN_OFFSET" read,
    /// Up to where all consumer groups have read all topics of one broker.
    GetAllConsumerOffset = 43 "GET_ALL_CONSUMER_OFFSET" read,
    /// How many messages of each topic wait for their time on one broker.
    GetTimerMetrics = 61 "GET_TIMER_METRICS" read,
    /// Puts a key into a name server's key-value store.
    PutKvConfig = 100 "PUT_KV_CONFIG" write,
    /// Reads a key of a name server's key-value store.
    GetKvConfig = 101 "GET_KV_CONFIG" read,
    /// Deletes a key of a name server's key-value store.
    DeleteKvConfig = 102 "DELETE_KV_CONFIG" write,
    /// Makes a name server forget a broker.
    UnregisterBroker = 104 "UNREGISTER_BROKER" write,
    /// Where a topic's queues are.
    GetRouteinfoByTopic = 105 "GET_ROUTEINFO_BY_TOPIC" read,
    /// All brokers that a name server knows.
    GetBrokerClusterInfo = 106 "GET_BROKER_CLUSTER_INFO" read,
    /// Creates or updates one consumer group.
    UpdateAndCreateSubscriptiongroup = 200 "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP" write,
    /// All consumer groups of one broker.
    GetAllSubscriptiongroupConfig = 201 "GET_ALL_SUBSCRIPTIONGROUP_CONFIG" read,
    /// Offsets of a topic's queues on one broker.
    GetTopicStatsInfo = 202 "GET_TOPIC_STATS_INFO" read,
    /// The clients of a consumer group that are connected to one broker.
    GetConsumerConnectionList = 203 "GET_CONSUMER_CONNECTION_LIST" read,
    /// The clients of a producer group that are connected to one broker.
    GetProducerConnectionList = 204 "GET_PRODUCER_CONNECTION_LIST" read,
    /// Takes the write permission from a broker's routes.
    WipeWritePermOfBroker = 205 "WIPE_WRITE_PERM_OF_BROKER" write,
    /// Deletes a consumer group.
    DeleteSubscriptiongroup = 207 "DELETE_SUBSCRIPTIONGROUP" write,
    /// How far a consumer group is on one broker.
    GetConsumeStats = 208 "GET_CONSUME_STATS" read,
    /// Deletes a topic on one broker.
    DeleteTopicInBroker = 215 "DELETE_TOPIC_IN_BROKER" write,
    /// Deletes a topic's routes on one name server.
    DeleteTopicInNamesrv = 216 "DELETE_TOPIC_IN_NAMESRV" write,
    /// Resets a consumer group's offsets.
    InvokeBrokerToResetOffset = 222 "INVOKE_BROKER_TO_RESET_OFFSET" write,
    /// Creates or updates many consumer groups.
    UpdateAndCreateSubscriptiongroupList = 225 "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST" write,
    /// The consumer groups of a topic.
    QueryTopicConsumeByWho = 300 "QUERY_TOPIC_CONSUME_BY_WHO" read,
    /// How far all consumer groups are on one broker.
    GetBrokerConsumeStats = 317 "GET_BROKER_CONSUME_STATS" read,
    /// Sets configuration keys of a running name server.
    UpdateNamesrvConfig = 318 "UPDATE_NAMESRV_CONFIG" write,
    /// The whole configuration of a name server.
    GetNamesrvConfig = 319 "GET_NAMESRV_CONFIG" read,
    /// Gives the write permission back to a broker's routes.
    AddWritePermOfBroker = 327 "ADD_WRITE_PERM_OF_BROKER" write,
    /// One topic of one broker.
    GetTopicConfig = 351 "GET_TOPIC_CONFIG" read,
    /// One consumer group of one broker.
    GetSubscriptiongroupConfig = 352 "GET_SUBSCRIPTIONGROUP_CONFIG" read,
    /// Sets a consumer group's mode, pull or pop, for one topic.
    SetMessageRequestMode = 401 "SET_MESSAGE_REQUEST_MODE" write,
    /// The modes, pull or pop, of all consumer groups.
    GetAllMessageRequestMode = 402 "GET_ALL_MESSAGE_REQUEST_MODE" read,
    /// Tells a replica where its master's log is to be had.
    ExchangeBrokerHaInfo = 906 "EXCHANGE_BROKER_HA_INFO" write,
    /// Replication as one broker sees it.
    GetBrokerHaStatus = 907 "GET_BROKER_HA_STATUS" read,
    /// Elects a group's master.
    ControllerElectMaster = 1002 "CONTROLLER_ELECT_MASTER" write,
    /// The master and sync state set of one group.
    ControllerGetReplicaInfo = 1004 "CONTROLLER_GET_REPLICA_INFO" read,
    /// The controllers' leader and peers.
    ControllerGetMetadataInfo = 1005 "CONTROLLER_GET_METADATA_INFO" read,
    /// All replicas of groups, in sync or not.
    ControllerGetSyncStateData = 1006 "CONTROLLER_GET_SYNC_STATE_DATA" read,
    /// The epochs in one broker's log.
    GetBrokerEpochCache = 1007 "GET_BROKER_EPOCH_CACHE" read,
    /// Sets configuration keys of a running controller.
    UpdateControllerConfig = 1009 "UPDATE_CONTROLLER_CONFIG" write,
    /// The whole configuration of a controller.
    GetControllerConfig = 1010 "GET_CONTROLLER_CONFIG" read,
    /// Makes the controllers forget replicas.
    CleanBrokerData = 1011 "CLEAN_BROKER_DATA" write,
    /// Creates a user.
    AuthCreateUser = 3001 "AUTH_CREATE_USER" write,
    /// Updates a user.
    AuthUpdateUser = 3002 "AUTH_UPDATE_USER" write,
    /// Deletes a user.
    AuthDeleteUser = 3003 "AUTH_DELETE_USER" write,
    /// One user, its password in clear text.
    AuthGetUser = 3004 "AUTH_GET_USER" read,
    /// All users, their passwords in clear text.
    AuthListUser = 3005 "AUTH_LIST_USER" read,
    /// Creates a subject's rights.
    AuthCreateAcl = 3006 "AUTH_CREATE_ACL" write,
    /// Updates a subject's rights.
    AuthUpdateAcl = 3007 "AUTH_UPDATE_ACL" write,
    /// Deletes a subject's rights.
    AuthDeleteAcl = 3008 "AUTH_DELETE_ACL" write,
    /// One subject's rights.
    AuthGetAcl = 3009 "AUTH_GET_ACL" read,
    /// All subjects' rights.
    AuthListAcl = 3010 "AUTH_LIST_ACL" read,
}

/// Writes the response codes once: the enum, its numbers and its names.
macro_rules! response_codes {
    ($($variant:ident = $number:literal $name:literal,)+) => {
        /// How the engine answered. [`ResponseCode::Success`] is zero; codes that this crate does not know keep their number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ResponseCode {
            $(#[doc = concat!("The engine's `", $name, "`.")] $variant,)+
            /// A number that 5.5.0 does not define.
            Other(i32),
        }

        impl ResponseCode {
            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self { $(ResponseCode::$variant => $number,)+ ResponseCode::Other(number) => number }
            }

            /// The engine's own name; `UNKNOWN` for a number that it does not define.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ResponseCode::$variant => $name,)+ ResponseCode::Other(_) => "UNKNOWN" }
            }
        }

        impl From<i32> for ResponseCode {
            fn from(number: i32) -> Self {
                match number { $($number => ResponseCode::$variant,)+ other => ResponseCode::Other(other) }
            }
        }
    };
}

response_codes! {
    RpcTimeOut = -1006 "RPC_TIME_OUT",
    RpcSendToChannelFailed = -1004 "RPC_SEND_TO_CHANNEL_FAILED",
    RpcAddrIsNull = -1002 "RPC_ADDR_IS_NULL",
    RpcUnknown = -1000 "RPC_UNKNOWN",
    Success = 0 "SUCCESS",
    SystemError = 1 "SYSTEM_ERROR",
    SystemBusy = 2 "SYSTEM_BUSY",
    RequestCodeNotSupported = 3 "REQUEST_CODE_NOT_SUPPORTED",
    TransactionFailed = 4 "TRANSACTION_FAILED",
    FlushDiskTimeout = 10 "FLUSH_DISK_TIMEOUT",
    SlaveNotAvailable = 11 "SLAVE_NOT_AVAILABLE",
    FlushSlaveTimeout = 12 "FLUSH_SLAVE_TIMEOUT",
    MessageIllegal = 13 "MESSAGE_ILLEGAL",
    ServiceNotAvailable = 14 "SERVICE_NOT_AVAILABLE",
    VersionNotSupported = 15 "VERSION_NOT_SUPPORTED",
    NoPermission = 16 "NO_PERMISSION",
    TopicNotExist = 17 "TOPIC_NOT_EXIST",
    TopicExistAlready = 18 "TOPIC_EXIST_ALREADY",
    PullNotFound = 19 "PULL_NOT_FOUND",
    PullRetryImmediately = 20 "PULL_RETRY_IMMEDIATELY",
    PullOffsetMoved = 21 "PULL_OFFSET_MOVED",
    QueryNotFound = 22 "QUERY_NOT_FOUND",
    SubscriptionParseFailed = 23 "SUBSCRIPTION_PARSE_FAILED",
    SubscriptionNotExist = 24 "SUBSCRIPTION_NOT_EXIST",
    SubscriptionNotLatest = 25 "SUBSCRIPTION_NOT_LATEST",
    SubscriptionGroupNotExist = 26 "SUBSCRIPTION_GROUP_NOT_EXIST",
    FilterDataNotExist = 27 "FILTER_DATA_NOT_EXIST",
    FilterDataNotLatest = 28 "FILTER_DATA_NOT_LATEST",
    InvalidParameter = 29 "INVALID_PARAMETER",
    TransactionShouldCommit = 200 "TRANSACTION_SHOULD_COMMIT",
    TransactionShouldRollback = 201 "TRANSACTION_SHOULD_ROLLBACK",
    TransactionStateUnknow = 202 "TRANSACTION_STATE_UNKNOW",
    TransactionStateGroupWrong = 203 "TRANSACTION_STATE_GROUP_WRONG",
    NoBuyerId = 204 "NO_BUYER_ID",
    NotInCurrentUnit = 205 "NOT_IN_CURRENT_UNIT",
    ConsumerNotOnline = 206 "CONSUMER_NOT_ONLINE",
    ConsumeMsgTimeout = 207 "CONSUME_MSG_TIMEOUT",
    NoMessage = 208 "NO_MESSAGE",
    PollingFull = 209 "POLLING_FULL",
    PollingTimeout = 210 "POLLING_TIMEOUT",
    BrokerNotExist = 211 "BROKER_NOT_EXIST",
    BrokerDispatchNotComplete = 212 "BROKER_DISPATCH_NOT_COMPLETE",
    BroadcastConsumption = 213 "BROADCAST_CONSUMPTION",
    FlowControl = 215 "FLOW_CONTROL",
    NotLeaderForQueue = 501 "NOT_LEADER_FOR_QUEUE",
    IllegalOperation = 604 "ILLEGAL_OPERATION",
    GoAway = 1500 "GO_AWAY",
    ControllerFencedMasterEpoch = 2000 "CONTROLLER_FENCED_MASTER_EPOCH",
    ControllerFencedSyncStateSetEpoch = 2001 "CONTROLLER_FENCED_SYNC_STATE_SET_EPOCH",
    ControllerInvalidMaster = 2002 "CONTROLLER_INVALID_MASTER",
    ControllerInvalidReplicas = 2003 "CONTROLLER_INVALID_REPLICAS",
    ControllerMasterNotAvailable = 2004 "CONTROLLER_MASTER_NOT_AVAILABLE",
    ControllerInvalidRequest = 2005 "CONTROLLER_INVALID_REQUEST",
    ControllerBrokerNotAlive = 2006 "CONTROLLER_BROKER_NOT_ALIVE",
    ControllerNotLeader = 2007 "CONTROLLER_NOT_LEADER",
    ControllerBrokerMetadataNotExist = 2008 "CONTROLLER_BROKER_METADATA_NOT_EXIST",
    ControllerInvalidCleanBrokerMetadata = 2009 "CONTROLLER_INVALID_CLEAN_BROKER_METADATA",
    ControllerBrokerNeedToBeRegistered = 2010 "CONTROLLER_BROKER_NEED_TO_BE_REGISTERED",
    ControllerMasterStillExist = 2011 "CONTROLLER_MASTER_STILL_EXIST",
    ControllerElectMasterFailed = 2012 "CONTROLLER_ELECT_MASTER_FAILED",
    ControllerAlterSyncStateSetFailed = 2013 "CONTROLLER_ALTER_SYNC_STATE_SET_FAILED",
    ControllerBrokerIdInvalid = 2014 "CONTROLLER_BROKER_ID_INVALID",
    ControllerJraftInternalError = 2015 "CONTROLLER_JRAFT_INTERNAL_ERROR",
    ControllerBrokerLiveInfoNotExists = 2016 "CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS",
    LmqQuotaExceeded = 2017 "LMQ_QUOTA_EXCEEDED",
    LiteSubscriptionQuotaExceeded = 2018 "LITE_SUBSCRIPTION_QUOTA_EXCEEDED",
    UserNotExist = 3001 "USER_NOT_EXIST",
    PolicyNotExist = 3002 "POLICY_NOT_EXIST",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_code_keeps_its_number_also_when_the_engine_does_not_define_it() {
        for number in -2000..4000 {
            assert_eq!(ResponseCode::from(number).number(), number);
        }
        assert_eq!(ResponseCode::from(2007), ResponseCode::ControllerNotLeader);
        assert_eq!(ResponseCode::from(2007).to_string(), "CONTROLLER_NOT_LEADER (2007)");
        assert_eq!(ResponseCode::from(4711).to_string(), "UNKNOWN (4711)");
    }

    #[test]
    fn request_codes_are_distinct_and_know_what_they_are() {
        let mut numbers: Vec<i32> = Code::ALL.iter().map(|code| code.number()).collect();
        let before = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), before, "two codes share a number, or they are not sorted");
        assert!(Code::ControllerElectMaster.writes());
        assert!(!Code::GetBrokerClusterInfo.writes());
        for code in Code::ALL {
            let reads = ["GET_", "SEARCH_", "QUERY_"].iter().any(|verb| code.name().contains(verb));
            assert_eq!(code.writes(), !reads && !code.name().starts_with("AUTH_LIST"), "{code}");
        }
    }
}
