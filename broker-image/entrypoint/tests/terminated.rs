//! The program as the kubelet runs it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A pod that waits for its own name must not stay for its whole time of grace.
#[test]
fn sigterm_ends_a_start_that_waits_for_its_own_name_within_a_second() {
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_rocketmq"))
        .args(["start", "broker"])
        // The name leads elsewhere, as it does while the record of the pod that was here before is still around.
        .env_clear()
        .envs([("GANTRY_HOST", "localhost"), ("POD_IP", "192.0.2.1"), ("POD_NAME", "shop-broker-0-0")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(waiting.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("waiting for this pod's own name"), "{line}");
    let told = Instant::now();
    let sent = Command::new("kill").args(["-TERM", &waiting.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let code = waiting.wait().unwrap().code();
    assert_eq!(code, Some(143));
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
}
