//! `greffon plan`: what a run will cost, before it is run.

use anstream::println;
use comfy_table::{Table, presets};
use datasets::{Cache, DataError, Hub, Prepared};
use serde::Serialize;

use super::output;
use super::progress;
use crate::cli::PlanArgs;
use crate::device;
use crate::energy::{self, Energy};
use crate::error::TrainError;
use crate::frugal::search::Planned;
use crate::kernels::Kernels;
use crate::model::BaseModel;
use crate::plan::model::ModelSizes;
use crate::plan::questions::{Answers, Questions};
use crate::plan::scale::Cluster;
use crate::plan::time::{self, Corrections, Rates, TimePlan};
use crate::plan::workload::{Workload, shapes_of_all};
use crate::plan::{self, Checkpointing, probe, rates};
use crate::recipe::{self, MemorySize, Recipe};
use crate::train::batch::Layout;
use crate::train::replay::Replay;
use crate::train::selection::Selection;

/// Everything that is told.
#[derive(Serialize)]
struct Costs {
    base: String,
    trainable_parameters: usize,
    steps: u64,
    tokens_per_step: f64,
    supervised_tokens_per_step: f64,
    data_from_cache: bool,
    recomputed_blocks: usize,
    blocks: usize,
    peak_bytes: u64,
    memory: plan::memory::MemoryPlan,
    allowed_bytes: Option<u64>,
    fits: bool,
    time: TimePlan,
    total_seconds: f64,
    /// With the data centre's part; `None` where the device's power is not known.
    kwh: Option<f64>,
    grams_co2e: Option<f64>,
    rates: Rates,
    corrections: Corrections,
    rates_from: &'static str,
}

pub(super) fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    let loaded = Recipe::load(&args.recipe.recipe, &args.recipe.set).map_err(TrainError::from)?;
    loaded.check().map_err(TrainError::from)?;
    let recipe = &loaded.recipe;
    let (costs, checkpointing) = planned(recipe, args.probe, cluster(args, recipe)?)?;
    if args.json {
        output::json(&costs)?;
        return Ok(());
    }
    println!("{}", table(&costs));
    for line in notes(recipe, &costs, &checkpointing) {
        println!("{line}");
    }
    Ok(())
}

/// The seconds that a run of so many processes takes, each on a device like that which is planned for.
pub(super) fn total_seconds(recipe: &Recipe, ranks: usize) -> Result<f64, TrainError> {
    let cluster = Cluster { ranks, devices: ranks, ..Cluster::ALONE };
    Ok(planned(recipe, false, cluster)?.0.total_seconds)
}

/// What a run takes on this machine, or on the recipe's `plan.device`.
pub(super) fn of_run(recipe: &Recipe) -> Result<Planned, TrainError> {
    let costs = planned(recipe, false, Cluster::ALONE)?.0;
    let of_step = costs.time.training_seconds / costs.steps as f64;
    Ok(Planned { before: costs.time.selection_seconds, of_step })
}

/// What this machine does in a second.
pub(super) fn planned_rates(recipe: &Recipe) -> Result<Rates, TrainError> {
    Ok(planned(recipe, false, Cluster::ALONE)?.0.rates)
}

fn planned(recipe: &Recipe, probe: bool, cluster: Cluster) -> Result<(Costs, Checkpointing), TrainError> {
    if probe && recipe.plan.device.is_some() {
        let reason = "--probe measures this machine, but the recipe's `plan.device` describes another; leave one out";
        return Err(TrainError::Run(reason.to_owned()));
    }
    // A plan must be cheap: it takes what is on this machine.
    let hub = progress::hub().with_offline(true);
    let base = open_base(recipe, &hub)?;
    let mut data = prepare(recipe, &base, &hub)?;
    let mut selection = Vec::new();
    if let Some(config) = recipe.data.select {
        if config.by.reads_examples() {
            selection = shapes_of_all(&data.train, Layout::of_reading(recipe));
        }
        let places = Selection::planned(recipe, config, &data);
        data = data.of_some(&places);
    }
    let model = plan::model_sizes(recipe, &base)?;
    let workload = Workload { selection, ..workload(recipe, &base, &data, &hub, cluster.ranks)? };
    if workload.steps_seen.is_empty() {
        return Err(TrainError::Run("there is nothing to train on: no example is left after preparation".into()));
    }
    let checkpointing = Checkpointing::choose(recipe, &model, &workload, allowed(recipe));
    Ok((costs(probe, recipe, &model, &workload, checkpointing, data.from_cache, cluster)?, checkpointing))
}

