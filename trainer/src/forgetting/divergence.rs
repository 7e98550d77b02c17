//! How far the adapted model's next token is from the base's, on general text.
//!
//! The Kullback-Leibler divergence sees what no question asks: it is 0 only where the whole distribution is the same.

use datasets::probes::ProbeItem;
use serde::{Deserialize, Serialize};

use crate::cluster::spread;
use crate::device::{indices, read};
use crate::error::TrainError;
use crate::eval::Subject;
use crate::eval::statistics::{Paired, resample};
use crate::model::{Context, Decoder, Segments};

/// The most tokens of a text that are compared.
pub const LONGEST: usize = 1024;

/// One text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextDivergence {
    /// The item.
    pub id: String,
    /// The text's language, where its file tells.
    pub lang: Option<String>,
    /// The sum over its tokens of `KL(base ‖ adapted)`, in nats.
    pub sum: f64,
    /// How many tokens.
    pub tokens: usize,
}

/// The texts of a language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The language; none where the files do not tell.
    pub lang: Option<String>,
    /// How many texts.
    pub texts: usize,
    /// How many tokens.
    pub tokens: usize,
    /// The mean `KL(base ‖ adapted)`, in nats per token.
    pub kl: f64,
    /// Its 95 % interval, by the bootstrap over texts.
    pub interval: (f64, f64),
}

/// Compares both models on the texts among the items.
///
/// # Errors
/// When a text cannot be tokenised; whatever `progress` ends the work with.
pub fn divergences(
    subject: &Subject<'_>,
    base: &Decoder,
    items: &[ProbeItem],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<TextDivergence>, TrainError> {
    let texts: Vec<(&ProbeItem, &str)> = items.iter().filter_map(|item| Some((item, item.question.text()?))).collect();
    spread(subject.collective, &texts, |texts| compare(subject, base, texts, progress))
}

fn compare(
    subject: &Subject<'_>,
    base: &Decoder,
    texts: &[(&ProbeItem, &str)],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<TextDivergence>, TrainError> {
    let Subject { decoder, tokenizer, device, .. } = subject;
    let longest = decoder.config.max_position_embeddings.min(LONGEST);
    let mut found = Vec::with_capacity(texts.len());
    for (item, text) in texts {
        let mut input_ids = tokenizer.encode_document(text)?;
        input_ids.truncate(longest);
        let segments = Segments::new(&[input_ids.len()], &[0], &decoder.config.inverse_frequencies(), device);
        let hidden = |decoder: &Decoder| {
            decoder.forward(indices(input_ids.iter().copied(), device), &segments, Context::default())
        };
        let sums = read(decoder.divergences(hidden(decoder), hidden(base), None));
        found.push(TextDivergence {
            id: item.id.clone(),
            lang: item.lang.clone(),
            sum: sums.iter().copied().map(f64::from).sum(),
            tokens: sums.len(),
        });
        progress(found.len())?;
    }
    Ok(found)
}

/// The texts by language, in the order of their first ones.
pub fn by_language(texts: &[TextDivergence]) -> Vec<(Option<&str>, Vec<&TextDivergence>)> {
    let mut groups: Vec<(Option<&str>, Vec<&TextDivergence>)> = Vec::new();
    for text in texts {
        let lang = text.lang.as_deref();
        match groups.iter_mut().find(|group| group.0 == lang) {
            Some(group) => group.1.push(text),
            None => groups.push((lang, vec![text])),
        }
    }
    groups
}

/// The parts of the mean per token.
pub fn paired(texts: &[&TextDivergence]) -> Paired {
    texts.iter().map(|text| (text.sum, text.tokens as f64)).collect()
}

/// The figures of each language.
pub fn summarise(texts: &[TextDivergence]) -> Vec<Divergence> {
    let summary = |(lang, texts): (Option<&str>, Vec<&TextDivergence>)| {
        let tokens = texts.iter().map(|text| text.tokens).sum();
        Divergence {
            lang: lang.map(str::to_owned),
            texts: texts.len(),
            tokens,
            kl: texts.iter().map(|text| text.sum).sum::<f64>() / tokens as f64,
            interval: resample(&[paired(&texts)]).interval(0.95),
        }
    };
    by_language(texts).into_iter().map(summary).collect()
}
