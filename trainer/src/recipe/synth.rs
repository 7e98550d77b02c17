//! The recipe of a set of samples: read, resolved and checked as that of a run is.

use std::path::{Path, PathBuf};

use datasets::synth::config::{
    ConsistencyConfig, DifficultyConfig, EndpointConfig, JudgeConfig, LocalConfig, StepConfig, SynthConfig,
    TeacherConfig,
};
use datasets::{DataError, SourceConfig};

use super::error::{Problem, RecipeError};
use super::load::{self, run_name};
use super::ranges::Ranges;

/// Reads the recipe of a set, with overrides of the form `KEY=VALUE` laid over it.
///
/// # Errors
/// [`RecipeError`] with the place in the file or the override.
pub fn load_synth(path: &Path, overrides: &[String]) -> Result<SynthConfig, RecipeError> {
    let (mut config, _, source) = load::typed::<SynthConfig>(path, overrides)?;
    if config.output.as_os_str().is_empty() {
        config.output = Path::new("data").join(run_name(path));
        // Not beside the recipe, which may not be the user's.
        let current = std::env::current_dir().map_err(|source| RecipeError::Read { path: ".".into(), source })?;
        config.output = load::absolute(&current, &config.output)?;
    }
    let SynthConfig { documents, seeds, teacher, steps, held_out, difficulty, screen, output, .. } = &mut config;
    let mut paths: Vec<(String, &mut PathBuf)> = vec![("output".to_owned(), output)];
    paths
        .extend(documents.iter_mut().enumerate().map(|(i, source)| (format!("documents[{i}].path"), &mut source.path)));
    paths.extend(held_out.iter_mut().enumerate().map(|(i, path)| (format!("held_out[{i}]"), path)));
    paths.extend(screen.key.as_mut().map(|key| ("screen.key".to_owned(), key)));
    paths.extend(files("seeds", seeds));
    for (index, step) in steps.iter_mut().enumerate() {
        let key = |name: &str| format!("steps[{index}].{name}");
        match step {
            StepConfig::Personas(config) => {
                paths.extend(config.file.as_mut().map(|file| (key("personas.file"), file)));
            }
            StepConfig::Template(config) => paths.push((key("template.schema"), &mut config.schema)),
            StepConfig::SelfReplay(config) => paths.extend(files(&key("self_replay.prompts"), &mut config.prompts)),
            _ => {}
        }
    }
    let teacher = teacher.as_mut().and_then(|teacher| teacher.local.as_mut()).map(|local| ("teacher.local", local));
    let learner = difficulty.as_mut().map(|difficulty| ("difficulty.model", &mut difficulty.model));
    for (key, local) in teacher.into_iter().chain(learner) {
        source.resolve_base(&format!("{key}.base"), &mut local.base)?;
        paths.extend(local.adapter.as_mut().map(|path| (format!("{key}.adapter"), path)));
    }
    source.resolve(paths)?;
    source.check_ranges(problems(&config))?;
    Ok(config)
}

/// The files that sources name, with their keys.
fn files<'a>(key: &str, sources: &'a mut [SourceConfig]) -> Vec<(String, &'a mut PathBuf)> {
    let files = sources.iter_mut().enumerate();
    files.filter_map(|(index, source)| Some((format!("{key}[{index}].path"), source.path.as_mut()?))).collect()
}

