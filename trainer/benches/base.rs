//! What a base takes in memory, once it is loaded: `cargo bench --bench base -- MODEL DTYPE`.
//!
//! Prints one JSON object: the growth of the resident memory while the weights were loaded and all of them were read,
//! how much of it is mapped from the file, and what the same numbers would take in float32.
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::fs;

use anyhow::{Context as _, ensure};
use burn::tensor::Device;
use datasets::Hub;
use trainer::model::BaseModel;
use trainer::recipe::{ModelConfig, WeightType};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    ensure!(arguments.len() == 2, "usage: base MODEL DTYPE");
    let dtype: WeightType = serde_json::from_value(arguments[1].as_str().into())?;
    let model = ModelConfig { dtype, ..ModelConfig::new(arguments[0].clone()) };
    let base = BaseModel::open(&model, None, &Hub::from_env())?;
    let before = resident()?;
    let decoder = base.decoder(&Device::flex())?;
    let after = resident()?;
    let linears = decoder.linears().map(|(_, linear)| linear.weight.dims()).collect::<Vec<_>>();
    let head = decoder.lm_head.iter().map(adapters::Weight::dims);
    let numbers: usize = linears.into_iter().chain([decoder.embed_tokens.dims()]).chain(head).map(|[r, c]| r * c).sum();
    println!(
        "{}",
        serde_json::json!({
            "dtype": arguments[1],
            "resident_bytes": after.0 - before.0,
            "mapped_bytes": after.1 - before.1,
            "float32_bytes": numbers * 4,
            "ratio": (after.0 - before.0) as f64 / (numbers * 4) as f64,
        })
    );
    Ok(())
}

/// Resident bytes, and how many of them are mapped files.
fn resident() -> anyhow::Result<(usize, usize)> {
    let status = fs::read_to_string("/proc/self/status").context("this benchmark needs Linux")?;
    let kibibytes = |key: &str| -> anyhow::Result<usize> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
    };
    Ok((kibibytes("VmRSS")?, kibibytes("RssFile")?))
}