fn open_base(recipe: &Recipe, hub: &Hub) -> Result<BaseModel, TrainError> {
    BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), hub).map_err(|error| match error {
        TrainError::Data(DataError::Hub(_)) => {
            let revision = recipe.model.revision.as_ref().map(|name| format!(" --revision {name}")).unwrap_or_default();
            let base = &recipe.model.base;
            let reason = format!(
                "it is not on this machine, and a plan downloads nothing; fetch it first: greffon fetch {base}{revision}"
            );
            TrainError::Base { base: base.clone(), reason }
        }
        other => other,
    })
}

fn prepare(recipe: &Recipe, base: &BaseModel, hub: &Hub) -> Result<Prepared, TrainError> {
    let mut bar = progress::Tokenising::default();
    let mut show = |done| bar.show(&done);
    let data = datasets::prepare(&recipe.data, &base.tokenizer, recipe.train.seed, hub, &Cache::from_env(), &mut show);
    bar.clear();
    data.map_err(|error| match error {
        DataError::Hub(error) => TrainError::Run(format!(
            "{error}. a plan downloads nothing; `greffon data prepare` fetches the data of a recipe"
        )),
        other => other.into(),
    })
}

/// The run's micro-batches, what is replayed and what is asked. The answers of the base that will be replayed are taken to
/// be as long as the sources' own.
fn workload(
    recipe: &Recipe,
    base: &BaseModel,
    data: &Prepared,
    hub: &Hub,
    ranks: usize,
) -> Result<Workload, TrainError> {
    let prepare = |config| Replay::prepare(recipe, config, None, &base.tokenizer, hub, &mut |_| {});
    let replay = recipe.forgetting.replay.as_ref().map(prepare).transpose()?;
    let mut workload = Workload::new(data, replay.as_ref(), recipe, ranks);
    let longest = base.config.max_position_embeddings;
    workload.questions = Questions::new(&recipe.forgetting, &base.tokenizer, longest, workload.steps)?;
    let replay = recipe.forgetting.replay.as_ref().zip(replay);
    if let Some((config, replay)) = replay.filter(|(config, _)| config.answers == recipe::Answers::Base) {
        let drawn = workload.steps.saturating_mul(replay.per_step as u64);
        let count = replay.data.train.len().min(usize::try_from(drawn).unwrap_or(usize::MAX));
        workload.answers = Answers::batches(count, recipe.eval.batch_size, config.max_new_tokens);
    }
    Ok(workload)
}

/// The memory of the device that is planned for.
fn allowed(recipe: &Recipe) -> Option<u64> {
    match &recipe.plan.device {
        Some(device) => {
            let of_recipe = recipe.train.memory.map(MemorySize::bytes);
            Some(of_recipe.unwrap_or_else(|| plan::nine_tenths(device.memory.bytes())))
        }
        None => plan::allowed_memory(recipe, 1),
    }
}

