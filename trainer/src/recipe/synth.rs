//! The recipe of a set of samples: read, resolved and checked as that of a run is.

use std::path::{Path, PathBuf};

use datasets::synth::config::{
    EndpointConfig, EvolveConfig, GroundedConfig, LocalConfig, MagpieConfig, SelfInstructConfig, StepConfig,
    SynthConfig,
};

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
    let seeds = config.seeds.iter_mut().enumerate();
    paths.extend(seeds.filter_map(|(index, seeds)| Some((format!("seeds[{index}].path"), seeds.path.as_mut()?))));
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
    ranges.check("steps", config.steps.len(), "at least one step", !config.steps.is_empty());
    for (index, step) in config.steps.iter().enumerate() {
        step_problems(&mut ranges, config, index, step);
    }
    for (key, (least, most)) in [
        ("filters.question_words", config.filters.question_words),
        ("filters.answer_words", config.filters.answer_words),
    ] {
        ranges.check(key, (least, most), "[least, most], the least not above the most", least <= most);
    }
    ranges.into_problems()
}

fn step_problems(ranges: &mut Ranges, config: &SynthConfig, index: usize, step: &StepConfig) {
    let StepConfig { grounded, self_instruct, evolve, magpie, rewrite } = step;
    let given = [grounded.is_some(), self_instruct.is_some(), evolve.is_some(), magpie.is_some(), rewrite.is_some()];
    let count = given.iter().filter(|given| **given).count();
    let key = |name: &str| format!("steps[{index}]{name}");
    ranges.check(&key(""), count, "one of grounded, self_instruct, evolve, magpie, rewrite", count == 1);
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let warm = |value: f64| (0.0..=5.0).contains(&value);
    let mut temperature = |name: &str, value: f64| {
        ranges.check(&key(&format!(".{name}.temperature")), value, "a number from 0 to 5", warm(value));
    };
    if let Some(config) = grounded {
        temperature("grounded", config.temperature);
    }
    if let Some(config) = self_instruct {
        temperature("self_instruct", config.temperature);
    }
    if let Some(config) = evolve {
        temperature("evolve", config.temperature);
    }
    if let Some(config) = magpie {
        temperature("magpie", config.temperature);
    }
    if let Some(config) = rewrite {
        temperature("rewrite", config.temperature);
    }
    if let Some(GroundedConfig { per_passage, passage_tokens, unanswerable, roundtrip, prompt, .. }) = grounded {
        let key = |name: &str| key(&format!(".grounded.{name}"));
        ranges.check(&key("per_passage"), *per_passage, "at least 1", *per_passage > 0);
        ranges.check(&key("passage_tokens"), *passage_tokens, "at least 16", *passage_tokens >= 16);
        ranges.check(
            &key("unanswerable"),
            *unanswerable,
            "a share from 0 to below 1",
            (0.0..1.0).contains(unanswerable),
        );
        ranges.check_some(&key("roundtrip"), *roundtrip, "a number from 0 to 1, or null", share);
        let whole = prompt.contains("{context}") && prompt.contains("{question}");
        ranges.check(&key("prompt"), prompt, "a text with {context} and {question}", whole);
        let has_documents = !config.documents.is_empty();
        ranges.check("documents", config.documents.len(), "at least one source, for the step grounded", has_documents);
    }
    let needs_seeds = self_instruct.is_some() || evolve.is_some() || rewrite.is_some() && index == 0;
    let expected = "at least one source, for the steps self_instruct, evolve and rewrite";
    ranges.check("seeds", config.seeds.len(), expected, !needs_seeds || !config.seeds.is_empty());
    if let Some(SelfInstructConfig { count, shown, .. }) = self_instruct {
        ranges.check(&key(".self_instruct.count"), *count, "at least 1", *count > 0);
        ranges.check(&key(".self_instruct.shown"), *shown, "1 to 16", (1..=16).contains(shown));
    }
    if let Some(EvolveConfig { rounds, breadth, .. }) = evolve {
        ranges.check(&key(".evolve.rounds"), *rounds, "at least 1", *rounds > 0);
        ranges.check(&key(".evolve.breadth"), *breadth, "a share from 0 to 1", share(*breadth));
    }
    if let Some(MagpieConfig { count, temperature, .. }) = magpie {
        ranges.check(&key(".magpie.count"), *count, "at least 1", *count > 0);
        ranges.check(&key(".magpie.temperature"), *temperature, "above 0: all would be the same", *temperature > 0.0);
    }
}
