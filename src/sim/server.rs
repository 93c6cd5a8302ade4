//! The server behind a [`super::Sim`]: accepts, reads, plays, and watches for clients that leave.

use super::act::{self, Act};
use super::answer::answer;
use super::cloud;
use super::http::{self, Request};
use super::responses::{self, Kept};
use super::script::{Script, Step, is_unknown};
use super::wire::{Complaint, Reply, Route, SimDialect};
use super::{Call, SimFault, vectors, works};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// What the server and its handle share.
pub(super) struct Shared {
    pub dialect: SimDialect,
    pub state: Mutex<State>,
    /// Whether it should listen.
    pub listening: watch::Sender<bool>,
    /// Whether it does; `turned` tells of a change.
    pub is_open: Mutex<bool>,
    pub turned: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub script: Script,
    pub calls: Vec<Call>,
    pub next_number: u64,
    pub connections: usize,
    pub keys: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
    /// Responses that are made in the background, by their ids.
    pub kept: HashMap<String, Kept>,
}

/// The address is kept while nobody listens: a bound socket that does not listen refuses connections.
pub(super) enum Door {
    Open(TcpListener),
    Shut(TcpSocket),
}

/// A socket at this address that does not listen yet.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until its runtime is dropped.
pub(super) async fn serve(shared: &Arc<Shared>, socket: TcpSocket, address: SocketAddr) -> io::Result<()> {
    let mut wanted = shared.listening.subscribe();
    let mut door = Door::Shut(socket);
    loop {
        let open = *wanted.borrow_and_update();
        door = match door {
            Door::Shut(socket) if open => Door::Open(socket.listen(1024)?),
            Door::Open(listener) if !open => {
                drop(listener);
                Door::Shut(bind(address)?)
            }
            unchanged => unchanged,
        };
        *shared.is_open.lock() = open;
        shared.turned.notify_all();
        let accepted = match &door {
            Door::Open(listener) => tokio::select! {
                accepted = listener.accept() => Some(accepted),
                changed = wanted.changed() => { if changed.is_err() { return Ok(()) }; None }
            },
            Door::Shut(_) => {
                if wanted.changed().await.is_err() {
                    return Ok(());
                }
                None
            }
        };
        if let Some(Ok((stream, _))) = accepted {
            let connection = {
                let mut state = shared.state.lock();
                state.connections += 1;
                state.connections
            };
            // A connection that breaks is the client's affair: it is seen in the calls.
            tokio::spawn({
                let shared = Arc::clone(shared);
                async move { drop(serve_connection(&shared, stream, connection).await) }
            });
        }
    }
}

/// How a connection goes on after an answer.
enum After {
    Kept,
    Closed,
    Reset,
}

async fn serve_connection(shared: &Shared, stream: TcpStream, connection: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    let mut listening = shared.listening.subscribe();
    for on_connection in 0.. {
        // Who refuses connections keeps none either, but for those that are being answered.
        let request = tokio::select! {
            request = http::read_request(&mut reader, &mut writer, &mut buffer) => request?,
            _ = listening.wait_for(|listening| !listening) => None,
        };
        let Some(request) = request else { break };
        let closes = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let (number, acts) = shared.take(request, connection, on_connection);
        match play(shared, number, acts, &mut reader, &mut writer, &mut buffer).await? {
            After::Kept if !closes => {}
            After::Kept | After::Closed => break,
            After::Reset => {
                // Without this the write half would say goodbye (FIN) before the reset.
                writer.as_ref().set_zero_linger()?;
                writer.forget();
                break;
            }
        }
    }
    Ok(())
}

