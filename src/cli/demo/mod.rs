//! `orbyt demo`: simulated providers, the gateway in front of them, and a few requests that show what it does when they
//! fail. Needs no network and no key.
//!
//! `scenes.rs` is the play, `live.rs` the console's view of it, `screen.rs` the terminal.

mod live;
mod scenes;
mod screen;

use super::args::DemoArgs;
use super::summary::curl;
use crate::config::{self, Refused, Source};
use crate::provider::Catalog;
use crate::sim::{Sim, SimDialect, SimFault, client};
use crate::wiring::{self, Parts, Running};
use live::Live;
use screen::{Ink, Screen};
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The gateway that is shown.
struct DemoGateway {
    url: String,
    key: String,
    console_url: String,
    admin_token: String,
}

/// The providers that it stands before.
struct Sims {
    openai: Sim,
    anthropic: Sim,
    gemini: Sim,
}

impl Sims {
    fn start() -> io::Result<Self> {
        Ok(Self {
            openai: Sim::start(SimDialect::OpenAi)?,
            anthropic: Sim::start(SimDialect::Anthropic)?,
            gemini: Sim::start(SimDialect::Gemini)?,
        })
    }

    fn all(&self) -> [&Sim; 3] {
        [&self.openai, &self.anthropic, &self.gemini]
    }

    fn of(&self, dialect: SimDialect) -> &Sim {
        self.all().into_iter().find(|sim| sim.dialect() == dialect).unwrap_or(&self.openai)
    }
}

