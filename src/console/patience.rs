//! How long the console waits for a client, and how many connections one address may have: nobody keeps others out by being slow.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection that ends when its client takes nothing of what is sent for so long.
#[derive(Debug)]
pub(super) struct Patient<S> {
    inner: S,
    patience: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Waits so long for each piece to be taken.
    pub fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, stalled: None }
    }

    fn waited<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.waited(outcome, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.waited(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(context);
        this.waited(outcome, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

/// How many connections each address has.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Place {
    all: Places,
    address: IpAddr,
}

impl Places {
    /// A place for one more of this address, unless it has so many.
    pub fn take(&self, address: IpAddr, most: usize) -> Option<Place> {
        let mut places = self.0.lock();
        let taken = places.entry(address).or_insert(0);
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Place { all: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.all.0.lock();
        if let Some(taken) = places.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_takes_it_slowly_is_not() {
        let (server, mut client) = tokio::io::duplex(4);
        let mut server = Patient::new(server, Duration::from_millis(50));
        server.write_all(b"some").await.unwrap();
        assert_eq!(server.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut piece = [0; 4];
        client.read_exact(&mut piece).await.unwrap();
        server.write_all(b"more").await.unwrap();
        client.read_exact(&mut piece).await.unwrap();
        assert_eq!(&piece, b"more");
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let (places, [one, other]) =
            (Places::default(), [1, 2].map(|host| IpAddr::from(Ipv4Addr::new(192, 0, 2, host))));
        let held: Vec<Place> = (0..2).filter_map(|_| places.take(one, 2)).collect();
        assert!(held.len() == 2 && places.take(one, 2).is_none() && places.take(other, 2).is_some());
        drop(held);
        assert!(places.0.lock().is_empty() && places.take(one, 2).is_some());
    }
}