async fn play(
    shared: &Shared,
    number: u64,
    acts: Vec<Act>,
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    buffer: &mut Vec<u8>,
) -> io::Result<After> {
    let played = tokio::select! {
        biased;
        played = perform(shared, acts, writer) => played,
        () = gone(reader, buffer) => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    let mut state = shared.state.lock();
    if let Some(call) = state.calls.iter_mut().rfind(|call| call.number == number) {
        match &played {
            Ok(_) => call.played_at = Some(Instant::now()),
            Err(_) => call.client_gone = Some(Instant::now()),
        }
    }
    played
}

async fn perform(shared: &Shared, acts: Vec<Act>, writer: &mut OwnedWriteHalf) -> io::Result<After> {
    for act in acts {
        match act {
            Act::Write(bytes) => {
                writer.write_all(&bytes).await?;
                // Lets the watcher for clients that leave have its turn, also when nothing blocks.
                tokio::task::yield_now().await;
            }
            Act::Pause(time) => tokio::time::sleep(time).await,
            Act::Silence => std::future::pending().await,
            Act::Reset => return Ok(After::Reset),
            Act::Close => return Ok(After::Closed),
            Act::StopListening => {
                shared.listening.send_replace(false);
                // The listener is gone before the client learns anything.
                while *shared.is_open.lock() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    Ok(After::Kept)
}

/// Waits until the client closes the connection; what it sends meanwhile is kept.
async fn gone(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) {
    while let Ok(read) = reader.read_buf(buffer).await {
        if read == 0 {
            return;
        }
    }
}

impl Shared {
    /// Notes a request and says what happens to it.
    fn take(&self, request: Request, connection: usize, on_connection: usize) -> (u64, Vec<Act>) {
        let mut state = self.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        let (step, acts) = self.decide(&mut state, &request, number, on_connection);
        state.calls.push(Call {
            number,
            method: request.method,
            path: request.path,
            query: request.query,
            headers: request.headers,
            body: request.body,
            at: Instant::now(),
            connection,
            on_connection,
            step,
            played_at: None,
            client_gone: None,
        });
        (number, acts)
    }

    fn decide(&self, state: &mut State, request: &Request, number: u64, on_connection: usize) -> (Step, Vec<Act>) {
        let dialect = self.dialect;
        let complain = |complaint: &Complaint| act::reply(dialect, &dialect.complain(complaint), number);
        if let Some(reply) = cloud::token(request, number) {
            return (Step::OK, act::reply(dialect, &reply, number));
        }
        let unwrapped = match cloud::unwrap(dialect, request).transpose() {
            Ok(unwrapped) => unwrapped,
            Err(complaint) => return (Step::OK, complain(&complaint)),
        };
        let request = unwrapped.as_ref().unwrap_or(request);
        let route = match dialect.route(request) {
            Ok(route) => route,
            Err(complaint) => return (Step::OK, complain(&complaint)),
        };
        let key = dialect.key(request);
        let model = dialect.model(request).unwrap_or_default();
        // Only calls of a model are scripted; lists of models are not.
        let scripted = matches!(route, Route::Generate | Route::Embed | Route::Work(_) | Route::CountTokens);
        let step = if scripted { state.script.next(key, &model) } else { Step::OK };
        let (fault, pause) = match &step {
            Step::Fault(fault) => (*fault, Duration::ZERO),
            Step::Paced(pause) => (SimFault::Ok, *pause),
            Step::Acts(acts) => return (step.clone(), acts.clone()),
            Step::Reply { status, headers, body } => {
                let (headers, body) = (headers.clone(), body.clone().into_bytes());
                let reply = Reply { status: *status, content_type: "application/json", headers, body };
                return (step.clone(), act::reply(dialect, &reply, number));
            }
        };
        if fault == SimFault::Stale && on_connection > 0 {
            return (step, vec![Act::Reset]);
        }
        if let Some(acts) = act::without_answer(fault, dialect, &model, key.unwrap_or_default(), number) {
            return (step, acts);
        }
        let acts = match self.answer(state, request, &route, key) {
            Ok(Served::Reply(reply)) => {
                let acts = act::with_reply(fault, dialect, reply, number);
                if pause.is_zero() { acts } else { [vec![Act::Pause(pause)], acts].concat() }
            }
            Ok(Served::Answer(question)) => {
                let answer = answer(&question, number);
                if answer.background {
                    state.kept.extend([Kept::new(&answer)]);
                }
                act::with_answer(fault, dialect, &question, &answer, pause)
            }
            Err(complaint) => complain(&complaint),
        };
        (step, acts)
    }

    fn answer(
        &self,
        state: &mut State,
        request: &Request,
        route: &Route,
        key: Option<&str>,
    ) -> Result<Served, Complaint> {
        let key = key.ok_or(Complaint::NoKey)?;
        let accepted = match &state.keys {
            Some(keys) => keys.iter().any(|one| one == key),
            None => !key.contains("wrong"),
        };
        if !accepted {
            return Err(Complaint::BadKey { shown: act::masked(key) });
        }
        let models = || state.models.clone().unwrap_or_else(|| self.dialect.default_models());
        let known = |model: &str| match is_unknown(model, state.models.as_deref()) {
            true => Err(Complaint::ModelNotFound { model: model.to_owned() }),
            false => Ok(()),
        };
        match route {
            Route::ListModels => Ok(Served::Reply(self.dialect.list_models(&models()))),
            Route::Response(id, asked) => {
                let kept = state.kept.get_mut(id);
                let kept = kept.ok_or_else(|| Complaint::NoSuchPath { path: request.path.clone() })?;
                if *asked == responses::Asked::Cancel {
                    kept.end("cancelled");
                }
                let value =
                    |name: &str| request.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                if value("stream") == Some("true") {
                    return Ok(Served::Reply(kept.events(value("starting_after").and_then(|text| text.parse().ok()))));
                }
                Ok(Served::Reply(Reply::pretty(200, &kept.whole())))
            }
            Route::Model(model) => known(model).map(|()| Served::Reply(self.dialect.one_model(model))),
            // A token is four bytes here, as in the counts of answers.
            Route::CountTokens => {
                let model = self.dialect.model(request).unwrap_or_default();
                known(&model).map(|()| Served::Reply(self.dialect.count(request.body.len() / 4)))
            }
            Route::Work(work) => {
                known(&self.dialect.model(request).unwrap_or_default())?;
                works::reply(*work, request).map(Served::Reply)
            }
            Route::Embed => {
                known(&self.dialect.model(request).unwrap_or_default())?;
                vectors::reply(self.dialect, request).map(Served::Reply)
            }
            Route::Generate => {
                let question = self.dialect.read(request)?;
                known(&question.model)?;
                Ok(Served::Answer(Box::new(question)))
            }
        }
    }
}

enum Served {
    Reply(Reply),
    Answer(Box<super::answer::Question>),
}
