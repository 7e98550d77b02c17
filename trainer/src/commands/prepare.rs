//! `greffon data prepare`: the tokens of a recipe's data, made once and kept for its runs.

use std::process::ExitCode;
use std::time::Instant;

use anstream::println;
use datasets::{Cache, Counts};

use super::output;
use super::progress;
use crate::cli::PrepareArgs;
use crate::cluster::Collective;
use crate::error::TrainError;
use crate::model::BaseModel;
use crate::recipe::Recipe;

pub(super) fn prepare(args: &PrepareArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let loaded = Recipe::load(&args.recipe.recipe, &args.recipe.set).map_err(TrainError::from)?;
    let recipe = &loaded.recipe;
    let hub = progress::hub();
    let tokenizer = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), &hub)?.tokenizer;

    let started = Instant::now();
    let mut bar = progress::Tokenising::default();
    let (config, seed, cache) = (&recipe.data, recipe.train.seed, Cache::from_env());
    let mut show = |done| {
        if collective.is_first() {
            bar.show(&done);
        }
    };
    let data = datasets::prepare_together(config, &tokenizer, seed, &hub, &cache, &collective, &mut show)
        .map_err(TrainError::from)?;
    bar.clear();
    if !collective.is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    let seconds = started.elapsed().as_secs_f64();

    let parts = [("train", &data.train_counts), ("validation", &data.validation_counts)];
    let tokens: u64 = parts.iter().map(|(_, counts)| counts.tokens).sum();
    let rate = tokens as f64 / seconds;
    if args.json {
        let json = serde_json::json!({
            "train": data.train_counts,
            "validation": data.validation_counts,
            "tokens": tokens,
            "seconds": seconds,
            "tokens_per_second": rate,
            "from_cache": data.from_cache,
            "cache_file": data.cache_file,
            "fingerprint": data.fingerprint,
            "notes": data.notes,
        });
        output::json(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, counts) in parts {
        let Counts { conversations, examples, tokens, supervised, .. } = counts;
        println!(
            "{name}: {examples} examples of {conversations} conversations, {supervised} of {tokens} tokens supervised"
        );
    }
    for note in &data.notes {
        println!("{note}");
    }
    let how = if data.from_cache { "read from the cache" } else { "tokenised" };
    println!("{how} in {seconds:.2} s, {rate:.0} tokens/s");
    match &data.cache_file {
        Some(path) => println!("tokens: {}", path.display()),
        None => println!("the tokens are not kept"),
    }
    Ok(ExitCode::SUCCESS)
}
