//! From what was told of one group to the figures of its status. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::consumer_group::{ClientKind, Consumption, ExpressionType, Subscription, TopicLag};
use gantry_remoting::stats::{Connection, ConsumerConnections, Subscribed};
use gantry_remoting::version::version;

use super::observe::Reading;

/// Topics in one status.
const TOPICS: usize = 32;
/// Mismatches in one status.
const MISMATCHES: usize = 16;

/// The figures of a group. `former`: what could not be learnt stays as it was there.
#[must_use]
pub fn figures(
    group: &str,
    declared: &[Subscription],
    reading: &Reading,
    delayed: &BTreeMap<String, i64>,
    former: Option<&Consumption>,
) -> Consumption {
    let topics = topics(group, reading, delayed);
    let (clients, client_kinds, mismatches) = match &reading.proxied {
        Some(proxied) => {
            let clients = clients(&reading.remoting, proxied);
            let kinds = kinds(&clients);
            let count = i32::try_from(clients.len()).unwrap_or(i32::MAX);
            (Some(count), kinds, if clients.is_empty() { Vec::new() } else { mismatches(declared, reading, proxied) })
        }
        None => former.map(|f| (f.clients, f.client_kinds.clone(), f.mismatches.clone())).unwrap_or_default(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "a float becomes the nearest integer there is")]
    let tps = reading.stats.iter().map(|s| s.consume_tps).sum::<f64>().ceil() as i64;
    Consumption {
        lag: topics.iter().map(behind).fold(0, i64::saturating_add),
        tps,
        dead_letters: reading.dead_letters,
        clients,
        client_kinds,
        topics: topics.into_iter().take(TOPICS).collect(),
        mismatches,
    }
}

/// Whether there is nothing to tell.
#[must_use]
pub fn is_quiet(figures: &Consumption) -> bool {
    let Consumption { lag, tps, dead_letters, clients, client_kinds: _, topics, mismatches } = figures;
    (*lag, *tps, *dead_letters, clients.unwrap_or(0)) == (0, 0, 0, 0)
        && mismatches.is_empty()
        && topics.iter().all(|t| t.delayed == 0)
}

fn topics(group: &str, reading: &Reading, delayed: &BTreeMap<String, i64>) -> Vec<TopicLag> {
    let mut found: BTreeMap<String, TopicLag> = BTreeMap::new();
    for (queue, offset) in reading.stats.iter().flat_map(|s| &s.offset_table) {
        let topic = retried(group, &queue.topic);
        let entry =
            found.entry(topic.to_owned()).or_insert_with(|| TopicLag { topic: topic.into(), ..TopicLag::default() });
        entry.in_flight = entry.in_flight.saturating_add(offset.in_flight());
        entry.ready = entry.ready.saturating_add(offset.lag() - offset.in_flight());
    }
    for (topic, count) in delayed {
        if let Some(entry) = found.get_mut(retried(group, topic)) {
            entry.delayed = entry.delayed.saturating_add(*count);
        }
    }
    let mut topics: Vec<TopicLag> = found.into_values().collect();
    topics.sort_by(|a, b| behind(b).cmp(&behind(a)).then_with(|| a.topic.cmp(&b.topic)));
    topics
}

fn behind(topic: &TopicLag) -> i64 {
    topic.ready.saturating_add(topic.in_flight)
}

/// Of a retry topic of one topic, which POP has, that topic: its messages are that one's.
fn retried<'a>(group: &str, topic: &'a str) -> &'a str {
    let of = topic.strip_prefix("%RETRY%").and_then(|t| t.strip_prefix(group));
    of.and_then(|t| t.strip_prefix(['_', '+'])).unwrap_or(topic)
}

/// Clients by their ids, and whether they speak gRPC: a client of RocketMQ 4 is known to every broker.
fn clients<'a>(
    remoting: &'a [ConsumerConnections],
    proxied: &'a ConsumerConnections,
) -> BTreeMap<&'a str, (&'a Connection, bool)> {
    let by_proxy = proxied.connection_set.iter().map(|c| (c.client_id.as_str(), (c, speaks_grpc(c))));
    let by_broker = remoting.iter().flat_map(|r| &r.connection_set).map(|c| (c.client_id.as_str(), (c, false)));
    by_proxy.chain(by_broker).collect()
}

