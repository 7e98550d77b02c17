//! The engine itself as a teacher, and as the model that will learn a set: a base, with or without an adapter, that answers
//! in batches and says how hard it finds given answers.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use datasets::synth::config::LocalConfig;
use datasets::synth::select::Scorer;
use datasets::synth::teacher::{Completion, Failure, Hands, Identity, Prompt, Request, Teacher};
use datasets::{DataError, Hub, Message, Role};

use crate::cluster::{Collective, of_peer};
use crate::device;
use crate::error::TrainError;
use crate::eval::Subject;
use crate::eval::log_likelihood::{self, Sequence, log_likelihoods_together};
use crate::model::generate::{Sampling, generate_each};
use crate::model::{BaseModel, Decoder, adapter};
use crate::recipe::ModelConfig;

/// A model that answers in this program.
pub struct LocalTeacher {
    base: BaseModel,
    decoder: Decoder,
    device: Device,
    identity: Identity,
    batch: usize,
}

/// Loads the teacher and the learner that a recipe names. Where both are the same model, it is loaded once: neither
/// changes it, and how many requests a teacher answers together is nothing to a learner.
///
/// # Errors
/// As [`LocalTeacher::open`].
pub fn open_both(
    teacher: Option<&LocalConfig>,
    learner: Option<&LocalConfig>,
    hub: &Hub,
) -> Result<[Option<Arc<LocalTeacher>>; 2], TrainError> {
    let open = |config: &LocalConfig| LocalTeacher::open(config, hub).map(Arc::new);
    let opened = teacher.map(open).transpose()?;
    let is_same = teacher.zip(learner).is_some_and(|(one, other)| {
        (&one.base, &one.revision, &one.adapter) == (&other.base, &other.revision, &other.adapter)
    });
    let learner = if is_same { opened.clone() } else { learner.map(open).transpose()? };
    Ok([opened, learner])
}

/// Where a local teacher runs.
pub(crate) const DEVICE: &str = "flex";

impl LocalTeacher {
    /// Loads the model that a recipe names.
    ///
    /// # Errors
    /// When a file of the base or of the adapter cannot be had or read.
    pub fn open(config: &LocalConfig, hub: &Hub) -> Result<Self, TrainError> {
        let model = ModelConfig { revision: config.revision.clone(), ..ModelConfig::new(&config.base) };
        let device = device::open(DEVICE)?;
        let base = BaseModel::open(&model, None, hub)?;
        let mut decoder = base.decoder(&device)?;
        // Answers are kept under what they follow from, so a file is named by its content, not by its place.
        let mut revision = base.digest()?;
        if let Some(folder) = &config.adapter {
            adapter::load(&mut decoder, folder, &device)?;
            revision = format!("{revision}+{}", adapter::digest(folder)?);
        }
        let name = Path::new(&config.base).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let identity = Identity { model: name, revision: Some(revision), at: "local".to_owned() };
        Ok(Self { base, decoder, device, identity, batch: config.batch_size })
    }

    /// How many tokens a text has.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.base.tokenizer.encode(text).map_or(0, |ids| ids.len())
    }

    /// A request as tokens.
    fn prompt(&self, request: &Request) -> Result<Vec<u32>, DataError> {
        match &request.prompt {
            Prompt::Chat(messages) => self.base.tokenizer.render_prompt(messages),
            Prompt::Text(text) => self.base.tokenizer.encode_document(text),
        }
    }
}

impl Teacher for LocalTeacher {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn hands(&self) -> Hands {
        Hands { threads: 1, batch: self.batch, first_alone: false }
    }

    fn user_prefix(&self) -> Option<String> {
        // No template writes this by itself.
        const MARK: &str = "\u{e000}";
        let turn = Message { role: Role::User, content: MARK.to_owned() };
        let rendered = self.base.tokenizer.template().ok()?.render(&[turn], false).ok()?;
        rendered.split_once(MARK).map(|(before, _)| before.to_owned())
    }

