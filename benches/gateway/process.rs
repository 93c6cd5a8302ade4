//! Processes under measurement: each on a core of its own, with its CPU time and memory as Linux counts them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that ends with this value.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program with an environment of its own, on a core when cores can be chosen.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        core: usize,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Result<Self, String> {
        let mut command = if can_pin() {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let variables = environment.iter().map(|(name, value)| (*name, value.as_str()));
        let command = command.args(arguments).env_clear().env("PATH", path).envs(variables);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self { child: child.map_err(|error| format!("{}: {error}", program.display()))? })
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let nanos = tasks.filter_map(|task| {
            let told = fs::read_to_string(task.path().join("schedstat")).ok()?;
            told.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that ends says on stdout, without the line's end.
///
/// # Errors
/// When it cannot be started or fails: with what it says on stderr.
pub fn output_of(program: &Path, arguments: &[&str], environment: &[(&str, String)]) -> Result<String, String> {
    let variables = environment.iter().map(|(name, value)| (*name, value.as_str()));
    let output = Command::new(program).args(arguments).env_clear().envs(variables).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether processes can be put on cores.
pub fn can_pin() -> bool {
    Command::new("taskset")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
}

/// Puts this process on a core; threads that it makes later stay there.
pub fn pin_myself(core: usize) {
    let me = std::process::id().to_string();
    // Without it the figures are noisier, and the report says so.
    let _ = Command::new("taskset")
        .args(["-pc", &core.to_string(), &me])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