fn costs(
    is_probed: bool,
    recipe: &Recipe,
    model: &ModelSizes,
    workload: &Workload,
    checkpointing: Checkpointing,
    data_from_cache: bool,
    cluster: Cluster,
) -> Result<Costs, TrainError> {
    let (rates, corrections, rates_from) = if let Some(device) = &recipe.plan.device {
        (rates::of_data_sheet(device), Corrections::default(), "data sheet")
    } else {
        let device = device::open(&recipe.device)?;
        let kernels = match (recipe.kernels, device::kernels(&device)) {
            (Kernels::Reference, _) | (_, Kernels::Reference) => Kernels::Reference,
            (kernels, _) => kernels,
        };
        let rates = rates::measure(&device, kernels);
        if is_probed {
            let shapes: Vec<_> = workload.micro_batches().collect();
            let recomputed = 2 * checkpointing.recomputed_blocks > checkpointing.blocks;
            let probe = probe::Probe { model, shapes: &shapes, dropout: recipe.lora.dropout, kernels, recomputed };
            (rates, probe::run(probe, rates, &device), "probe")
        } else {
            (rates, Corrections::default(), "a measurement of a second")
        }
    };
    let time = time::time(model, workload, checkpointing.recomputed_blocks, rates, corrections, cluster);
    let kwh = energy(recipe, &time, checkpointing.memory.total()).map(|energy| energy.kwh() * recipe.energy.pue);
    Ok(Costs {
        base: recipe.model.base.clone(),
        trainable_parameters: model.parameters(),
        steps: workload.steps,
        tokens_per_step: workload.tokens_per_step(),
        supervised_tokens_per_step: workload.supervised_per_step(),
        data_from_cache,
        recomputed_blocks: checkpointing.recomputed_blocks,
        blocks: checkpointing.blocks,
        peak_bytes: checkpointing.memory.total(),
        memory: checkpointing.memory,
        allowed_bytes: checkpointing.allowed,
        fits: checkpointing.fits(),
        time,
        total_seconds: time.total_seconds(),
        kwh,
        grams_co2e: kwh.zip(recipe.energy.grid()).map(|(kwh, grid)| kwh * grid.grams_per_kwh),
        rates,
        corrections,
        rates_from,
    })
}

/// What the run will take, where the device's power is known; of a device by its data sheet that of the device alone.
fn energy(recipe: &Recipe, time: &TimePlan, peak_bytes: u64) -> Option<Energy> {
    let (seconds, cluster) = (time.total_seconds(), time.step.cluster);
    if let Some(device) = &recipe.plan.device {
        let gpu = device.watts? * cluster.used_devices() * seconds;
        return Some(Energy { gpu, ..Energy::default() });
    }
    let watts = recipe.energy.cpu_watts;
    Some(energy::planned(seconds, watts, cluster.used_devices(), cluster.ranks, peak_bytes))
}

/// The processes that the arguments name.
fn cluster(args: &PlanArgs, recipe: &Recipe) -> Result<Cluster, TrainError> {
    let Some(ranks) = args.ranks.map(usize::from) else { return Ok(Cluster::ALONE) };
    let (devices, sharing) = (args.devices.map_or(ranks, usize::from), usize::from(args.ranks_per_link));
    if let Some(link) = args.link.filter(|link| !(*link > 0.0 && link.is_finite())) {
        return Err(TrainError::Run(format!("--link is {link}, expected a number of 10^9 bits a second above 0")));
    }
    if sharing > ranks {
        return Err(TrainError::Run(format!("--ranks-per-link is {sharing}, expected at most the {ranks} of --ranks")));
    }
    let link = args.link.map(|gigabits| gigabits * 1e9 / 8.0);
    Ok(Cluster { ranks, devices, link, ranks_per_link: sharing, wire: recipe.cluster.gradients })
}

