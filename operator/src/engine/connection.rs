//! One connection that many calls share, told apart by the frames' opaque numbers.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use gantry_remoting::command::{PREFIX, length_after};
use gantry_remoting::{Command, DecodeError, EncodeError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Frames that wait to be written. Calls are bounded before they come here; this bounds what a peer that stops reading can hold.
const WRITE_QUEUE: usize = 32;

/// Something to read from and write to.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How a connection comes about. Names are resolved anew every time: a pod that was replaced has another address.
pub trait Connect: Send + Sync {
    /// Connects to `host:port`. The caller bounds the time.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Plain TCP.
pub(super) struct PlainTcp;

impl Connect for PlainTcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = Box::new(tcp(address).await?);
            Ok(stream)
        })
    }
}

pub(super) async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Why a call on a connection brought no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The connection broke, before or after the request was sent.
    #[error("the connection broke")]
    Broken,
    /// The request can't be sent.
    #[error(transparent)]
    Request(#[from] EncodeError),
}

type Waiting = Mutex<HashMap<i32, oneshot::Sender<Command>>>;

/// What the tasks of a connection and its callers share.
struct Shared {
    waiting: Waiting,
    closed: AtomicBool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Command>>> {
        // A map of senders is never half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for replies that won't come.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiting().clear();
    }
}

/// A connection that many calls share. It ends when the last owner lets go of it.
pub(super) struct Connection {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Vec<u8>>,
    opaque: AtomicI32,
    doubtful: AtomicBool,
    tasks: [AbortHandle; 2],
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        let (reader, writer) = split(stream);
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        let shared = Arc::new(Shared { waiting: Mutex::default(), closed: AtomicBool::new(false) });
        let (to_read, to_write) = (Arc::clone(&shared), Arc::clone(&shared));
        let reading = tokio::spawn(async move {
            if let Err(error) = read(reader, &to_read).await {
                tracing::debug!(%error, "a connection to the engine ended");
            }
            to_read.close();
        });
        // Frames are written by a task, so that a caller that gives up leaves no half frame behind.
        let writing = tokio::spawn(async move {
            if let Err(error) = write(writer, queue).await {
                tracing::debug!(%error, "a connection to the engine ended");
            }
            to_write.close();
        });
        let tasks = [reading.abort_handle(), writing.abort_handle()];
        Connection { shared, frames, opaque: AtomicI32::new(1), doubtful: AtomicBool::new(false), tasks }
    }

    /// True while new calls may use it.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_closed() && !self.doubtful.load(Ordering::Acquire)
    }

    /// A call on it was given up: a reply that does not come may never, because the name leads elsewhere by now. New calls make a connection of
    /// their own; those under way go on, for a change whose answer is lost is worse than a slow one.
    pub(super) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its reply, without a bound of its own. Cancelled, it leaves nothing behind.
    pub(super) async fn call(&self, mut request: Command) -> Result<Command, Lost> {
        request.opaque = self.opaque.fetch_add(1, Ordering::Relaxed);
        let frame = request.encode()?;
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting().insert(request.opaque, sender);
        let _forget = Forget { shared: &self.shared, opaque: request.opaque };
        // After the insertion: what `close` did not clear, this sees.
        if self.is_closed() || self.frames.send(frame).await.is_err() {
            return Err(Lost::Broken);
        }
        receiver.await.map_err(|_| Lost::Broken)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Forgets a call that is over, however it ended.
struct Forget<'a> {
    shared: &'a Shared,
    opaque: i32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.opaque);
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] DecodeError),
}

async fn read(mut reader: ReadHalf<Box<dyn Stream>>, shared: &Shared) -> Result<(), Ended> {
    loop {
        let mut prefix = [0; PREFIX];
        reader.read_exact(&mut prefix).await?;
        let length = length_after(prefix)?;
        let mut rest = Vec::new();
        // Grows with what comes, not with what is announced.
        (&mut reader).take(length as u64).read_to_end(&mut rest).await?;
        let reply = Command::decode_after_prefix(&rest)?;
        // The engine also sends requests of its own; and nobody may wait any more.
        let waiting = if reply.is_response() { shared.waiting().remove(&reply.opaque) } else { None };
        if let Some(waiting) = waiting {
            let _ = waiting.send(reply);
        }
    }
}

async fn write(mut writer: WriteHalf<Box<dyn Stream>>, mut queue: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = queue.recv().await {
        writer.write_all(&frame).await?;
        writer.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_remoting::Code;
    use tokio::io::{DuplexStream, duplex};

    async fn request(peer: &mut DuplexStream) -> Command {
        let mut prefix = [0; PREFIX];
        peer.read_exact(&mut prefix).await.unwrap();
        let mut rest = vec![0; length_after(prefix).unwrap()];
        peer.read_exact(&mut rest).await.unwrap();
        Command::decode_after_prefix(&rest).unwrap()
    }

    async fn reply(peer: &mut DuplexStream, request: &Command) {
        let reply = Command { code: 0, flag: 1, remark: request.ext.get("n").cloned(), ..request.clone() };
        peer.write_all(&reply.encode().unwrap()).await.unwrap();
    }

    fn question(n: u32) -> Command {
        Command::request(Code::GetBrokerRuntimeInfo).with("n", n)
    }

    #[tokio::test]
    async fn replies_find_their_callers_in_any_order() {
        let (ours, mut peer) = duplex(64 * 1024);
        let connection = Connection::new(Box::new(ours));
        let serve = async {
            let mut requests = Vec::new();
            for _ in 0..20 {
                requests.push(request(&mut peer).await);
            }
            for request in requests.iter().rev() {
                reply(&mut peer, request).await;
            }
        };
        let calls = futures::future::join_all((0..20).map(|n| connection.call(question(n))));
        let (replies, ()) = tokio::join!(calls, serve);
        for (n, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply.unwrap().remark, Some(n.to_string()));
        }
        assert!(connection.shared.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_disturbs_nobody() {
        let (ours, mut peer) = duplex(64 * 1024);
        let connection = Connection::new(Box::new(ours));
        // Polled once, so that its request is on the way, and dropped.
        let gave_up = tokio::time::timeout(std::time::Duration::from_millis(1), connection.call(question(1))).await;
        assert!(gave_up.is_err());
        assert!(connection.shared.waiting().is_empty());
        let serve = async {
            for _ in 0..2 {
                let request = request(&mut peer).await;
                reply(&mut peer, &request).await;
            }
        };
        let (answer, ()) = tokio::join!(connection.call(question(2)), serve);
        assert_eq!(answer.unwrap().remark.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_or_sends_rubbish_ends_all_calls() {
        for rubbish in [false, true] {
            let (ours, mut peer) = duplex(64 * 1024);
            let connection = Connection::new(Box::new(ours));
            let serve = async {
                request(&mut peer).await;
                if rubbish {
                    peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                }
                drop(peer);
            };
            let (answer, ()) = tokio::join!(connection.call(question(1)), serve);
            assert!(matches!(answer, Err(Lost::Broken)));
            assert!(connection.is_closed());
            assert!(matches!(connection.call(question(2)).await, Err(Lost::Broken)));
        }
    }
}
