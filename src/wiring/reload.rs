//! Reloads the configuration on SIGHUP and when one of its files changes. All or nothing: a bad one is told and the last good one stays.

use super::service_manager;
use super::state::Follower;
use super::tls::Certificates;
use crate::cli::start;
use crate::config::{Loaded, Snapshot, Source};
use crate::proxy::Core;
use crate::proxy::core::Phase;
use crate::telemetry::StateChange;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Editors write in several steps; the file is read when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(200);

/// The watch over the configuration's files and SIGHUP.
pub(super) struct Watch {
    core: Arc<Core>,
    follower: Arc<Follower>,
    vault: watch::Receiver<u64>,
    source: Source,
    files: Vec<PathBuf>,
    certificates: Option<Arc<Certificates>>,
    hangup: Signal,
    changed: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
    /// `None` when it failed, as on a folder that does not exist yet.
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Begins to watch at once, so that nothing is missed that happens after the gateway is up. Must be called in a runtime.
    ///
    /// # Errors
    /// When SIGHUP cannot be caught.
    pub(super) fn begin(
        core: Arc<Core>,
        follower: Arc<Follower>,
        source: Source,
        files: Vec<PathBuf>,
        certificates: Option<Arc<Certificates>>,
    ) -> Result<Self, String> {
        let hangup = signal(SignalKind::hangup()).map_err(|error| format!("cannot catch SIGHUP: {error}"))?;
        let (changed, changes) = mpsc::channel::<()>(1);
        let watcher = watcher(&files, changed.clone());
        let vault = follower.vault_changes();
        Ok(Self { core, follower, vault, source, files, certificates, hangup, changed, changes, watcher })
    }

    /// Reloads for as long as the gateway runs.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                Ok(()) = self.vault.changed() => {}
                Some(()) = self.changes.recv() => {
                    while tokio::time::timeout(QUIET, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {}
                }
            }
            if self.watcher.is_none() {
                self.watcher = watcher(&self.files, self.changed.clone());
            }
            // systemd hears the service's main process alone, and nobody's reload while it ends.
            let is_told = *self.core.phase.borrow() == Phase::Serving;
            if is_told {
                service_manager::reloading();
            }
            // Before what is read with them: what changes meanwhile is a reason to read again.
            let vault_changes = *self.vault.borrow_and_update();
            let (again, followed) = (self.source.clone(), self.follower.followed());
            // Reading files blocks, so it happens beside the runtime.
            let is_in_force = match tokio::task::spawn_blocking(move || start::reload(&again, &followed)).await {
                Ok(Ok(loaded)) => self.take(loaded),
                Ok(Err(message)) => refuse(&self.core, &message),
                Err(error) => refuse(&self.core, &error.to_string()),
            };
            if is_told {
                service_manager::reloaded(is_in_force);
            }
            self.follower.reloaded(vault_changes);
        }
    }

    /// Returns whether it is in force.
    fn take(&mut self, loaded: Loaded) -> bool {
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
        if self.files != loaded.files {
            self.files.clone_from(&loaded.files);
            // The old watcher goes only when the new one stands, so that no change falls in between.
            self.watcher = watcher(&self.files, self.changed.clone());
        }
        apply(&self.core, &self.follower, loaded.snapshot, self.certificates.as_deref())
    }
}

fn apply(core: &Core, follower: &Follower, mut new: Snapshot, certificates: Option<&Certificates>) -> bool {
    let old = core.snapshot.load_full();
    if let (Some(tls), Some(certificates)) = (&new.server.tls, certificates)
        && let Err(message) = certificates.reload(tls)
    {
        return refuse(core, &message);
    }
    for name in old.needs_restart(&new) {
        log::warn!("{name} has changed: it takes effect after a restart");
    }
    new.keep_listeners(&old);
    // Requests in flight still use the old keys.
    core.telemetry.redactor.register(old.secrets().chain(new.secrets()));
    core.telemetry.log.set_level(new.telemetry.log_level);
    core.telemetry.payloads.configure(new.telemetry.payloads.clone());
    super::introduce(&core.telemetry.metrics, &new);
    core.pool.configure(&super::provider_keys(&new), Instant::now());
    let providers: Vec<Arc<str>> = new.providers.iter().map(|provider| provider.id.clone()).collect();
    core.targets.keep(&providers);
    core.limits.set_on_outage(new.limits.on_outage);
    core.accounts.set_on_outage(new.limits.on_outage);
    follower.configure(new);
    core.telemetry.state_change(StateChange::ConfigReloaded);
    true
}

fn refuse(core: &Core, message: &str) -> bool {
    let errors: Vec<String> = message.lines().map(str::to_owned).collect();
    core.telemetry.state_change(StateChange::ConfigRefused { errors: &errors });
    false
}

/// Watches the folders of the files, because editors and orchestrators replace files rather than write into them.
fn watcher(files: &[PathBuf], changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let names: HashSet<PathBuf> = files.iter().map(|file| absolute(file)).collect();
    let folders: HashSet<PathBuf> = names.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
    let ours = names.clone();
    let on_event = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        // Kubernetes swaps a `..data` link beside the files instead of touching them.
        let concerns = |path: &PathBuf| ours.contains(path) || path.file_name().is_some_and(|name| name == "..data");
        if !event.kind.is_access() && event.paths.iter().any(concerns) {
            // A full channel means that a reload is due already.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).ok()?;
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            log::debug!("{} is not watched: {error}", folder.display());
        }
    }
    Some(watcher)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
