//! The recipe of a set of samples: read, resolved and checked as that of a run is.

use std::path::{Path, PathBuf};

use datasets::synth::config::{EndpointConfig, GroundedConfig, LocalConfig, StepConfig, SynthConfig};

use super::error::RecipeError;
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
    if let Some(local) = &mut config.teacher.local {
        source.resolve_base("teacher.local.base", &mut local.base)?;
    }
    let documents = config.documents.iter_mut().enumerate();
    let mut paths: Vec<(String, &mut PathBuf)> =
        documents.map(|(index, documents)| (format!("documents[{index}].path"), &mut documents.path)).collect();
    let adapter = config.teacher.local.as_mut().and_then(|local| local.adapter.as_mut());
    paths.extend(adapter.map(|path| ("teacher.local.adapter".to_owned(), path)));
    paths.push(("output".to_owned(), &mut config.output));
    source.resolve(paths)?;
    source.check_ranges(problems(&config))?;
    Ok(config)
}

fn problems(config: &SynthConfig) -> Vec<super::error::Problem> {
    let mut ranges = Ranges::default();
    let teacher = &config.teacher;
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
    let budget = config.budget;
    ranges.check_some("budget.requests", budget.requests, "at least 1, or null", |count| count > 0);
    ranges.check_some("budget.tokens", budget.tokens, "at least 1, or null", |count| count > 0);
    ranges.check_some("budget.money", budget.money, "a number above 0, or null", |money| money > 0.0);
    let sources = config.documents.len();
    ranges.check("documents", sources, "at least one source", sources > 0);
    ranges.check("steps", config.steps.len(), "at least one step", !config.steps.is_empty());
    for (index, step) in config.steps.iter().enumerate() {
        step_problems(&mut ranges, index, step);
    }
    for (key, (least, most)) in [
        ("filters.question_words", config.filters.question_words),
        ("filters.answer_words", config.filters.answer_words),
    ] {
        ranges.check(key, (least, most), "[least, most], the least not above the most", least <= most);
    }
    ranges.into_problems()
}

fn step_problems(ranges: &mut Ranges, index: usize, step: &StepConfig) {
    let StepConfig { grounded } = step;
    let Some(config) = grounded else {
        ranges.check(&format!("steps[{index}]"), "nothing", "a step: grounded", false);
        return;
    };
    let GroundedConfig { per_passage, passage_tokens, unanswerable, roundtrip, prompt, temperature, .. } = config;
    let key = |name: &str| format!("steps[{index}].grounded.{name}");
    ranges.check(&key("per_passage"), *per_passage, "at least 1", *per_passage > 0);
    ranges.check(&key("passage_tokens"), *passage_tokens, "at least 16", *passage_tokens >= 16);
    ranges.check(&key("unanswerable"), *unanswerable, "a share from 0 to below 1", (0.0..1.0).contains(unanswerable));
    ranges.check_some(&key("roundtrip"), *roundtrip, "a number from 0 to 1, or null", |f1| (0.0..=1.0).contains(&f1));
    ranges.check(&key("temperature"), *temperature, "a number from 0 to 5", (0.0..=5.0).contains(temperature));
    let whole = prompt.contains("{context}") && prompt.contains("{question}");
    ranges.check(&key("prompt"), prompt, "a text with {context} and {question}", whole);
}