/// Runs the command.
pub fn run(args: DemoArgs) -> ExitCode {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut screen = Screen::new(io::stdout(), colour);
    match demonstrate(args.once, &mut screen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("orbyt demo: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every scene ended as told.
fn demonstrate<W: Write>(once: bool, screen: &mut Screen<W>) -> Result<bool, String> {
    let told = |error: io::Error| error.to_string();
    let sims = Sims::start().map_err(told)?;
    let data = DataDir::create().map_err(told)?;
    let (listen, console) = (port_or_any(3001), port_or_any(4000));
    let key = format!("sk-or-v1-{}", hex::encode(rand::random::<[u8; 32]>()));
    let admin_token = hex::encode(rand::random::<[u8; 16]>());
    let running = start(environment([listen, console], &key, &admin_token, &data, &sims))?;
    let url =
        |addresses: &[SocketAddr]| addresses.first().map(|address| format!("http://{address}")).unwrap_or_default();
    let (url, console_url) = (url(&running.listening.gateway), url(&running.listening.console));
    let gateway = DemoGateway { url, key, console_url, admin_token };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    let all_as_told = Cell::new(true);
    let show = async {
        wait_until_ready(&gateway).await?;
        let mut live = Live::connect(&gateway).await.map_err(|error| format!("the console's live events: {error}"))?;
        introduce(screen, &gateway, &sims).map_err(told)?;
        all_as_told.set(scenes::play(&gateway, &sims, &mut live, screen).await.map_err(told)?);
        if once { Ok(()) } else { serve_on(screen, &gateway, live).await.map_err(told) }
    };
    runtime.block_on(async {
        tokio::select! {
            ended = show => ended,
            ended = tokio::signal::ctrl_c() => ended.map_err(told),
        }
    })?;
    running.stop();
    Ok(all_as_told.get())
}

fn start(process: Vec<(String, String)>) -> Result<Running, String> {
    let catalog = Catalog::builtin().map_err(|error| error.to_string())?;
    let source = Source { file: None, process, dotenv: None, catalog: Arc::new(catalog) };
    let problems = |refused: Refused| refused.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let snapshot = config::load(&source).map_err(problems)?.snapshot;
    wiring::start(Parts {
        snapshot,
        state: None,
        source: None,
        inherited: None,
        log_sink: Box::new(io::sink()),
        log_to_terminal: false,
    })
}

/// The usual port on the loopback address, or any free one (0) when another program has it.
fn port_or_any(usual: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

/// The variables that configure the gateway: those that `orbyt serve` reads, too, and nothing else.
fn environment(
    listen: [SocketAddr; 2],
    key: &str,
    admin_token: &str,
    data: &DataDir,
    sims: &Sims,
) -> Vec<(String, String)> {
    let mut variables = vec![
        ("ORBYT_LISTEN".to_owned(), listen[0].to_string()),
        ("ORBYT_CONSOLE_LISTEN".to_owned(), listen[1].to_string()),
        ("ORBYT_API_KEYS".to_owned(), key.to_owned()),
        ("ORBYT_ADMIN_TOKEN".to_owned(), admin_token.to_owned()),
        ("ORBYT_DATA_DIR".to_owned(), data.0.display().to_string()),
        ("ORBYT_LOG".to_owned(), "off".to_owned()),
    ];
    for sim in sims.all() {
        let provider = sim.dialect().provider_id();
        let name = provider.to_uppercase();
        variables.push((format!("{name}_API_KEY"), format!("simulated-{provider}-key")));
        variables.push((format!("{name}_BASE_URL"), sim.base_url()));
    }
    variables
}

/// A data directory that lasts as long as the demo.
struct DataDir(PathBuf);

impl DataDir {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("orbyt-demo-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of its temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn wait_until_ready(gateway: &DemoGateway) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(10);
    let url = format!("{}/readyz", gateway.console_url);
    let is_ready = async {
        while !client::send("GET", &url, &[], b"").await.is_ok_and(|answer| answer.status == 200) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_ready).await.map_err(|_| format!("the gateway is not ready: no 200 from {url}"))
}

fn introduce<W: Write>(screen: &mut Screen<W>, gateway: &DemoGateway, sims: &Sims) -> io::Result<()> {
    screen.line(Ink::Strong, "orbyt demo: the gateway in front of three simulated providers")?;
    screen.blank()?;
    for (usual, url) in [(3001, &gateway.url), (4000, &gateway.console_url)] {
        if !url.ends_with(&format!(":{usual}")) {
            screen.line(Ink::Warn, &format!("  Port {usual} is taken by another program: using {url} instead."))?;
        }
    }
    screen.line(Ink::Plain, &format!("  gateway    {}/v1", gateway.url))?;
    screen.line(Ink::Plain, &format!("  API key    {}", gateway.key))?;
    screen.line(Ink::Plain, &format!("  console    {}   admin token {}", gateway.console_url, gateway.admin_token))?;
    for sim in sims.all() {
        screen.line(Ink::Faint, &format!("  {:<10} {}   simulated", sim.dialect().provider_id(), sim.base_url()))?;
    }
    let model = SimDialect::OpenAi.example_model();
    screen.line(Ink::Plain, curl(&gateway.url, &gateway.key, Some(model)).trim_end())?;
    screen.blank()?;
    for line in [
        "from openai import OpenAI".to_owned(),
        format!("client = OpenAI(base_url=\"{}/v1\", api_key=\"{}\")", gateway.url, gateway.key),
        "messages = [{\"role\": \"user\", \"content\": \"Hello\"}]".to_owned(),
        format!(
            "print(client.chat.completions.create(model=\"{model}\", messages=messages).choices[0].message.content)"
        ),
    ] {
        screen.line(Ink::Plain, &format!("  {line}"))?;
    }
    screen.blank()
}

/// Shows every request, for as long as it is let.
async fn serve_on<W: Write>(screen: &mut Screen<W>, gateway: &DemoGateway, mut live: Live) -> io::Result<()> {
    let devtools = format!("{}/devtools", gateway.console_url);
    screen.line(Ink::Strong, &format!("Serving on. Requests show up here and at {devtools}; Ctrl-C ends it."))?;
    let [first, second] = [SimDialect::OpenAi, SimDialect::Anthropic].map(SimDialect::provider_id);
    let hint = format!(
        "  Any fault by name: \"model\": \"{first}/sim-{}\", \"extra\": {{\"fallback_models\": [\"{second}/sim-{}\"]}}",
        SimFault::ErrorAfterPrelude.name(),
        SimFault::Ok.name()
    );
    screen.line(Ink::Faint, &hint)?;
    let harmless = SimFault::ALL.iter().filter(|fault| !fault.outlasts_its_call());
    let names: Vec<_> = harmless.map(|fault| format!("sim-{}", fault.name())).collect();
    for names in names.chunks(6) {
        screen.line(Ink::Faint, &format!("  {}", names.join("  ")))?;
    }
    screen.blank()?;
    loop {
        match live.next().await {
            Some(event) => screen.event(&event, true)?,
            None => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                live = Live::connect(gateway).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_any_free_port_when_the_usual_one_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let usual = taken.local_addr().unwrap();
        assert_eq!(port_or_any(usual.port()).port(), 0);
        drop(taken);
        assert_eq!(port_or_any(usual.port()), usual);
    }

    #[test]
    fn its_configuration_has_every_provider_and_is_sound() {
        let (sims, data) = (Sims::start().unwrap(), DataDir::create().unwrap());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let process = environment([any, any], "sk-or-v1-demo", "token", &data, &sims);
        let source = Source { file: None, process, dotenv: None, catalog: Arc::new(Catalog::builtin().unwrap()) };
        let loaded = config::load(&source).unwrap();
        let ids: Vec<_> = loaded.snapshot.providers.iter().map(|provider| provider.id.to_string()).collect();
        assert_eq!((ids.len(), loaded.warnings.len()), (3, 0), "{ids:?} {:?}", loaded.warnings);
        for sim in sims.all() {
            assert!(ids.iter().any(|id| id == sim.dialect().provider_id()), "{ids:?}");
        }
    }
}
