//! The way from the host's loopback to a cluster's API server, for kubectl and tests that do not run inside its network.

use std::fs::{self, File};
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;

use crate::network::{API_PORT, CONTROL_PLANE};

/// Listens on a free port of 127.0.0.1, writes its number to `port_file`, and passes every connection on to the API server in the network
/// namespace `namespace` (a path like /proc/1/ns/net). Returns only with an error.
pub fn run(namespace: &Path, port_file: &Path) -> Result<()> {
    let namespace = File::open(namespace).with_context(|| namespace.display().to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    let new = port_file.with_extension("new");
    fs::write(&new, listener.local_addr()?.port().to_string()).with_context(|| new.display().to_string())?;
    fs::rename(&new, port_file).with_context(|| port_file.display().to_string())?;
    for client in listener.incoming().flatten() {
        let namespace = namespace.try_clone()?;
        thread::spawn(move || {
            // A refused connection is dropped: the client sees it closed, as it should.
            let server = connect(&namespace);
            server.and_then(|server| join(&client, &server))
        });
    }
    Ok(())
}

/// Connects from inside the namespace. Only this thread enters it.
fn connect(namespace: &File) -> io::Result<TcpStream> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    TcpStream::connect((CONTROL_PLANE, API_PORT))
}

/// Copies both ways until both sides have said all.
fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let pass = |mut from: &TcpStream, mut to: &TcpStream| {
        let result = io::copy(&mut from, &mut to);
        // An error means that the other direction is of no use either.
        let _ = to.shutdown(if result.is_ok() { Shutdown::Write } else { Shutdown::Both });
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(client, server));
        pass(server, client);
    });
    Ok(())
}
