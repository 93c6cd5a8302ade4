//! A real Postgres for the tests: one server a test process, on a free port in a temporary folder, with a database of its own for each test.

use parking_lot::Mutex;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    port: u16,
    /// Holds the server's standard input: the server ends when this process does, however it ends.
    _child: Mutex<Child>,
}

/// A database of the server.
pub struct Database {
    name: String,
    port: u16,
}

impl Database {
    /// A new one, empty. Its owner may make roles and is no superuser, as on a managed server.
    pub async fn create() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let port = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start).port).await.unwrap();
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let database = Self { name: name.clone(), port };
        let admin = database.connect("postgres", "postgres").await;
        let role = "DO $$ BEGIN CREATE ROLE gate LOGIN CREATEROLE; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
        admin.batch_execute(role).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name} OWNER gate")).await.unwrap();
        database
    }

    /// As the gateway is told.
    pub fn url(&self) -> String {
        self.url_by(&format!("127.0.0.1:{}", self.port))
    }

    /// The same by way of another address.
    pub fn url_by(&self, address: &str) -> String {
        format!("postgres://gate:canary-password@{address}/{}", self.name)
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A connection of the superuser, for whom row-level security does not hold.
    pub async fn superuser(&self) -> Client {
        self.connect("postgres", &self.name).await
    }

    /// A connection of the gateway's own user.
    pub async fn owner(&self) -> Client {
        self.connect("gate", &self.name).await
    }

    async fn connect(&self, user: &str, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user={user} dbname={database}", self.port);
        let started = Instant::now();
        loop {
            match tokio_postgres::connect(&config, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(started.elapsed() < PATIENCE, "Postgres does not come up: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Server {
    fn start() -> Self {
        let programs = programs();
        let folder = std::env::temp_dir().join(format!("orbyt-postgres-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = folder.join("data");
        let made = as_user(&programs.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postgres = programs.join("postgres");
        let script = format!(
            "{} -D {} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off \
             -c max_connections=200 >{}/log 2>&1 & server=$!; cat; kill -QUIT $server; wait $server; rm -rf {}",
            postgres.display(),
            data.display(),
            folder.display(),
            folder.display()
        );
        let child = as_user(Path::new("/bin/sh"))
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { port, _child: Mutex::new(child) }
    }
}

/// The newest installation.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    folders.sort();
    let found = folders.into_iter().rev().find(|folder| folder.join("postgres").exists());
    found.expect("the tests need PostgreSQL: `scripts/deps.sh test` installs it")
}

/// Postgres refuses to run as root; then it runs as somebody who may do little.
fn unprivileged() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let fields: Vec<&str> = users.lines().find(|line| line.starts_with(&format!("{name}:")))?.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("a user who is not root"))
}
