//! What the cluster does not recover from, last of all: tests run in the order of their modules' names. After the first transaction a 5.5.0 broker keeps a
//! core busy (docs/failure-modes.md), which other tests need not suffer.

use anyhow::Result;

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
    run(&case, "--type transaction --rollback-every 4", "--mode push")
}
