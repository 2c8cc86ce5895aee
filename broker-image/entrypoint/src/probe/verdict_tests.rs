use super::*;

fn silent() -> String {
    "10.0.0.1:9876 refused".to_owned()
}

fn servers(answers: &[Result<bool, ()>]) -> Vec<(String, Result<bool, String>)> {
    let name = |at| format!("ns-{at}:9876");
    answers.iter().enumerate().map(|(at, answer)| (name(at), answer.map_err(|()| silent()))).collect()
}

fn said(verdict: Result<String, Unfit>) -> Result<String, String> {
    verdict.map_err(|unfit| unfit.to_string())
}

#[test]
fn a_name_server_serves_when_it_answers_even_without_brokers() {
    let cases = [
        (Ok(0), Ok("it answers and lists 0 broker replicas".to_owned())),
        (Ok(6), Ok("it answers and lists 6 broker replicas".to_owned())),
        (Err(silent()), Err("it does not answer: 10.0.0.1:9876 refused".to_owned())),
    ];
    for (brokers, expected) in cases {
        assert_eq!(said(name_server(&NameServerFacts { brokers })), expected);
    }
}

#[test]
fn a_controller_serves_when_it_knows_a_leader() {
    let cases = [
        (Ok(Some("c-1:9878".to_owned())), Ok("it knows the leader c-1:9878".to_owned())),
        (Ok(None), Err("the controllers have no leader".to_owned())),
        (Err(silent()), Err("it does not answer: 10.0.0.1:9876 refused".to_owned())),
    ];
    for (leader, expected) in cases {
        assert_eq!(said(controller(&ControllerFacts { leader })), expected);
    }
}

#[test]
fn a_broker_serves_when_it_answers_is_registered_everywhere_and_is_master_or_in_sync() {
    use Membership::{Absent, Behind, InSync, Master, Unknown};
    let all = &[Ok(true), Ok(true)][..];
    let unknown = || Unknown("no controller knows a leader".to_owned());
    let cases = [
        (Ok(()), all, Master, Ok("it is the master and is registered on 2 of 2 name servers")),
        (Ok(()), all, InSync, Ok("it is in the sync state set and is registered on 2 of 2 name servers")),
        (
            Ok(()),
            &[Ok(true), Err(())],
            InSync,
            Ok("it is in the sync state set and is registered on 1 of 2 name servers"),
        ),
        (
            Ok(()),
            all,
            unknown(),
            Ok("it keeps the role it had (no controller knows a leader) and is registered on 2 of 2 name servers"),
        ),
        (Ok(()), all, Behind, Err("it is not in the sync state set")),
        (Ok(()), all, Absent, Err("the controllers do not know this replica")),
        (Ok(()), &[Ok(true), Ok(false)], Master, Err("it is not registered on ns-1:9876")),
        (Ok(()), &[Ok(false), Ok(false)], unknown(), Err("it is not registered on ns-0:9876, ns-1:9876")),
        (Ok(()), &[Err(()), Err(())], Master, Err("no name server answers: 10.0.0.1:9876 refused")),
        (Ok(()), &[], Master, Err("no name server answers: GANTRY_NAMESERVERS is not set")),
        (Err(silent()), all, Master, Err("it does not answer: 10.0.0.1:9876 refused")),
    ];
    for (own, registered, membership, expected) in cases {
        let facts = BrokerFacts { own, registered: servers(registered), membership };
        assert_eq!(said(broker(&facts)), expected.map(str::to_owned).map_err(str::to_owned), "{facts:?}");
    }
}

#[test]
fn a_proxy_serves_when_both_ports_answer_and_a_master_is_listed_or_nobody_can_tell() {
    let closed = || Err("10.0.0.9:8081 takes no connection: refused".to_owned());
    let cases = [
        (Ok(()), Ok(()), &[Ok(true)][..], Ok("it answers and ns-0:9876 lists a master that takes messages")),
        (Ok(()), Ok(()), &[Ok(false), Ok(true)], Ok("it answers and ns-1:9876 lists a master that takes messages")),
        (
            Ok(()),
            Ok(()),
            &[Err(())],
            Ok("it answers, with the routes it remembers: no name server answers: 10.0.0.1:9876 refused"),
        ),
        (Ok(()), Ok(()), &[Ok(false), Err(())], Err("no name server lists a master that takes messages")),
        (closed(), Ok(()), &[Ok(true)], Err("it does not answer: 10.0.0.9:8081 takes no connection: refused")),
        (Ok(()), Err(silent()), &[Ok(true)], Err("it does not answer: 10.0.0.1:9876 refused")),
    ];
    for (grpc, remoting, masters, expected) in cases {
        let facts = ProxyFacts { grpc, remoting, masters: servers(masters) };
        assert_eq!(said(proxy(&facts)), expected.map(str::to_owned).map_err(str::to_owned), "{facts:?}");
    }
}

#[test]
fn a_proxy_may_start_only_when_a_name_server_lists_a_writable_master() {
    let cases = [
        (&[Err(()), Ok(true)][..], Ok("ns-1:9876 lists a master that takes messages")),
        (&[Ok(false), Err(())], Err("no name server lists a master that takes messages")),
        (&[Err(())], Err("no name server answers: 10.0.0.1:9876 refused")),
    ];
    for (masters, expected) in cases {
        assert_eq!(said(writable_master(&servers(masters))), expected.map(str::to_owned).map_err(str::to_owned));
    }
}

#[test]
fn only_a_connection_without_an_answer_is_a_hang() {
    let cases = [
        (Life::Answers, Ok("it answers")),
        (Life::Unproven("10.0.0.1:10911 refused".to_owned()), Ok("it is not seen to hang: 10.0.0.1:10911 refused")),
        (
            Life::Silent { within: Duration::from_millis(3500) },
            Err("the broker takes connections and answers none within 3.5 s"),
        ),
    ];
    for (life, expected) in cases {
        assert_eq!(said(live(Role::Broker, &life)), expected.map(str::to_owned).map_err(str::to_owned));
    }
}
