//! Reloads the configuration on SIGHUP and when one of its files changes. All or nothing: a bad one is told and the last good one stays.

use super::tls::Certificates;
use crate::cli::start;
use crate::config::Source;
use crate::proxy::Core;
use crate::telemetry::StateChange;
use notify::{RecursiveMode, Watcher};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Editors write in several steps; the file is read when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(200);

/// Watches for as long as the gateway runs.
pub(super) async fn watch(core: Arc<Core>, source: Source, mut files: Vec<PathBuf>, certificates: Option<Arc<Certificates>>) {
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut watching = watcher(&files, changed.clone());
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            Some(()) = changes.recv() => {
                while tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
            }
        }
        let again = source.clone();
        // A watch that failed, on a folder that did not exist yet, is tried again at every signal.
        if watching.is_none() {
            watching = watcher(&files, changed.clone());
        }
        // Reading files blocks, so it happens beside the runtime.
        match tokio::task::spawn_blocking(move || start::reload(&again)).await {
            Ok(Ok(loaded)) => {
                for warning in &loaded.warnings {
                    log::warn!("{warning}");
                }
                if files != loaded.files {
                    files.clone_from(&loaded.files);
                    // The old watcher goes only when the new one stands, so that no change falls in between.
                    watching = watcher(&files, changed.clone());
                }
                apply(&core, loaded.snapshot, certificates.as_deref());
            }
            Ok(Err(message)) => refuse(&core, &message),
            Err(error) => refuse(&core, &error.to_string()),
        }
    }
}

fn apply(core: &Core, mut new: crate::config::Snapshot, certificates: Option<&Certificates>) {
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
    core.telemetry.redactor.register(new.secrets());
    core.telemetry.log.set_level(new.telemetry.log_level);
    core.snapshot.store(Arc::new(new));
    core.pool.enable_all();
    core.telemetry.state_change(StateChange::ConfigReloaded);
}

fn refuse(core: &Core, message: &str) {
    let errors: Vec<String> = message.lines().map(str::to_owned).collect();
    core.telemetry.state_change(StateChange::ConfigRefused { errors: &errors });
}

/// Watches the folders of the files, because editors and orchestrators replace files rather than write into them.
fn watcher(files: &[PathBuf], changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
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
