//! One call over a plain socket, everything under one deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{Command, DecodeError, EncodeError, PREFIX, length_after};
use crate::request::{AnswerError, Request};

/// Why a call brought no reply. The stages tell a process that is not there from one that is there but hangs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The name has no address, or the resolver did not answer in time.
    #[error("{address} does not resolve")]
    Unresolved {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody took the connection: refused, unreachable, or not answered in time.
    #[error("no connection to {address}")]
    NotConnected {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection was taken, but no whole reply came in time.
    #[error("{address} took the connection but did not answer within {} ms", within.as_millis())]
    NoAnswer {
        /// Where to.
        address: String,
        /// The time for the whole call.
        within: Duration,
    },
    /// The connection was taken, and broke.
    #[error("the connection to {address} broke")]
    Broken {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What came is not the engine's protocol.
    #[error("{address} does not speak the engine's protocol")]
    NotUnderstood {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The request can't be sent.
    #[error(transparent)]
    Request(#[from] EncodeError),
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// There was no reply.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The reply says no, or nothing that is understood.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Puts a question to `address` (`host:port`) and reads the answer, in at most `timeout`.
///
/// # Errors
/// When there is no reply in time, or when it says no.
pub fn ask<R: Request>(address: &str, request: &R, timeout: Duration) -> Result<R::Answer, AskError> {
    let reply = call(address, &request.command(), timeout)?;
    Ok(request.answer(&reply)?)
}

/// Sends a command to `address` (`host:port`) and waits for its response, whatever that says, in at most `timeout`.
///
/// # Errors
/// When there is no reply in time.
pub fn call(address: &str, command: &Command, timeout: Duration) -> Result<Command, CallError> {
    let deadline = Instant::now() + timeout;
    let frame = command.encode()?;
    let addresses =
        resolve(address, deadline).map_err(|source| CallError::Unresolved { address: address.to_owned(), source })?;
    let mut stream = connect(&addresses, deadline)
        .map_err(|source| CallError::NotConnected { address: address.to_owned(), source })?;
    let broken = |source: io::Error| match source.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            CallError::NoAnswer { address: address.to_owned(), within: timeout }
        }
        _ => CallError::Broken { address: address.to_owned(), source },
    };
    let foreign = |source| CallError::NotUnderstood { address: address.to_owned(), source };
    write_all(&mut stream, &frame, deadline).map_err(broken)?;
    loop {
        let mut prefix = [0; PREFIX];
        read_exact(&mut stream, &mut prefix, deadline).map_err(broken)?;
        let rest = read_up_to(&mut stream, length_after(prefix).map_err(foreign)?, deadline).map_err(broken)?;
        let reply = Command::decode_after_prefix(&rest).map_err(foreign)?;
        if reply.is_response() && reply.opaque == command.opaque {
            return Ok(reply);
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The system's resolver can't be told a deadline: it works in a thread of its own, which is left behind when it takes too long.
fn resolve(address: &str, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = address.to_owned();
    thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let found = name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody listens any more when it took too long.
        let _ = sender.send(found);
    })?;
    let found = receiver.recv_timeout(left(deadline)?).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (at, address) in addresses.iter().enumerate() {
        // An address that drops packets must leave time for those after it.
        let share = left(deadline)? / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads in pieces, so that a peer that announces much and sends little costs little memory.
fn read_up_to(stream: &mut TcpStream, length: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    const PIECE: usize = 64 * 1024;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + PIECE), 0);
        read_exact(stream, &mut bytes[start..], deadline)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::GetClusterInfo;
    use crate::code::Code;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_millis(300);

    /// A peer that takes one connection, reads one request and does with it what it is told.
    fn peer(serve: impl FnOnce(TcpStream, Command) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut prefix = [0; PREFIX];
            stream.read_exact(&mut prefix).unwrap();
            let mut rest = vec![0; length_after(prefix).unwrap()];
            stream.read_exact(&mut rest).unwrap();
            serve(stream, Command::decode_after_prefix(&rest).unwrap());
        });
        address
    }

    fn reply(opaque: i32) -> Vec<u8> {
        let mut reply =
            Command::request(Code::GetBrokerClusterInfo).body(r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#);
        (reply.code, reply.flag, reply.opaque) = (0, 1, opaque);
        reply.encode().unwrap()
    }

    #[test]
    fn a_reply_in_small_pieces_after_a_request_of_the_peers_own_is_found() {
        let address = peer(|mut stream, request| {
            let mut bytes = Command::request(Code::GetBrokerClusterInfo).encode().unwrap();
            bytes.extend(reply(request.opaque + 1));
            bytes.extend(reply(request.opaque));
            for piece in bytes.chunks(7) {
                stream.write_all(piece).unwrap();
                stream.flush().unwrap();
            }
        });
        assert!(ask(&address, &GetClusterInfo, Duration::from_secs(5)).unwrap().brokers.is_empty());
    }

    #[test]
    fn a_refused_connection_is_told_from_one_that_is_not_answered() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let error = call(&free, &GetClusterInfo.command(), SOON).unwrap_err();
        assert!(
            matches!(&error, CallError::NotConnected { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let began = Instant::now();
        let error = call(&address, &GetClusterInfo.command(), SOON).unwrap_err();
        assert!(matches!(error, CallError::NoAnswer { .. }), "{error:?}");
        assert!(began.elapsed() >= SOON && began.elapsed() < SOON * 5, "{:?}", began.elapsed());
    }

    #[test]
    fn a_peer_that_trickles_does_not_outlast_the_deadline() {
        let address = peer(|mut stream, request| {
            for byte in reply(request.opaque) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let error = call(&address, &GetClusterInfo.command(), SOON).unwrap_err();
        assert!(matches!(error, CallError::NoAnswer { .. }), "{error:?}");
    }

    #[test]
    fn a_peer_that_hangs_up_or_speaks_something_else_is_told_apart() {
        let address = peer(|stream, _| drop(stream));
        assert!(matches!(call(&address, &GetClusterInfo.command(), SOON), Err(CallError::Broken { .. })));
        let address = peer(|mut stream, _| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap());
        assert!(matches!(call(&address, &GetClusterInfo.command(), SOON), Err(CallError::NotUnderstood { .. })));
    }

    #[test]
    fn a_name_that_does_not_resolve_is_said_to_be_that() {
        let error = call("no-such-host.invalid:9876", &GetClusterInfo.command(), Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, CallError::Unresolved { .. }), "{error:?}");
        assert_eq!(error.to_string(), "no-such-host.invalid:9876 does not resolve");
    }
}
