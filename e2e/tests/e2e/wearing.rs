//! What the cluster does not recover from, last of all: tests run in the order of their modules' names. After the first transaction a 5.5.0 broker keeps a
//! core busy (docs/failure-modes.md), which other tests need not suffer.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::messages::{Case, GRPC_JAVA, run};

#[test]
fn committed_transactions_over_grpc_arrive_and_those_rolled_back_do_not() -> Result<()> {
    let case = Case {
        name: "transaction",
        topic_type: "Transaction",
        delivery: "Concurrent",
        send: GRPC_JAVA,
        receive: GRPC_JAVA,
        sent: 40,
        received: 30,
    };
    let events = run(&case, "--type transaction --rollback-every 4", "--mode push")?;
    let numbers = |events: &[Value], event: &str| -> BTreeSet<u64> {
        events.iter().filter(|e| e["event"] == event).filter_map(|e| e["seq"].as_u64()).collect()
    };
    let (rolled_back, received) = (numbers(&events.sent, "rolledback"), numbers(&events.received, "received"));
    ensure!(rolled_back.len() == 10, "rolled back {rolled_back:?}");
    let missing: BTreeSet<u64> = (0..case.sent).filter(|number| !received.contains(number)).collect();
    ensure!(missing == rolled_back, "missing {missing:?}, rolled back {rolled_back:?}");
    Ok(())
}
