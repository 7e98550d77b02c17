//! `greffon forgetting repair`.

use std::process::ExitCode;

use adapters::PeftAdapter;
use anstream::println;
use burn::tensor::Device;
use comfy_table::{CellAlignment, Table, presets};
use datasets::{Cache, Examples};
use serde_json::json;

use super::measure::asked;
use crate::cli::RepairArgs;
use crate::cluster::Collective;
use crate::commands::output;
use crate::commands::progress;
use crate::commands::subject::Comparing;
use crate::commands::verify::REFUSED;
use crate::device;
use crate::error::TrainError;
use crate::forgetting::scale::{self, Judge, Tried};
use crate::forgetting::{Forgetting, Watch};
use crate::model::{Decoder, adapter};
use crate::prove::Export;
use crate::provenance::Place;
use crate::recipe::Recipe;
use crate::track::RunFolder;
use crate::train::batch::Layout;
use crate::train::validation;

/// The most validation examples by which the gain is judged.
const EXAMPLES: usize = 24;

pub(super) fn repair(args: &RepairArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    // Unlike a recipe, a run has its adapter and its validation data.
    RunFolder::open(args.run.clone())?;
    let comparing = Comparing::open(&args.run, None, &args.questions.set)?;
    let Comparing { recipe, adapter, .. } = &comparing;
    let config = asked(recipe, &args.questions)?;
    let hub = progress::hub();
    let base = comparing.base(&hub)?;
    let device = device::open_for(&recipe.device, collective)?;
    let (plain, adapted) = comparing.decoders(&base, &device)?;
    let data =
        datasets::prepare(&recipe.data, &base.tokenizer, recipe.train.seed, &hub, &Cache::from_env(), &mut |_| {})
            .map_err(TrainError::from)?;
    if data.validation.is_empty() {
        let reason = "the run has no validation data, by which the gain would be judged; name some under data.validation, \
                      or set aside a data.validation_fraction";
        return Err(TrainError::Run(reason.to_owned()).into());
    }
    let watch = Watch::open(recipe, &config, &base, plain.clone(), &device, collective, &hub)?;
    let digest = adapter::digest(adapter)?;
    let mut judge = OnRun {
        watch: &watch,
        digest,
        validation: &data.validation,
        layout: Layout::of_reading(recipe),
        device: &device,
        bar: collective.is_first().then(progress::Questioning::default),
    };
    let tried = scale::search(&plain, &adapted, &mut judge)?;
    if let Some(bar) = &mut judge.bar {
        bar.clear();
    }
    let best = scale::best(&tried);
    let code = if best.is_some() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) };
    if !collective.is_first() {
        return Ok(code);
    }
    if let (Some(best), Some(folder)) = (best, &args.to) {
        let mut repaired = PeftAdapter::read(adapter).map_err(TrainError::from)?;
        scale::fold(&mut repaired, best.scales, base.config.num_hidden_layers)?;
        repaired.write(folder, args.force).map_err(TrainError::from)?;
        let measured = Forgetting { adapter_digest: Some(adapter::digest(folder)?), ..best.forgetting.clone() };
        let to = Export::open(folder)?;
        measured.note_in(&to)?;
        Place::carry(&[Place::of_export(&Export::open(adapter)?)], &Place::of_export(&to))?;
    }
    if args.json {
        output::json(&json!({ "tried": tried, "best": best, "written": best.and(args.to.as_ref()) }))?;
    } else {
        show(args, recipe, &tried, best);
    }
    Ok(code)
}

/// Judges by the run's validation data and its questions.
struct OnRun<'a> {
    watch: &'a Watch<'a>,
    digest: String,
    validation: &'a Examples,
    layout: Layout,
    device: &'a Device,
    /// Of rank 0.
    bar: Option<progress::Questioning>,
}

impl Judge for OnRun<'_> {
    fn loss(&mut self, decoder: &Decoder) -> Result<f64, TrainError> {
        Ok(validation::loss_of(
            decoder,
            self.validation,
            0..EXAMPLES.min(self.validation.len()),
            self.layout,
            self.device,
        ))
    }

    fn divergence(&mut self, decoder: &Decoder) -> Result<f64, TrainError> {
        self.watch.divergence(decoder)
    }

    fn measure(&mut self, decoder: &Decoder, name: &str) -> Result<Forgetting, TrainError> {
        let bar = &mut self.bar;
        self.watch.measure(decoder, Some(&format!("{} at {name}", self.digest)), &mut |at| {
            if let Some(bar) = bar {
                bar.show(at);
            }
            Ok(())
        })
    }
}

fn show(args: &RepairArgs, recipe: &Recipe, tried: &[Tried], best: Option<&Tried>) {
    let mut table = Table::new();
    let header = ["scale of the adapter", "gain kept", "mean of the tasks", "KL to the base", "gate"];
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for Tried { scales, gain, forgetting } in tried {
        let [lower, middle, upper] = scales.0;
        let is_uniform = scales.0.iter().all(|scale| scale.to_bits() == lower.to_bits());
        let kl: Vec<String> = forgetting
            .divergences
            .iter()
            .map(|divergence| format!("{} {:.3}", divergence.lang.as_deref().unwrap_or("text"), divergence.kl))
            .collect();
        let average = forgetting.average.map(|average| format!("{:+.1} points", 100.0 * average.difference));
        table.add_row([
            if is_uniform { format!("{lower}") } else { format!("{lower} / {middle} / {upper} by thirds") },
            format!("{:.0} %", 100.0 * gain),
            average.unwrap_or_default(),
            kl.join(", "),
            if forgetting.verdict.passed { "passed".to_owned() } else { "beyond".to_owned() },
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!("gain: how far the adapter lowers the loss on validation data; thirds: lower, middle and upper blocks");
    match best {
        Some(best) if best.scales == scale::Scales::all(1.0) => println!("the adapter is within the limits as it is"),
        Some(best) => {
            let [lower, middle, upper] = best.scales.0;
            println!("proposed: {lower} / {middle} / {upper}, which keeps {:.0} % of the gain", 100.0 * best.gain);
        }
        None => println!("no scale above 0 is within the limits"),
    }
    match (&args.to, best) {
        (Some(folder), Some(_)) => println!("wrote {}", folder.display()),
        (None, Some(_)) => println!("next: greffon forgetting repair {} --to FOLDER", args.run.display()),
        (_, None) => {}
    }
    if tried.first().is_some_and(|tried| !tried.forgetting.verdict.passed) {
        println!("or train again with one of these in the recipe:{}", further(recipe));
    }
}

/// What a new training could do that the last one did not.
fn further(recipe: &Recipe) -> String {
    let forgetting = &recipe.forgetting;
    let mut keys = Vec::new();
    if forgetting.replay.is_none() {
        keys.push("forgetting.replay: {sources: [{path: general.jsonl}], share: 0.25}".to_owned());
    }
    if forgetting.kl_weight <= 0.0 {
        keys.push("forgetting.kl_weight: 1, with forgetting.replay".to_owned());
    }
    if forgetting.l2_weight <= 0.0 {
        keys.push("forgetting.l2_weight: 0.01".to_owned());
    }
    if !forgetting.early_stop {
        keys.push("forgetting.every: 50 and forgetting.early_stop: true".to_owned());
    }
    keys.push(format!("train.learning_rate: {:e}", recipe.train.learning_rate / 3.0));
    [vec![String::new()], keys].concat().join("\n  ")
}
