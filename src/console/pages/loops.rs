//! What an agent did over and over: the same tool called with the same arguments in several steps of a session; and where it is not known what was
//! called, prompts that look alike.

use super::said::{Call, calls, of_body};
use super::visit::Visit;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::payloads::Payloads;
use crate::domain::{LedgerRow, Money};
use crate::store::ports::database::Access;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many steps that are alike look like a loop.
const ENOUGH: usize = 3;
/// So many steps' payloads are looked up in the database, the last ones; those in memory all are.
const MOST_LOOKED_UP: usize = 100;

/// The tools that a step called; `None` where its answer is not kept, or not for this visitor to see.
pub(super) type Tools = Option<Vec<Call>>;

/// The tools of each step.
pub(super) async fn tools(shared: &Shared, visit: &Visit, access: &Access, steps: &[LedgerRow<'_>]) -> Vec<Tools> {
    let mut found: Vec<Option<Arc<Payloads>>> = Vec::with_capacity(steps.len());
    let first = steps.len().saturating_sub(MOST_LOOKED_UP);
    for (at, row) in steps.iter().enumerate() {
        if !visit.viewer.can(Operation::SeePayloads, &row.org) {
            found.push(None);
            continue;
        }
        let mut payloads = shared.deps.payloads.get(&row.id);
        if let (None, Some(archive)) = (&payloads, shared.deps.archive.as_ref().filter(|_| at >= first)) {
            // Without it the step is one of which nothing is known.
            payloads = archive.payloads(access, row.id).await.ok().flatten().map(Arc::new);
        }
        found.push(payloads);
    }
    // Reading them takes a while, and others have this thread too.
    let read = tokio::task::spawn_blocking(move || found.iter().map(|it| of(it.as_deref()?)).collect());
    read.await.unwrap_or_else(|_| vec![None; steps.len()])
}

fn of(payloads: &Payloads) -> Tools {
    Some(calls(of_body(payloads.response.as_ref()?.body.text()?)))
}

/// A call that was made again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub call: Call,
    /// In which steps, from 0.
    pub steps: Vec<usize>,
    /// What those after the first have cost, as far as that is known.
    pub cost: Money,
}

/// The calls that were made in several steps, those made most often first.
pub(super) fn repeated(tools: &[Tools], costs: &[Option<Money>]) -> Vec<Repeated> {
    let mut by_call = BTreeMap::<&Call, Vec<usize>>::new();
    for (step, calls) in tools.iter().enumerate() {
        for call in calls.iter().flatten() {
            let steps = by_call.entry(call).or_default();
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
    }
    let enough = by_call.into_iter().filter(|(_, steps)| steps.len() >= ENOUGH);
    let mut found: Vec<Repeated> = enough
        .map(|(call, steps)| {
            let cost = steps.iter().skip(1).filter_map(|step| *costs.get(*step)?).sum();
            Repeated { call: call.clone(), steps, cost }
        })
        .collect();
    found.sort_by_key(|it| std::cmp::Reverse(it.steps.len()));
    found
}

/// Where several requests in a row are alike, from the first to the last: the same model asked with as long a prompt, again and again. Only where
/// it is not known what they called.
pub(super) fn alike(steps: &[LedgerRow<'_>], tools: &[Tools]) -> Vec<(usize, usize)> {
    let is_unknown = |at: usize| tools.get(at).is_none_or(Option::is_none);
    let goes_on = |at: usize| {
        let (Some(one), Some(next)) = (at.checked_sub(1).and_then(|at| steps.get(at)), steps.get(at)) else {
            return false;
        };
        let tokens = |row: &LedgerRow<'_>| row.usage.map(|usage| usage.prompt_tokens).filter(|tokens| *tokens > 0);
        is_unknown(at - 1)
            && is_unknown(at)
            && one.requested_model == next.requested_model
            && tokens(one).is_some()
            && tokens(one) == tokens(next)
    };
    let (mut found, mut start) = (Vec::new(), 0);
    for at in 1..=steps.len() {
        if !goes_on(at) {
            if at - start >= ENOUGH {
                found.push((start, at - 1));
            }
            start = at;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> Call {
        Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn the_same_call_in_three_steps_is_a_loop_also_when_others_come_between() {
        let (look, find) = (call("look", "{}"), call("find", "{\"q\":1}"));
        let tools = [
            Some(vec![look.clone(), look.clone()]),
            Some(vec![find.clone(), look.clone()]),
            None,
            Some(vec![call("find", "{\"q\":2}")]),
            Some(vec![look.clone(), find.clone()]),
        ];
        let costs: Vec<Option<Money>> = (1..=5).map(|picos| Some(Money::from_picos(picos))).collect();
        let expected = Repeated { call: look, steps: vec![0, 1, 4], cost: Money::from_picos(7) };
        assert_eq!(repeated(&tools, &costs), [expected]);
        assert!(repeated(&tools[..4], &costs).is_empty());
    }
}