fn problems(config: &SynthConfig) -> Vec<Problem> {
    let mut ranges = Ranges::default();
    if let Some(teacher) = &config.teacher {
        check_teacher(&mut ranges, teacher);
    }
    let budget = config.budget;
    ranges.check_some("budget.requests", budget.requests, "at least 1, or null", |count| count > 0);
    ranges.check_some("budget.tokens", budget.tokens, "at least 1, or null", |count| count > 0);
    ranges.check_some("budget.money", budget.money, "a number above 0, or null", |money| money > 0.0);
    ranges.sources(&config.seeds, "seeds");
    ranges.check("steps", config.steps.len(), "at least one step", !config.steps.is_empty());
    for (index, step) in config.steps.iter().enumerate() {
        check_step(&mut ranges, config, index, step);
    }
    if let Err(DataError::Config { key, got, expected }) = config.filters.validate("filters") {
        ranges.note(&key, &got, expected);
    }
    if let Some(ConsistencyConfig { answers, share, f1, temperature }) = config.consistency {
        ranges.check("consistency.answers", answers, "at least 1", answers > 0);
        let is_share = |value: f64| value > 0.0 && value <= 1.0;
        ranges.check("consistency.share", share, "a share above 0, at most 1", is_share(share));
        ranges.check("consistency.f1", f1, "a number above 0, at most 1", is_share(f1));
        let varies = is_temperature(temperature) && (answers == 1 || temperature > 0.0);
        ranges.check("consistency.temperature", temperature, "above 0 to 5, so that the answers differ", varies);
    }
    if let Some(JudgeConfig { faithfulness, relevance, .. }) = config.judge {
        ranges.check("judge.faithfulness", faithfulness, "a grade from 1 to 5", (1..=5).contains(&faithfulness));
        ranges.check("judge.relevance", relevance, "a grade from 1 to 5", (1..=5).contains(&relevance));
    }
    if let Some(DifficultyConfig { model, least, most }) = &config.difficulty {
        ranges.check("difficulty.least", *least, "a number of at least 0", *least >= 0.0 && least.is_finite());
        ranges.check_some("difficulty.most", *most, "a number above least, or null", |most| most > *least);
        ranges.check(
            "difficulty.model.batch_size",
            model.batch_size,
            "1 to 256",
            (1..=256).contains(&model.batch_size),
        );
    }
    let asks = config.consistency.is_some() || config.judge.is_some();
    if config.teacher.is_none() && asks {
        ranges.check("teacher", "null", "a teacher, since consistency and judge ask one", false);
    }
    ranges.into_problems()
}

fn check_teacher(ranges: &mut Ranges, teacher: &TeacherConfig) {
    let count = usize::from(teacher.endpoint.is_some()) + usize::from(teacher.local.is_some());
    ranges.check("teacher", count, "one of endpoint and local", count == 1);
    if let Some(endpoint) = &teacher.endpoint {
        let EndpointConfig { url, concurrency, requests_per_minute, timeout, retries, price, .. } = endpoint;
        let is_address =
            ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
        ranges.check("teacher.endpoint.url", url, "an address such as http://127.0.0.1:8080", is_address);
        ranges.check("teacher.endpoint.concurrency", *concurrency, "1 to 256", (1..=256).contains(concurrency));
        let above_0 = |value: f64| value > 0.0 && value.is_finite();
        ranges.check_some("teacher.endpoint.requests_per_minute", *requests_per_minute, "a number above 0", above_0);
        ranges.check(
            "teacher.endpoint.timeout",
            *timeout,
            "seconds, above 0 and at most 86400",
            above_0(*timeout) && *timeout <= 86400.0,
        );
        ranges.check("teacher.endpoint.retries", *retries, "0 to 20", *retries <= 20);
        let sound = |value: f64| value >= 0.0 && value.is_finite();
        ranges.check("teacher.endpoint.price.input", price.input, "a number of at least 0", sound(price.input));
        ranges.check("teacher.endpoint.price.output", price.output, "a number of at least 0", sound(price.output));
    }
    if let Some(LocalConfig { batch_size, .. }) = &teacher.local {
        ranges.check("teacher.local.batch_size", *batch_size, "1 to 256", (1..=256).contains(batch_size));
    }
}

fn is_temperature(value: f64) -> bool {
    (0.0..=5.0).contains(&value)
}