fn table(costs: &Costs) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let memory = costs.memory;
    let steps = format!(
        "{} of {:.0} tokens, {:.0} supervised",
        costs.steps, costs.tokens_per_step, costs.supervised_tokens_per_step
    );
    let blocks = format!("{} of {} blocks", costs.recomputed_blocks, costs.blocks);
    let rates =
        format!("{:.0} GFLOP/s, {:.1} GB/s, by {}", costs.rates.flops / 1e9, costs.rates.bytes / 1e9, costs.rates_from);
    let fits = match costs.allowed_bytes {
        Some(allowed) => format!("{} of {} allowed", if costs.fits { "yes," } else { "NO," }, plan::bytes(allowed)),
        None => "not known: set train.memory".to_owned(),
    };
    let TimePlan { answer_seconds: answers, step, .. } = costs.time;
    let ranks = step.cluster.ranks;
    let processes = format!(
        "{ranks} on {} devices, which compute {:.1} % of the time",
        step.cluster.used_devices(),
        100.0 * step.efficiency
    );
    let a_step = format!(
        "{:.3} s: {:.3} s of compute, then {:.3} of the {:.3} s in which each sends {:.1} MB",
        step.compute_seconds + step.communication_seconds,
        step.compute_seconds,
        step.communication_seconds,
        step.travel_seconds,
        step.bytes_per_rank / 1e6
    );
    let emitted = costs.grams_co2e.map_or_else(String::new, |grams| format!(", {grams:.2} g CO2e"));
    let energy = format!("{:.3} Wh at full load{emitted}", 1e3 * costs.kwh.unwrap_or_default());
    let rows = [
        ("trained numbers", costs.trainable_parameters.to_string()),
        ("steps", steps),
        ("data", if costs.data_from_cache { "from the cache" } else { "tokenised now" }.to_owned()),
        ("computed again", blocks),
        ("peak memory", plan::bytes(costs.peak_bytes)),
        ("  base", plan::bytes(memory.base)),
        ("  adapter, moments", plan::bytes(memory.adapter)),
        ("  activations", plan::bytes(memory.activations)),
        ("  work space", plan::bytes(memory.working)),
        ("  packed weights", plan::bytes(memory.packed)),
        ("  program", plan::bytes(memory.program)),
        ("fits", fits),
        ("device", rates),
        ("processes", processes),
        ("  a step", a_step),
        ("speed", format!("{:.0} tokens/s", step.tokens_per_second)),
        ("training", duration(costs.time.training_seconds)),
        ("validation", duration(costs.time.validation_seconds)),
        ("choosing examples", duration(costs.time.selection_seconds)),
        ("forgetting", duration(costs.time.question_seconds)),
        ("base's answers", duration(answers)),
        ("total time", duration(costs.total_seconds)),
        ("energy", energy),
    ];
    let is_told = |what: &str| match what {
        "energy" => costs.kwh.is_some(),
        "base's answers" => answers > 0.0,
        "  packed weights" => memory.packed > 0,
        "choosing examples" => costs.time.selection_seconds > 0.0,
        "processes" | "  a step" => ranks > 1,
        _ => true,
    };
    for (what, figure) in rows.into_iter().filter(|(what, _)| is_told(what)) {
        table.add_row([what.to_owned(), figure]);
    }
    table
}

fn notes(recipe: &Recipe, costs: &Costs, checkpointing: &Checkpointing) -> Vec<String> {
    let mut notes: Vec<String> = checkpointing.warning().into_iter().collect();
    if costs.time.question_seconds > 0.0 {
        notes.push("forgetting: base and adapter are asked; the base's answers are kept for the next run".to_owned());
    }
    if recipe.kernels == Kernels::Reference {
        notes.push("the memory is that of the fused kernels; the reference takes more".to_owned());
    }
    match costs.rates_from {
        "probe" => {}
        "data sheet" => {
            notes.push("the time follows from a data sheet and half its rates: take it as a guess".to_owned());
        }
        _ => notes.push("a closer time: greffon plan --probe, which takes ten seconds".to_owned()),
    }
    notes
}

/// Seconds for people: `48 s`, `12 min 5 s`, `3 h 20 min`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; time is positive")]
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (seconds, text) in [(0.26, "0.3 s"), (59.4, "59.4 s"), (725.0, "12 min 5 s"), (12_010.0, "3 h 20 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
