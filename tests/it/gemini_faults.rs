//! What becomes of a provider's work when one of Google's clients hangs up.

use crate::faults::hangs_up;
use crate::gateway::{Gateway, KEY};
use crate::gemini::{How, asking};
use orbyt::sim::{Sim, SimDialect, SimFault};

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
            let request = asking("one two three four five six").to_string();
            hangs_up(sim, &url, ("x-goog-api-key", KEY), request.as_bytes()).await;
            assert_eq!(sim.calls().len(), 1, "{fault:?} {how:?} {:?}", sim.dialect());
        }
    }
}
