//! One connection per address, made when it is needed and again when it broke, and a bound on the calls under way on each.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

use super::connection::{Connect, Connection};

/// How long an address is kept that nobody asks about: longer than the operator's slowest resync.
const KEEP: Duration = Duration::from_secs(30 * 60);

/// All addresses that were asked lately.
pub(super) struct Pool {
    connect: Arc<dyn Connect>,
    concurrency: usize,
    connect_timeout: Duration,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

/// One address.
pub(super) struct Peer {
    slots: Semaphore,
    link: AsyncMutex<Link>,
    used: Mutex<Instant>,
}

#[derive(Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    /// The last attempt that failed: those who waited for it need not repeat it.
    failed: Option<(Instant, NoConnection)>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// At once: refused, no such name.
    Refused(String),
    /// It took the whole time for connecting.
    TimedOut,
}

/// A connection, and whether it had been there before.
pub(super) struct Connected {
    pub(super) connection: Arc<Connection>,
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(connect: Arc<dyn Connect>, concurrency: usize, connect_timeout: Duration) -> Self {
        Pool { connect, concurrency, connect_timeout, peers: Mutex::default() }
    }

    /// The peer at `address`. Peers that nobody asked for long are let go of with their connections.
    pub(super) fn peer(&self, address: &str) -> Arc<Peer> {
        let now = Instant::now();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address) {
            *peer.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
            return Arc::clone(peer);
        }
        peers.retain(|_, peer| now.duration_since(*peer.used.lock().unwrap_or_else(PoisonError::into_inner)) < KEEP);
        let slots = Semaphore::new(self.concurrency);
        let peer = Arc::new(Peer { slots, link: AsyncMutex::default(), used: Mutex::new(now) });
        peers.insert(address.to_owned(), Arc::clone(&peer));
        peer
    }

    /// A connection to `address`: the one that is there, or a new one. Many who ask at once make one attempt together.
    pub(super) async fn connection(&self, peer: &Peer, address: &str) -> Result<Connected, NoConnection> {
        let asked = Instant::now();
        let mut link = peer.link.lock().await;
        if let Some(connection) = link.connection.as_ref().filter(|connection| connection.is_usable()) {
            return Ok(Connected { connection: Arc::clone(connection), reused: true });
        }
        if let Some((at, failure)) = &link.failed
            && *at >= asked
        {
            return Err(failure.clone());
        }
        link.connection = None;
        let attempt = tokio::time::timeout(self.connect_timeout, self.connect.connect(address)).await;
        let failure = match attempt {
            Ok(Ok(stream)) => {
                let connection = Arc::new(Connection::new(stream));
                *link = Link { connection: Some(Arc::clone(&connection)), failed: None };
                return Ok(Connected { connection, reused: false });
            }
            Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => NoConnection::Refused(error.to_string()),
            Ok(Err(_)) | Err(_) => NoConnection::TimedOut,
        };
        link.failed = Some((Instant::now(), failure.clone()));
        Err(failure)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

impl Peer {
    /// Waits until fewer calls are under way than may be.
    pub(super) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.slots.acquire().await.ok()
    }
}
