//! What the operator says through the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The environment, read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The pod's name.
    pub pod_name: Option<String>,
    /// The pod's address.
    pub pod_ip: Option<IpAddr>,
    /// The pod's full DNS name; absent for proxies, which nobody calls by name.
    pub host: Option<String>,
    /// The engine's name of the cluster.
    pub cluster: Option<String>,
    /// Name servers, `host:port`.
    pub name_servers: Vec<String>,
    /// Controllers, `host:port`.
    pub controllers: Vec<String>,
}

impl Settings {
    /// Reads the settings; an empty variable counts as absent.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name| lookup(name).filter(|value| !value.is_empty());
        let list = |name| text(name).map(|value| split(&value)).unwrap_or_default();
        Self {
            pod_name: text("POD_NAME"),
            pod_ip: text("POD_IP").and_then(|address| address.parse().ok()),
            host: text("GANTRY_HOST"),
            cluster: text("GANTRY_CLUSTER"),
            name_servers: list("GANTRY_NAMESERVERS"),
            controllers: list("GANTRY_CONTROLLERS"),
        }
    }

    /// With the name servers of `live`, a broker's properties, where the environment names none: another number of them restarts no broker.
    #[must_use]
    pub fn with_live(mut self, live: Option<&str>) -> Self {
        if self.name_servers.is_empty() {
            let of = |line: &str| line.strip_prefix("namesrvAddr=").map(split);
            self.name_servers = live.and_then(|text| text.lines().find_map(of)).unwrap_or_default();
        }
        self
    }

    /// The pod's place in its StatefulSet.
    pub fn ordinal(&self) -> Option<&str> {
        self.set_and_ordinal().map(|(_, ordinal)| ordinal)
    }

    /// The StatefulSet's name, which is the broker group's name.
    pub fn group(&self) -> Option<&str> {
        self.set_and_ordinal().map(|(set, _)| set)
    }

    /// Where this pod's own process is asked. By the pod's address where it is known: a port taken on the loopback alone would serve nobody.
    pub fn own(&self, port: u16) -> String {
        SocketAddr::new(self.pod_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port).to_string()
    }

    fn set_and_ordinal(&self) -> Option<(&str, &str)> {
        let (set, ordinal) = self.pod_name.as_deref()?.rsplit_once('-')?;
        let number = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
        number.then_some((set, ordinal))
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(';').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Settings {
        Settings::from_lookup(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_pods_group_and_ordinal_come_from_its_name() {
        let cases = [
            ("shop-broker-0-2", Some(("shop-broker-0", "2"))),
            ("shop-controller-11", Some(("shop-controller", "11"))),
            ("shop-proxy-7d9f-x2x1z", None),
            ("plain", None),
            ("shop-", None),
        ];
        for (name, expected) in cases {
            let settings = of(&[("POD_NAME", name)]);
            assert_eq!(settings.group().zip(settings.ordinal()), expected, "{name}");
        }
    }

    #[test]
    fn a_brokers_name_servers_are_those_that_it_takes_while_it_runs() {
        let live = Some("fileReservedTime=72\nnamesrvAddr=a:9876;b:9876\n");
        assert_eq!(of(&[]).with_live(live).name_servers, ["a:9876", "b:9876"]);
        assert_eq!(of(&[("GANTRY_NAMESERVERS", "c:9876")]).with_live(live).name_servers, ["c:9876"]);
        assert!(of(&[]).with_live(None).name_servers.is_empty());
    }

    #[test]
    fn address_lists_are_split_and_empty_parts_left_out() {
        let settings =
            of(&[("GANTRY_NAMESERVERS", "a:9876; b:9876;"), ("GANTRY_CONTROLLERS", ""), ("GANTRY_HOST", "")]);
        assert_eq!(settings.name_servers, ["a:9876", "b:9876"]);
        assert!(settings.controllers.is_empty());
        assert_eq!(settings.host, None);
    }

    #[test]
    fn the_own_process_is_asked_at_the_pods_address_in_either_family() {
        assert_eq!(of(&[("POD_IP", "10.1.2.3")]).own(9876), "10.1.2.3:9876");
        assert_eq!(of(&[("POD_IP", "fd00::7")]).own(9876), "[fd00::7]:9876");
        assert_eq!(of(&[]).own(9876), "127.0.0.1:9876");
    }
}
