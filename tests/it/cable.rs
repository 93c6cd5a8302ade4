//! A cable that can be cut: a TCP proxy between the gateway and what it depends on.

use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// They pass.
    Whole,
    /// Connections are closed at once.
    Cut,
    /// Connections stay, and nothing passes: as when the plug is pulled.
    Silent,
}

/// The cable. It goes with the runtime of the test.
pub struct Cable {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
}

impl Cable {
    /// Leads to this address.
    pub async fn to(target: String, condition: Condition) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(condition);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target.clone(), receiver.clone()));
            }
        });
        Self { address, condition: sender }
    }

    /// Where its near end is.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on.
    pub fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

async fn carry(mut near: TcpStream, target: String, mut condition: watch::Receiver<Condition>) {
    let now = *condition.borrow_and_update();
    match now {
        Condition::Cut => {}
        // It is never heard of again.
        Condition::Silent => drop(condition.changed().await),
        Condition::Whole => {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => return,
                _ = condition.changed() => {}
            }
            if *condition.borrow_and_update() == Condition::Silent {
                drop(condition.changed().await);
            }
        }
    }
}
