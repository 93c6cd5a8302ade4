//! Alerts: what an operator has to know of is shown while it lasts, and told to a webhook once when it begins and once when it is over.

use crate::api_keys::said;
use crate::gateway::{Gateway, PATIENCE, saying};
use orbyt::sim::{Sim, SimDialect, SimFault};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRET: &str = "secret-of-the-webhook";

/// A receiver: a little HTTP server that answers with a status, and keeps what it was sent, signature and body.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<(u16, String, String)>>>,
}

impl Receiver {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(status)),
            got: Arc::default(),
        };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A sender that was killed in the middle is none.
                let _ = serving.take(stream);
            }
        });
        receiver
    }

    fn take(&self, stream: std::net::TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut length, mut signature) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match &*name.to_ascii_lowercase() {
                "content-length" => length = value.trim().parse().unwrap(),
                "x-orbyt-signature" => signature = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let status = self.status.load(Ordering::Relaxed);
        self.got.lock().push((status, signature, String::from_utf8(body).unwrap()));
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        reader.into_inner().write_all(answer.as_bytes())
    }

    /// What it has taken: the type, the kind and the subject of each message.
    fn taken(&self) -> Vec<String> {
        let got = self.got.lock();
        let text = |(_, _, body): &(u16, String, String)| {
            let message: Value = serde_json::from_str(body).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            format!(
                "{} {} {}",
                text(&message["type"]),
                text(&message["alert"]["kind"]),
                text(&message["alert"]["subject"])
            )
        };
        got.iter().filter(|(status, _, _)| *status == 200).map(text).collect()
    }

    fn config(&self) -> String {
        let address = self.address;
        format!(
            "[alerts]\nhold = '100ms'\n[alerts.webhook]\nurl = 'http://{address}/hook'\nsecret = {{ env = 'WEBHOOK_SECRET' }}\n"
        )
    }
}

/// Whether a signature is right and of now.
fn is_signed(signature: &str, body: &str) -> bool {
    let Some((time, signed)) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let age = now.abs_diff(time.parse().unwrap());
    let signed = hex::decode(signed).unwrap();
    age < 60 && hmac::verify(&key, format!("{time}.{body}").as_bytes(), &signed).is_ok()
}

async fn alerts(gateway: &Gateway) -> Value {
    gateway.get_console("/api/v1/health").await.unwrap().json()["alerts"].clone()
}

#[tokio::test]
async fn a_refused_key_and_a_bad_configuration_are_shown_and_told_signed() {
    let (sim, receiver) = (Sim::start(SimDialect::OpenAi).unwrap(), Receiver::start(200));
    let builder = Gateway::builder().config(&receiver.config()).variable("WEBHOOK_SECRET", SECRET);
    let gateway = builder.provider_with_keys("one", &sim, &["first-key", "second-key"]).start().await;
    gateway.shows("orbyt_alerts{kind=\"key_disabled\"} 0\n").await;
    sim.on_key("first-key", SimFault::BadKey);
    while !sim.calls().iter().any(|call| call.header("authorization") == Some("Bearer first-key")) {
        assert!(gateway.chat(&saying("one/m", "one", false)).await.looks_complete());
    }
    gateway.shows("orbyt_alerts{kind=\"key_disabled\"} 1\n").await;
    let good = std::fs::read_to_string(gateway.config_file()).unwrap();
    std::fs::write(gateway.config_file(), format!("[serve]\n{good}")).unwrap();
    gateway.until("both alerts", || receiver.taken().len() == 2).await;
    let shown = alerts(&gateway).await;
    assert_eq!(shown.as_array().unwrap().len(), 2, "{shown}");
    assert_eq!((&shown[0]["kind"], &shown[1]["subject"]), (&"config".into(), &"one/one_01".into()));
    assert!(shown[0]["message"].as_str().unwrap().contains("serve: unknown key"), "{shown}");
    // Read again, and all is well: a key that was refused gets another chance, too.
    sim.reset();
    std::fs::write(gateway.config_file(), good).unwrap();
    gateway.until("the end of both", || receiver.taken().len() == 4).await;
    assert!(alerts(&gateway).await.as_array().unwrap().is_empty());
    let mut taken = receiver.taken();
    taken.sort();
    let expected = [
        "alert.raised config configuration",
        "alert.raised key_disabled one/one_01",
        "alert.resolved config configuration",
        "alert.resolved key_disabled one/one_01",
    ];
    assert_eq!(taken, expected);
    for (_, signature, body) in receiver.got.lock().iter() {
        assert!(is_signed(signature, body), "{signature} {body}");
        assert!(!body.contains("first-key") && !body.contains(SECRET), "{body}");
    }
    assert!(!gateway.output().contains(SECRET) && !gateway.output().contains("first-key"));
}

