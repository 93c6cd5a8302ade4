//! How well the semantic cache tells what means the same from what only sounds like it, on a set of questions made by hand.
//!
//! The embedding is the toy of `orbyt::sim`: it knows letters, no meaning. So the figures say how the cache behaves at a threshold, not how
//! well it does with a model that was trained for this.

use orbyt::dialect::openai_chat::question::question;
use orbyt::sim::embedding::embed;
use orbyt::store::memory::MemoryVectors;
use orbyt::store::ports::vectors::{Place, Vector, Vectors};
use serde::Deserialize;

/// A question, other words for it, and others that sound like it.
#[derive(Deserialize)]
pub struct Group {
    pub question: String,
    pub same: Vec<String>,
    pub other: Vec<String>,
}

/// All groups.
pub fn groups() -> Vec<Group> {
    #[derive(Deserialize)]
    struct File {
        group: Vec<Group>,
    }
    toml::from_str::<File>(include_str!("questions.toml")).unwrap().group
}

/// What came of asking everything else with the answers to the groups' questions in the cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Other words that got the answer to their question.
    pub right: usize,
    /// Other words that got the answer to another group's question.
    pub astray: usize,
    /// Near misses that got an answer: none of them should.
    pub wrong: usize,
}

/// What the index does at a threshold.
pub async fn measure(groups: &[Group], threshold: f32) -> Outcome {
    let vectors = MemoryVectors::new(1000);
    // As in the gateway: the numbers of a text are no part of what is compared.
    let located = |text: &str| {
        let body = serde_json::json!({"messages": [{"role": "user", "content": text}]}).to_string();
        let place = Place { owner: [0; 32], scope: question(body.as_bytes(), false).unwrap().rest };
        (place, Vector::of(embed(text)).unwrap())
    };
    for (number, group) in groups.iter().enumerate() {
        let (place, vector) = located(&group.question);
        vectors.put(place, vector, [u8::try_from(number).unwrap(); 32], u64::MAX, 0).await;
    }
    let mut outcome = Outcome::default();
    for (number, group) in groups.iter().enumerate() {
        for (texts, is_same) in [(&group.same, true), (&group.other, false)] {
            for text in texts {
                let (place, vector) = located(text);
                let near = vectors.nearest(&place, &vector, 0).await.filter(|near| near.similarity >= threshold);
                match near {
                    Some(near) if is_same && usize::from(near.key[0]) == number => outcome.right += 1,
                    Some(_) if is_same => outcome.astray += 1,
                    Some(_) => outcome.wrong += 1,
                    None => {}
                }
            }
        }
    }
    outcome
}
