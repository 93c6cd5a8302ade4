//! What the nodes that share a store tell each other in passing: heard by those that are there, and kept by nobody.

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

/// What is talked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Who watches. Every node hears it.
    Watching,
    /// What happens to requests. A node hears it while it wants to.
    Live,
}

/// What a node hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It listens from now on: for the first time, to more than before, or again after it could not.
    Listening,
    /// Somebody has said this, the node itself included.
    Word(Topic, String),
}

/// The way to the other nodes.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// How long a message may be, in bytes.
    fn longest(&self) -> usize;

    /// Tells all nodes these messages, each no longer than [`Nodes::longest`]. Waits a second at most.
    ///
    /// # Errors
    /// Why none, or not all of them, could be told.
    async fn tell(&self, topic: Topic, messages: Vec<String>) -> Result<(), String>;

    /// Hears what is told from now on, [`Topic::Live`] only while that is wanted; whoever calls it last hears. What comes faster than it is taken is
    /// lost.
    fn hear(&self, live: watch::Receiver<bool>) -> mpsc::Receiver<Heard>;
}