/// Proxies do not say it. Clients by gRPC name themselves `host@pid@number@time`, those by remoting `address@pid#number`.
fn speaks_grpc(client: &Connection) -> bool {
    client.client_id.matches('@').count() >= 3 || !client.client_id.contains('@')
}

fn kinds(clients: &BTreeMap<&str, (&Connection, bool)>) -> Vec<ClientKind> {
    let mut kinds: BTreeMap<ClientKind, i32> = BTreeMap::new();
    for (client, grpc) in clients.values() {
        let kind = ClientKind {
            protocol: if *grpc { "gRPC" } else { "Remoting" }.into(),
            language: client.language.clone(),
            // A proxy gives its own where it can't read the client's, and it can't read "5.0.7".
            version: if *grpc { None } else { version(client.version) },
            count: 0,
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds.into_iter().map(|(kind, count)| ClientKind { count, ..kind }).collect()
}

fn mismatches(declared: &[Subscription], reading: &Reading, proxied: &ConsumerConnections) -> Vec<String> {
    if declared.is_empty() {
        return Vec::new();
    }
    let tables = reading.remoting.iter().chain([proxied]).flat_map(|c| &c.subscription_table);
    let real: BTreeMap<&str, &Subscribed> =
        tables.filter(|(t, _)| !t.starts_with('%')).map(|(t, s)| (t.as_str(), s)).collect();
    let expected: BTreeMap<&str, &Subscription> = declared.iter().map(|s| (s.topic.as_str(), s)).collect();
    let names: BTreeSet<&str> = real.keys().chain(expected.keys()).copied().collect();
    let of = |topic: &str| match (expected.get(topic), real.get(topic)) {
        (Some(_), None) => Some(format!("{topic}: declared, and no client subscribes to it")),
        (None, Some(_)) => Some(format!("{topic}: clients subscribe to it, and it is not declared")),
        (Some(e), Some(r)) => {
            let (e, r) = (expression(e), subscribed(r));
            (e != r).then(|| format!("{topic}: declared {e}, clients have {r}"))
        }
        (None, None) => None,
    };
    names.into_iter().filter_map(of).take(MISMATCHES).collect()
}

fn expression(s: &Subscription) -> String {
    match s.expression_type {
        ExpressionType::TAG => format!("TAG {}", tags(&s.expression)),
        ExpressionType::SQL92 => format!("SQL92 {}", s.expression.trim()),
    }
}

fn subscribed(s: &Subscribed) -> String {
    let text = s.sub_string.as_deref().unwrap_or("*");
    match s.expression_type.as_deref() {
        Some("SQL92") => format!("SQL92 {}", text.trim()),
        _ => format!("TAG {}", tags(text)),
    }
}

/// Tags in order: `b||a` is the same as `a || b`.
fn tags(expression: &str) -> String {
    let tags: BTreeSet<&str> = expression.split("||").map(str::trim).filter(|t| !t.is_empty()).collect();
    if tags.is_empty() { "*".into() } else { tags.into_iter().collect::<Vec<_>>().join(" || ") }
}

#[cfg(test)]
mod tests {
    use gantry_remoting::stats::{ConsumeOffset, ConsumeStats, MessageQueue};

    use super::*;

    fn stats(queues: &[(&str, i64, i64, i64)]) -> ConsumeStats {
        let of = |(topic, end, pulled, acknowledged): &(&str, i64, i64, i64)| {
            let queue = MessageQueue { topic: (*topic).to_owned(), broker_name: "b".into(), queue_id: 0 };
            let offset = ConsumeOffset {
                broker_offset: *end,
                pull_offset: *pulled,
                consumer_offset: *acknowledged,
                last_timestamp: 0,
            };
            (queue, offset)
        };
        ConsumeStats { consume_tps: 0.2, offset_table: queues.iter().map(of).collect() }
    }

    fn client(id: &str, version: i32) -> Connection {
        Connection { client_id: id.into(), client_addr: None, language: Some("JAVA".into()), version }
    }

    fn connections(clients: &[Connection], subscriptions: &[(&str, &str)]) -> ConsumerConnections {
        let of = |(topic, tags): &(&str, &str)| {
            (
                (*topic).to_owned(),
                Subscribed { sub_string: Some((*tags).to_owned()), expression_type: Some("TAG".into()) },
            )
        };
        ConsumerConnections {
            connection_set: clients.to_vec(),
            subscription_table: subscriptions.iter().map(of).collect(),
            ..ConsumerConnections::default()
        }
    }

    fn subscription(topic: &str, expression: &str) -> Subscription {
        Subscription { topic: topic.into(), expression: expression.into(), expression_type: ExpressionType::TAG }
    }

    #[test]
    fn lag_is_what_is_ready_and_in_flight_over_all_masters_and_retries_of_a_topic_are_its_own() {
        let reading = Reading {
            stats: vec![
                stats(&[("orders", 10, 7, 4), ("%RETRY%billing_orders", 2, 0, 0)]),
                stats(&[("orders", 5, 0, 5), ("%RETRY%billing", 1, 0, 0)]),
            ],
            ..Reading::default()
        };
        let delayed =
            BTreeMap::from([("orders".to_owned(), 3), ("%RETRY%billing".to_owned(), 2), ("other".to_owned(), 9)]);
        let figures = figures("billing", &[], &reading, &delayed, None);
        let topic =
            |topic: &str, ready, in_flight, delayed| TopicLag { topic: topic.into(), ready, in_flight, delayed };
        assert_eq!(figures.topics, [topic("orders", 5, 3, 3), topic("%RETRY%billing", 1, 0, 2)]);
        assert_eq!((figures.lag, figures.tps, figures.clients), (9, 1, None));
    }

    #[test]
    fn a_client_of_several_brokers_is_one_and_clients_are_told_by_kind() {
        let proxied =
            connections(&[client("h@1@0@abc", 513), client("h@2@0@abc", 513), client("10.0.0.1@7#8", 413)], &[]);
        let remoting = connections(&[client("10.0.0.9@7#8", 411)], &[]);
        let reading =
            Reading { remoting: vec![remoting.clone(), remoting], proxied: Some(proxied), ..Reading::default() };
        let figures = figures("billing", &[], &reading, &BTreeMap::new(), None);
        let kind = |protocol: &str, version: Option<&str>, count| ClientKind {
            protocol: protocol.into(),
            language: Some("JAVA".into()),
            version: version.map(str::to_owned),
            count,
        };
        assert_eq!(figures.clients, Some(4));
        assert_eq!(
            figures.client_kinds,
            [kind("Remoting", Some("4.9.9"), 1), kind("Remoting", Some("5.0.0"), 1), kind("gRPC", None, 2)]
        );
    }

    #[test]
    fn subscriptions_that_differ_are_told_and_the_order_of_tags_is_no_difference() {
        let real = connections(
            &[client("h@1@0@a", 513)],
            &[("orders", "b||a"), ("views", "*"), ("extra", "*"), ("%RETRY%billing", "*")],
        );
        let declared = [subscription("orders", "a || b"), subscription("views", "x"), subscription("gone", "*")];
        let reading = Reading { proxied: Some(real), ..Reading::default() };
        let figures = figures("billing", &declared, &reading, &BTreeMap::new(), None);
        assert_eq!(
            figures.mismatches,
            [
                "extra: clients subscribe to it, and it is not declared",
                "gone: declared, and no client subscribes to it",
                "views: declared TAG x, clients have TAG *",
            ]
        );
    }

    #[test]
    fn without_clients_or_without_a_declaration_nothing_differs() {
        let nobody = Reading { proxied: Some(ConsumerConnections::default()), ..Reading::default() };
        assert!(figures("g", &[subscription("orders", "*")], &nobody, &BTreeMap::new(), None).mismatches.is_empty());
        let somebody =
            Reading { proxied: Some(connections(&[client("h@1@0@a", 513)], &[("orders", "*")])), ..Reading::default() };
        assert!(figures("g", &[], &somebody, &BTreeMap::new(), None).mismatches.is_empty());
    }

    #[test]
    fn what_no_proxy_could_say_stays_as_it_was() {
        let former = Consumption { clients: Some(3), mismatches: vec!["x".into()], ..Consumption::default() };
        let figures = figures("g", &[], &Reading::default(), &BTreeMap::new(), Some(&former));
        assert_eq!(figures, former);
        assert!(!is_quiet(&figures) && is_quiet(&Consumption { clients: Some(0), ..Consumption::default() }));
    }
}