fn check_step(ranges: &mut Ranges, config: &SynthConfig, index: usize, step: &StepConfig) {
    let name = format!("steps[{index}].{}", step.name());
    let key = |field: &str| format!("{name}.{field}");
    if config.teacher.is_none() && step.asks() {
        ranges.check("teacher", "null", "a teacher, since a step asks one", false);
    }
    let is_first = index == 0;
    let starts = |ranges: &mut Ranges| {
        let expected = "a step before it that makes samples, or seeds";
        ranges.check(&name, "nothing to begin with", expected, !is_first || !config.seeds.is_empty());
    };
    let positive = |ranges: &mut Ranges, field: &str, value: usize| {
        ranges.check(&key(field), value, "at least 1", value > 0);
    };
    let share = |ranges: &mut Ranges, field: &str, value: f64| {
        ranges.check(&key(field), value, "a number from 0 to 1", (0.0..=1.0).contains(&value));
    };
    let temperature = |ranges: &mut Ranges, value: f64| {
        ranges.check(&key("temperature"), value, "a number from 0 to 5", is_temperature(value));
    };
    match step {
        StepConfig::Grounded(step) => {
            let expected = "at least one source, since the step asks about documents";
            ranges.check("documents", config.documents.len(), expected, !config.documents.is_empty());
            positive(ranges, "per_passage", step.per_passage);
            ranges.check(&key("passage_tokens"), step.passage_tokens, "at least 16", step.passage_tokens >= 16);
            let unanswerable = (0.0..1.0).contains(&step.unanswerable);
            ranges.check(&key("unanswerable"), step.unanswerable, "a share from 0 to below 1", unanswerable);
            let roundtrip = |f1: f64| (0.0..=1.0).contains(&f1);
            ranges.check_some(&key("roundtrip"), step.roundtrip, "a number from 0 to 1, or null", roundtrip);
            temperature(ranges, step.temperature);
            let whole = step.prompt.contains("{context}") && step.prompt.contains("{question}");
            ranges.check(&key("prompt"), &step.prompt, "a text with {context} and {question}", whole);
        }
        StepConfig::SelfInstruct(step) => {
            ranges.check("seeds", config.seeds.len(), "at least one source", !config.seeds.is_empty());
            positive(ranges, "count", step.count);
            positive(ranges, "examples", step.examples);
            positive(ranges, "max_tokens", step.max_tokens);
            share(ranges, "most_alike", step.most_alike);
            temperature(ranges, step.temperature);
        }
        StepConfig::Evolve(step) => {
            starts(ranges);
            ranges.check(&key("rounds"), step.rounds, "1 to 10", (1..=10).contains(&step.rounds));
            positive(ranges, "max_tokens", step.max_tokens);
            share(ranges, "wider", step.wider);
            temperature(ranges, step.temperature);
        }
        StepConfig::Magpie(step) => {
            positive(ranges, "count", step.count);
            positive(ranges, "max_tokens", step.max_tokens);
            temperature(ranges, step.temperature);
            let is_known = config.teacher.as_ref().is_none_or(|teacher| teacher.local.is_some());
            let expected = "what the server's template puts before a user's turn, such as \"<|im_start|>user\\n\"";
            ranges.check(&key("prefix"), "null", expected, is_known || step.prefix.is_some());
        }
        StepConfig::Paraphrase(step) => {
            starts(ranges);
            positive(ranges, "per_sample", step.per_sample);
            temperature(ranges, step.temperature);
        }
        StepConfig::Translate(step) => {
            starts(ranges);
            ranges.check(&key("to"), &step.to, "fr or en", ["fr", "en"].contains(&step.to.as_str()));
        }
        StepConfig::Personas(step) => {
            let named = !step.personas.is_empty() || step.file.is_some();
            ranges.check(&key("personas"), "nobody", "at least one person, or a file of them", named);
            positive(ranges, "per_persona", step.per_persona);
            positive(ranges, "max_tokens", step.max_tokens);
            temperature(ranges, step.temperature);
        }
        StepConfig::Template(step) => {
            if let Err(DataError::Config { key, got, expected }) = step.validate(&name) {
                ranges.note(&key, &got, expected);
            }
        }
        StepConfig::SelfReplay(step) => {
            ranges.check(&key("prompts"), step.prompts.len(), "at least one source", !step.prompts.is_empty());
            ranges.sources(&step.prompts, &key("prompts"));
            positive(ranges, "max_tokens", step.max_tokens);
            temperature(ranges, step.temperature);
        }
    }
}
