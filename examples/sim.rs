//! Simulated providers on their own, for tests that come from outside (SDKs, snippets): prints one line of JSON that says where
//! they are, and runs until its standard input ends.
//!
//! ```text
//! {"openai":{"base_url":"http://127.0.0.1:40001/v1","key":"…"},"anthropic":{…},"google":{…},"calls":"http://127.0.0.1:40004/"}
//! ```
//!
//! `GET` on `calls` lists what the providers received so far, in order.

use orbyt::sim::{Call, Sim, SimDialect};
use serde_json::{Map, Value, json};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

fn main() -> io::Result<()> {
    let sims = Arc::new(SimDialect::ALL.map(Sim::start).into_iter().collect::<io::Result<Vec<_>>>()?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut offer = Map::new();
    for sim in sims.iter() {
        let name = sim.dialect().provider_id();
        offer.insert(name.to_owned(), json!({ "base_url": sim.base_url(), "key": format!("sim-key-of-{name}") }));
    }
    offer.insert("calls".to_owned(), json!(format!("http://{}/", listener.local_addr()?)));
    println!("{}", Value::Object(offer));
    io::stdout().flush()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that left does not need the list.
            let _ = list(&sims, client);
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

/// Answers one request, whatever it asks, with all calls so far.
fn list(sims: &[Sim], mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    let mut calls: Vec<(&Sim, Call)> =
        sims.iter().flat_map(|sim| sim.calls().into_iter().map(move |call| (sim, call))).collect();
    calls.sort_by_key(|(_, call)| call.at);
    let body = Value::Array(calls.iter().map(|(sim, call)| describe(sim, call)).collect()).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
    write!(client, "{head} {}\r\n\r\n{body}", body.len())
}

fn describe(sim: &Sim, call: &Call) -> Value {
    let headers: Map<String, Value> = call.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "provider": sim.dialect().provider_id(),
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "headers": headers,
        "body": call.json(),
        "client_gone": call.client_gone.is_some(),
    })
}
