//! What the service manager hears of the gateway's life, and what `orbyt health` says of it. The manager is a socket, as systemd's is.

use crate::gateway::{Gateway, PATIENCE, binary};
use crate::tls;
use orbyt::sim::{Sim, SimDialect};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Hears what a service says to the manager that has started it.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { folder, socket }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").to_string_lossy().into_owned()
    }

    /// The next message that has this line.
    fn hears(&self, line: &str) -> String {
        let mut message = [0; 4096];
        loop {
            let length = self.socket.recv(&mut message).unwrap_or_else(|error| panic!("nothing with {line}: {error}"));
            let text = String::from_utf8_lossy(&message[..length]);
            if text.lines().any(|said| said == line) {
                return text.into_owned();
            }
        }
    }
}

fn health(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.arg("health").args(arguments).env_clear().env("HOME", folder.path()).current_dir(folder.path());
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_of_start_reload_and_end() {
    let (manager, sim) = (Manager::new(), Sim::start(SimDialect::OpenAi).unwrap());
    let builder = Gateway::builder().provider("one", &sim).config("[server]\ngrace = \"90s\"");
    let mut gateway = builder.variable("NOTIFY_SOCKET", &manager.path()).start().await;
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=serving\n"), "{ready}");

    gateway.signal(libc::SIGHUP);
    let reloading = manager.hears("RELOADING=1");
    let at = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(at.is_some_and(|at| at.parse::<u64>().is_ok_and(|at| at > 0)), "{reloading}");
    assert!(manager.hears("READY=1").contains("STATUS=serving\n"));

    std::fs::write(gateway.config_file(), "nonsense = 1\n").unwrap();
    manager.hears("RELOADING=1");
    let refused = manager.hears("READY=1");
    assert!(refused.contains("refused"), "{refused}");

    gateway.signal(libc::SIGTERM);
    let stopping = manager.hears("STOPPING=1");
    // The grace and what is left to be written after it.
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=105000000\n"), "{stopping}");
    assert!(gateway.ended(PATIENCE).await.expect("it did not end").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_while_the_gateway_answers_even_by_one_that_took_the_service_over() {
    let (manager, sim) = (Manager::new(), Sim::start(SimDialect::OpenAi).unwrap());
    let builder = Gateway::builder().provider("one", &sim).variable("NOTIFY_SOCKET", &manager.path());
    // Of the process before, as it is inherited.
    let _gateway = builder.variable("WATCHDOG_USEC", "200000").variable("WATCHDOG_PID", "1").start().await;
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_where_there_is_only_https() {
    let (manager, sim, folder) =
        (Manager::new(), Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    tls::write(folder.path(), &tls::certificate());
    let listens = format!("[server]\nlisten = []\n{}", tls::listens(folder.path()));
    let builder = Gateway::builder().variable("ORBYT_LISTEN", "").config(&listens);
    let builder = builder.provider("one", &sim).variable("NOTIFY_SOCKET", &manager.path());
    let _gateway = builder.variable("WATCHDOG_USEC", "200000").spawn();
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_is_gone_is_no_reason_not_to_serve() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let builder = Gateway::builder().provider("one", &sim).variable("NOTIFY_SOCKET", "/nowhere/notify");
    let gateway = builder.start().await;
    gateway.printed("the service manager cannot be told").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_an_exit_code_for_probes() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    let console = gateway.console_url.clone();
    for arguments in [&["--console", &console][..], &["--console", &console, "--live"]] {
        let output = health(arguments);
        assert!(output.status.success(), "{output:?}");
    }
    gateway.signal(libc::SIGTERM);
    assert!(gateway.ended(PATIENCE).await.expect("it did not end").success());
    let output = health(&["--console", &console]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("/readyz does not answer"), "{output:?}");
}