    fn complete(&self, requests: &[&Request]) -> Vec<Result<Completion, Failure>> {
        let longest = self.decoder.config.max_position_embeddings;
        let prompts: Vec<Result<Vec<u32>, Failure>> = requests
            .iter()
            .map(|request| match self.prompt(request) {
                Ok(ids) if ids.is_empty() => Err(Failure::Request("the prompt is empty".to_owned())),
                Ok(ids) if ids.len() >= longest => {
                    Err(Failure::Request(format!("the prompt has {} tokens, and the model reads {longest}", ids.len())))
                }
                Ok(ids) => Ok(ids),
                Err(error) => Err(Failure::Request(error.to_string())),
            })
            .collect();
        let sound: Vec<(&Request, &Vec<u32>)> =
            requests.iter().zip(&prompts).filter_map(|(request, ids)| Some((*request, ids.as_ref().ok()?))).collect();
        let samplings: Vec<Sampling> = sound
            .iter()
            .map(|(Request { sampling, .. }, _)| Sampling {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                seed: sampling.seed,
                max_new_tokens: sampling.max_tokens,
            })
            .collect();
        let ids: Vec<Vec<u32>> = sound.iter().map(|(_, ids)| (*ids).clone()).collect();
        let tokenizer = &self.base.tokenizer;
        let decode = |ids: &[u32]| tokenizer.decode(ids, true).unwrap_or_default();
        let mut so_far: Vec<Vec<u32>> = vec![Vec::new(); ids.len()];
        let mut ended = vec![false; ids.len()];
        let on_token = |prompt: usize, id: u32| {
            so_far[prompt].push(id);
            let stop = &sound[prompt].0.sampling.stop;
            if !stop.is_empty() {
                let text = decode(&so_far[prompt]);
                ended[prompt] = stop.iter().any(|stop| text.contains(stop.as_str()));
            }
            !ended[prompt]
        };
        let eos = tokenizer.eos_token_ids();
        let generated = generate_each(&self.decoder, &ids, &samplings, eos, &self.device, on_token);
        let mut completions =
            generated.into_iter().zip(&sound).zip(ended).map(|((generated, (request, ids)), ended)| {
                let mut text = decode(&generated.ids);
                let end = request.sampling.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
                text.truncate(end.unwrap_or(text.len()));
                let (prompt_tokens, completion_tokens) = (ids.len() as u64, generated.ids.len() as u64);
                Completion { text, finished: generated.stopped || ended, prompt_tokens, completion_tokens }
            });
        prompts
            .iter()
            .map(|prompt| {
                prompt
                    .as_ref()
                    .map_err(Clone::clone)
                    .map(|_| completions.next().expect("every sound prompt has its completion"))
            })
            .collect()
    }
}

/// The model that will learn a set, read on by all ranks.
#[derive(Clone, Copy)]
pub struct Learner<'a> {
    /// The model; every rank has it.
    pub model: &'a LocalTeacher,
    /// The ranks.
    pub collective: &'a dyn Collective,
}

impl Scorer for Learner<'_> {
    fn losses(&self, conversations: &[&[Message]], done: &mut dyn FnMut(usize)) -> Result<Vec<Option<f64>>, DataError> {
        let Self { model: LocalTeacher { base, decoder, device, .. }, collective } = *self;
        let (tokenizer, longest) = (&base.tokenizer, decoder.config.max_position_embeddings);
        let mut requests = Vec::new();
        let mut places = Vec::with_capacity(conversations.len());
        for conversation in conversations {
            let answer = conversation.iter().rposition(|message| message.role == Role::Assistant);
            let Some((answer, before)) = answer.map(|at| (&conversation[at], &conversation[..at])) else {
                places.push(None);
                continue;
            };
            let mut input_ids = tokenizer.render_prompt(before)?;
            let start = input_ids.len();
            input_ids.extend(tokenizer.encode(&answer.content)?);
            let is_readable = start > 0 && input_ids.len() > start && input_ids.len() <= longest;
            places.push(is_readable.then_some(requests.len()));
            if is_readable {
                let sequences = vec![Sequence { input_ids, start }];
                requests.push(log_likelihood::Request { sequences, greedy: false });
            }
        }
        let subject = Subject { decoder, tokenizer, device, collective };
        let mut progress = |count| {
            done(count);
            Ok(())
        };
        let scored = log_likelihoods_together(&subject, &requests, &mut progress);
        let scored = scored.map_err(|error| of_peer(collective, error))?;
        let loss = |place: usize| -scored[place].sums[0] / requests[place].scored() as f64;
        Ok(places.into_iter().map(|place| place.map(loss)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teacher_that_is_the_learner_too_is_loaded_once() {
        let fixture = |name: &str| format!("{}/../tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        let config =
            |name: &str, batch_size| LocalConfig { base: fixture(name), revision: None, adapter: None, batch_size };
        let open = |teacher: &LocalConfig, learner: &LocalConfig| {
            let [teacher, learner] = open_both(Some(teacher), Some(learner), &Hub::from_env()).unwrap();
            (teacher.unwrap(), learner.unwrap())
        };
        let own = config("tiny-llama", 4);
        let (teacher, learner) = open(&own, &config("tiny-llama", 16));
        assert!(Arc::ptr_eq(&teacher, &learner) && teacher.hands().batch == 4);
        // Another base, and another adapter, is another model.
        let adapter = Some(fixture("parity/adapter_final").into());
        for other in [config("tiny-llama-tied", 4), LocalConfig { adapter, ..own.clone() }] {
            let (teacher, learner) = open(&own, &other);
            assert!(!Arc::ptr_eq(&teacher, &learner));
            assert_ne!(teacher.identity().revision, learner.identity().revision);
        }
        let [none, alone] = open_both(None, Some(&own), &Hub::from_env()).unwrap();
        assert!(none.is_none() && alone.is_some());
    }
}
