//! What becomes of a provider's work when one of Google's clients hangs up.

use crate::gateway::{Gateway, KEY, PATIENCE};
use crate::gemini::{How, asking};
use orbyt::sim::client;
use orbyt::sim::{Sim, SimDialect, SimFault};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_call_to_the_provider() {
    let sims = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
    let builder = Gateway::builder().config("[breaker]\nenabled = false\n");
    let builder = sims.iter().fold(builder, |builder, sim| builder.provider(sim.dialect().provider_id(), sim));
    let gateway = builder.start().await;
    for sim in &sims {
        for (fault, how) in [
            (SimFault::Timeout, How::Whole),
            (SimFault::StallAfterTokens, How::Events),
            (SimFault::StallAfterTokens, How::Array),
        ] {
            sim.forget_calls();
            let model = format!("{}/sim-{}", sim.dialect().provider_id(), fault.name());
            let url = format!("{}{}", gateway.url, how.path(&model));
            let (headers, request) = ([("x-goog-api-key", KEY)], asking("one two three four five six").to_string());
            let reading = async {
                let mut exchange = client::open("POST", &url, &headers, request.as_bytes()).await?;
                while exchange.piece().await.is_some() {}
                Ok::<(), std::io::Error>(())
            };
            // The request has arrived, and with it what the provider has to say before it falls silent.
            let arrived = async {
                assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            tokio::select! {
                ended = reading => panic!("it ended by itself: {ended:?}"),
                () = arrived => {}
            }
            let left = Instant::now();
            let noticed = sim.until(PATIENCE, |calls| calls.iter().all(|call| call.client_gone.is_some()));
            assert!(noticed.await, "{fault:?} {how:?} {:?} after {:?}", sim.dialect(), left.elapsed());
            assert_eq!(sim.calls().len(), 1, "{fault:?} {how:?} {:?}", sim.dialect());
        }
    }
}
