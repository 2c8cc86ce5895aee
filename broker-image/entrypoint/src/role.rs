//! The engine's roles and what differs between them.

use std::fmt;

/// What a container of this image does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Knows where brokers are.
    NameServer,
    /// Decides which replica of a group is its master.
    Controller,
    /// Keeps messages.
    Broker,
    /// Serves clients, keeps nothing.
    Proxy,
}

impl Role {
    /// Every role, in the order in which a cluster comes up.
    pub const ALL: [Self; 4] = [Self::NameServer, Self::Controller, Self::Broker, Self::Proxy];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NameServer => "nameserver",
            Self::Controller => "controller",
            Self::Broker => "broker",
            Self::Proxy => "proxy",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The file that configures it.
    pub const fn config_file(self) -> &'static str {
        match self {
            Self::NameServer => "nameserver.conf",
            Self::Controller => "controller.conf",
            Self::Broker => "broker.conf",
            Self::Proxy => "proxy.json",
        }
    }

    /// The Java class that is it.
    pub const fn main_class(self) -> &'static str {
        match self {
            Self::NameServer => "org.apache.rocketmq.namesrv.NamesrvStartup",
            Self::Controller => "org.apache.rocketmq.controller.ControllerStartup",
            Self::Broker => "org.apache.rocketmq.broker.BrokerStartup",
            Self::Proxy => "org.apache.rocketmq.proxy.ProxyStartup",
        }
    }

    /// The main class's option that names the configuration file.
    pub const fn config_option(self) -> &'static str {
        match self {
            Self::Proxy => "-pc",
            _ => "-c",
        }
    }

    /// The port on which it speaks remoting.
    pub const fn remoting_port(self) -> u16 {
        match self {
            Self::NameServer => 9876,
            Self::Controller => 9878,
            Self::Broker => 10911,
            Self::Proxy => 8080,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
