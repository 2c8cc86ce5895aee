//! What the kubelet gets from the program.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Of the loopback, and no other test's.
const POD_IP: &str = "127.10.90.1";

fn get(path: &str) -> String {
    // It begins: for a while nothing listens.
    let mut tries = (0..500).map(|_| {
        thread::sleep(Duration::from_millis(20));
        TcpStream::connect((POD_IP, 10900))
    });
    let mut stream = tries.find_map(Result::ok).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {POD_IP}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Nothing listens where the name server should: it can't serve, and it does not hang.
#[test]
fn the_kubelet_is_told_by_http_whether_a_role_can_serve_and_whether_it_hangs() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_rocketmq"))
        .args(["serve-probes", "nameserver"])
        .env_clear()
        .env("POD_IP", POD_IP)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (ready, live, other) = (get("/ready"), get("/live"), get("/"));
    server.kill().unwrap();
    let said = String::from_utf8(server.wait_with_output().unwrap().stdout).unwrap();
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("127.10.90.1:9876"), "{ready}");
    assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
    assert!(other.starts_with("HTTP/1.1 404 ") && other.ends_with("there are /ready and /live\n"), "{other}");
    assert!(said.starts_with("rocketmq: not ready: "), "{said}");
}
