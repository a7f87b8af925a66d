//! A TCP proxy that cuts, delays or swallows what goes through it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
};

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Pass,
    /// They pass, 100 ms later.
    Slow,
    /// They vanish; connections stay.
    Swallow,
    /// New connections are closed at once.
    Refuse,
}

struct State {
    mode: AtomicU8,
    cut: Notify,
    connections: AtomicU64,
}

/// A proxy, closed when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is behind it.
    pub target: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A proxy before `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { mode: AtomicU8::new(Mode::Pass as u8), cut: Notify::new(), connections: AtomicU64::new(0) });
        let (own, behind) = (Arc::clone(&state), target.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                own.connections.fetch_add(1, Ordering::Relaxed);
                if own.mode.load(Ordering::Relaxed) == Mode::Refuse as u8 {
                    continue;
                }
                tokio::spawn(connection(Arc::clone(&own), inside, behind.clone()));
            }
        });
        Ok(Self { address, target: target.to_owned(), state, task })
    }

    /// From here on.
    pub fn set(&self, mode: Mode) {
        self.state.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.state.cut.notify_waiters();
    }

    /// How many connections were asked for.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }
}

async fn connection(state: Arc<State>, inside: TcpStream, target: String) {
    let Ok(outside) = TcpStream::connect(&target).await else { return };
    let ((from_inside, to_inside), (from_outside, to_outside)) = (inside.into_split(), outside.into_split());
    tokio::select! {
        () = copy(&state, from_inside, to_outside) => {}
        () = copy(&state, from_outside, to_inside) => {}
        () = state.cut.notified() => {}
    }
}

async fn copy(state: &State, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mode = state.mode.load(Ordering::Relaxed);
        if mode == Mode::Swallow as u8 {
            continue;
        }
        if mode == Mode::Slow as u8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let Some(bytes) = buffer.get(..length) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
