//! A real Redis for a test, and a cable to it that can be cut.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

/// `redis-server` on a port of its own, which keeps nothing on disk. It is killed when it is dropped.
pub struct RedisServer {
    child: Option<Child>,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    pub port: u16,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::with(|_, port| vec!["--port".into(), port.to_string()]).await
    }

    /// With these arguments besides the usual ones, made of its folder and port.
    pub async fn with(arguments: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = arguments(folder.path(), port);
        let mut server = Self { child: None, folder, arguments, port };
        server.start_again().await;
        server
    }

    /// Starts it at the same port, with nothing in it, and waits until it is there.
    pub async fn start_again(&mut self) {
        let usual = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"];
        let child = Command::new("redis-server")
            .args(&self.arguments)
            .args(usual)
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need redis-server: install the package redis-server (make test does)");
        self.child = Some(child);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "redis-server did not start: {ended:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it answers to a command, as it stands on the wire.
    pub async fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.strip_suffix("+OK\r\n").unwrap_or(&answer).trim().to_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A cable to a server. Cut, it takes connections and passes nothing on, in either direction, until it is mended.
pub struct Cable {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Cable {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(pass(near_in, far_out, is_cut.clone()), pass(far_in, near_out, is_cut));
                });
            }
        });
        Self { address, cut }
    }

    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn pass(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut is_cut: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if is_cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    // The end of one direction is passed on too.
    let _ = to.shutdown().await;
}