#[tokio::test]
async fn what_the_webhook_does_not_take_is_sent_again_also_by_the_next_process() {
    let (sim, receiver) = (Sim::start(SimDialect::OpenAi).unwrap(), Receiver::start(503));
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let builder = Gateway::builder().config(&receiver.config()).variable("WEBHOOK_SECRET", SECRET);
        let builder = builder.variable("ORBYT_DATA_DIR", folder.path().to_str().unwrap());
        builder.config("[breaker]\nfailures = 1\n[retry]\nmax = 0").provider("one", &sim).start().await
    };
    let mut gateway = start().await;
    sim.always(SimFault::ServerError);
    assert_ne!(gateway.chat(&saying("one/m", "one", false)).await.status, 200);
    gateway.until("a message that is not taken", || receiver.got.lock().len() >= 2).await;
    gateway.printed("the webhook does not take an alert").await;
    gateway.signal(libc::SIGKILL);
    gateway.ended(PATIENCE).await.expect("it did not end");
    assert!(receiver.taken().is_empty());
    // The next process sends it, and as its own breaker is closed, that it is over.
    receiver.status.store(200, Ordering::Relaxed);
    let next = start().await;
    next.until("what was left, and its end", || receiver.taken().len() >= 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.taken(), ["alert.raised breaker_open one/m", "alert.resolved breaker_open one/m"]);
    let ids: std::collections::HashSet<String> = receiver
        .got
        .lock()
        .iter()
        .map(|(_, _, body)| serde_json::from_str::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2, "a message that is sent again keeps its id");
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_shown_until_there_is_more() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let base_url = sim.base_url();
    let price = "[[provider.model]]\nid = 'm'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n";
    let key = "[[provider.key]]\nsecret = 'key-in-clear'\n";
    let provider = format!("[[provider]]\nid = 'one'\ndialect = 'openai_chat'\nbase_url = '{base_url}'\n{key}{price}");
    let receiver = Receiver::start(200);
    let builder = Gateway::builder().config(&format!("{}{provider}", receiver.config()));
    let gateway = builder.variable("WEBHOOK_SECRET", SECRET).start().await;
    assert!(gateway.chat(&saying("one/m", "one", false)).await.looks_complete());
    let said = |arguments: &[&str]| said(&gateway.data_dir(), None, arguments, "");
    gateway.until("the request in the ledger", || said(&["requests", "list", "--json"]).lines().count() == 1).await;
    // First it is nearly used up, then it is: both are told.
    let row: Value = serde_json::from_str(&said(&["requests", "list", "--json"])).unwrap();
    let cost = row["cost_picos"].as_i64().unwrap_or_else(|| panic!("{row}")) as f64 / 1e12;
    said(&["budgets", "set", &format!("{:.9}", cost / 0.95), "--org", "default"]);
    gateway.until("that it is nearly used up", || receiver.taken().len() == 1).await;
    assert_eq!(alerts(&gateway).await[0]["severity"], "warning");
    said(&["budgets", "set", "0.0001", "--org", "default"]);
    gateway.until("that it is", || receiver.taken().len() == 2).await;
    assert!(receiver.taken().iter().all(|told| told.starts_with("alert.raised budget org/")), "{:?}", receiver.taken());
    gateway.shows("orbyt_alerts{kind=\"budget\"} 1\n").await;
    let shown = alerts(&gateway).await;
    assert!(shown[0]["subject"].as_str().unwrap().starts_with("org/"), "{shown}");
    assert!(shown[0]["message"].as_str().unwrap().contains("the budget of $0.0001 is used up"), "{shown}");
    said(&["budgets", "set", "1000", "--org", "default"]);
    gateway.shows("orbyt_alerts{kind=\"budget\"} 0\n").await;
}

#[tokio::test]
async fn a_user_who_has_used_up_what_each_may_spend_is_told_of_everywhere() {
    let (sim, receiver) = (Sim::start(SimDialect::OpenAi).unwrap(), Receiver::start(200));
    let base_url = sim.base_url();
    let price = "[[provider.model]]\nid = 'm'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n";
    let key = "[[provider.key]]\nsecret = 'key-in-clear'\n";
    let provider = format!("[[provider]]\nid = 'one'\ndialect = 'openai_chat'\nbase_url = '{base_url}'\n{key}{price}");
    let builder = Gateway::builder().config(&receiver.config()).variable("WEBHOOK_SECRET", SECRET);
    let gateway = builder.config(&provider).start().await;
    let said = |arguments: &[&str]| said(&gateway.data_dir(), None, arguments, "");
    said(&["budgets", "set", "100/day", "--user", "*"]);
    let asking = |user: &str| {
        let mut body = saying("one/m", "one two three", false);
        body["user"] = user.into();
        body["max_tokens"] = 20.into();
        body
    };
    gateway.shows("orbyt_alerts{kind=\"budget\"} 0\n").await;
    for user in ["lee", "kim"] {
        assert_eq!(gateway.chat(&asking(user)).await.status, 200);
    }
    said(&["budgets", "set", "0.001/day", "--user", "*"]);
    gateway.shows("orbyt_alerts{kind=\"budget\"} 2\n").await;
    let shown = alerts(&gateway).await;
    let subjects: Vec<_> = shown.as_array().unwrap().iter().map(|it| it["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["user/org_default/kim/day", "user/org_default/lee/day"], "{shown}");
    assert_eq!(shown[0]["org"], "org_default");
    gateway.until("both told", || receiver.taken().len() == 2).await;
    let page = gateway.get_console("/overview").await.unwrap().body_text();
    assert!(page.contains("user/org_default/kim/day") && page.contains("requests are refused"), "{page}");
}
