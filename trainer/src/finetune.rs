//! **Read this first.** A fine-tuning run from recipe to adapter, in numbered phases.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use adapters::AdapterConfig;
use burn::tensor::Device;
use datasets::{Cache, ChatTemplate, Hub, Prepared};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cluster::{Collective, from_first};
use crate::device;
use crate::energy::{Account, EnergyRecord, Load, Stage};
use crate::error::TrainError;
use crate::eval::Subject;
use crate::forgetting::{Forgetting, Watch};
use crate::model::{BaseModel, Decoder, adapter};
use crate::plan::workload::Workload;
use crate::plan::{self, Checkpointing};
use crate::provenance::Recorder;
use crate::recipe::{Answers, Loaded, Recipe};
use crate::track::{self, DataCounts, Lock, Plan, REPLAY, RunFolder, RunInfo, RunStatus, SELECTED, Tracker};
use crate::train::answers::Answered;
use crate::train::batch::Layout;
use crate::train::checkpoint::{Checkpoints, Progress};
use crate::train::optimizer::AdamW;
use crate::train::pace::{Pace, Waits};
use crate::train::penalty::Penalties;
use crate::train::replay::{self, Replay};
use crate::train::run::{EarlyStop, Run};
use crate::train::selection::Selection;
use crate::train::{answers, parameters};

/// How a run is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// In a folder that holds no run.
    New,
    /// In a folder whose earlier run is given up.
    Force,
    /// Where the earlier run in the folder stopped.
    Resume,
}

/// What a run made.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The run folder.
    pub folder: RunFolder,
    /// The last step and the best validation.
    pub progress: Progress,
    /// Why training stopped before its last step.
    pub stopped_early: Option<EarlyStop>,
    /// What of the steps' time the ranks did not compute; `None` for one process.
    pub waits: Option<Waits>,
    /// What it took.
    pub energy: EnergyRecord,
    /// What the result lost of the base; `None` where the recipe does not ask.
    pub forgetting: Option<Forgetting>,
}

/// Runs a recipe, on every rank of `collective` at once; rank 0 writes. `stop` ends the run after the micro-batch under
/// way, with its state saved.
///
/// # Errors
/// Whatever the recipe, the data, the base or the disk gives; [`TrainError::NotFinite`] when the loss or the gradient
/// is not a number; [`TrainError::Interrupted`] after `stop`.
pub fn finetune(
    loaded: &Loaded,
    start: Start,
    hub: &Hub,
    stop: &AtomicBool,
    trackers: &mut Vec<Box<dyn Tracker>>,
    collective: &dyn Collective,
) -> Result<Outcome, TrainError> {
    let recipe = &loaded.recipe;
    let mut energy = Account::start(&recipe.energy, &recipe.device, collective);
    let is_first = collective.is_first();

    // 1. The base model and its tokenizer, and the memory that is left for them.
    let allowed_memory = plan::allowed_memory(recipe, collective.local_ranks());
    let device = device::open_for(&recipe.device, collective)?;
    let (base, earlier) = open_base(recipe, start, hub, collective)?;

    // 2. The data: tokens with their loss masks.
    let mut preparing = |progress| trackers.iter_mut().for_each(|tracker| tracker.preparing(&progress));
    let cache = Cache::from_env();
    let (config, seed) = (&recipe.data, recipe.train.seed);
    let data = datasets::prepare_together(config, &base.tokenizer, seed, hub, &cache, &collective, &mut preparing)?;

    // 3. The weights, the adapter and its optimizer.
    let plain = base.decoder(&device)?.with_kernels(recipe.kernels.for_questions());
    let mut decoder = plain.clone().with_kernels(recipe.kernels);
    let peft = put_adapter(recipe, &base, &mut decoder, &device)?;
    let penalties = Penalties::new(&recipe.forgetting, &decoder, &device)?;
    let trainable_parameters = parameters::count(&decoder);
    let adapted_modules = decoder.adapters().count();
    let optimizer = optimizer(recipe, &decoder, &device);

    // 4. What is trained on, what forgetting is measured by, and what is replayed against it.
    let asked = Subject { decoder: &plain, tokenizer: &base.tokenizer, device: &device, collective };
    let (data, selection) = select(recipe, start, data, &asked, stop, trackers)?;
    let config = &recipe.forgetting;
    let open_watch = || Watch::open(recipe, config, &base, plain.clone(), &device, collective, hub);
    let watch = config.is_measured().then(open_watch).transpose()?;
    let total_steps = total_steps(recipe, &data)?;
    let (replay, answered) = prepare_replay(recipe, start, total_steps, &asked, hub, stop, trackers)?;

    // 5. The plan: what the forward pass keeps.
    let layout = Layout::of(recipe);
    let workload = Workload::new(&data, replay.as_ref(), recipe, collective.ranks());
    let checkpointing = Checkpointing::choose(recipe, &plan::model_sizes(recipe, &base)?, &workload, allowed_memory);
    use_memory(&checkpointing, &decoder);

    // 6. The run folder, and the state of an earlier run in it.
    // Digesting the base takes a while: before the folder is made, so that a kill meanwhile leaves nothing behind.
    let mut info = match earlier {
        Some(info) => info,
        None => RunInfo::new(loaded, &base)?,
    };
    let (folder, lock) = open_folder(recipe, start, answered.as_ref(), selection.as_ref(), collective)?;
    let total_examples = recipe.train.total_examples(data.order.len_per_epoch() as u64);
    let checkpoints = Checkpoints::new(folder.checkpoints(), recipe.train.keep_checkpoints);
    let fingerprint = fingerprint(&data, replay.as_ref(), &penalties);
    let recorder = is_first.then(|| Recorder::new(&folder, recipe, &base, &info, total_examples)).transpose()?;
    energy.book(Stage::Data, collective)?;
    let mut run = Run {
        recipe,
        collective,
        progress: Progress { fingerprint: fingerprint.clone(), ..Progress::default() },
        warmup_steps: recipe.train.warmup(total_steps),
        device: device.clone(),
        decoder,
        peft,
        data: Arc::new(data),
        replay: replay.map(Arc::new),
        penalties,
        layout,
        optimizer,
        checkpoints,
        total_examples,
        total_steps,
        recomputed_blocks: checkpointing.recomputed_blocks,
        recorder: recorder.map(|recorder| Arc::new(Mutex::new(recorder))),
        pace: Pace::default(),
        energy,
        largest_step: 0.0,
        load: Load::new(),
        saving: None,
    };
    if start == Start::Resume {
        run.resume(&base, &fingerprint)?;
        run.energy.resume(info.energy.as_ref(), run.progress.energy);
    }
    run.check_ranks()?;
    run.record()?;
    let plan = Plan {
        total_steps,
        first_step: run.progress.step,
        train_examples: run.data.order.examples(),
        validation_examples: run.data.validation.len(),
        trainable_parameters,
        adapted_modules,
        ranks: collective.ranks(),
        checkpointing,
    };
    info.update(RunStatus::Running, run.progress.step, run.best(), None);
    info.plan = Some(plan.clone());
    info.energy = Some(run.energy.record(&recipe.energy, run.progress.tokens));
    info.data = Some(DataCounts { selection: selection.as_ref().map(Selection::record), ..run.data.as_ref().into() });
    if is_first {
        folder.save_info(&info)?;
        trackers.extend(track::open(&folder, &recipe.tracking, run.progress.step, lock.clone())?);
    }
    trackers.iter_mut().try_for_each(|t| t.started(&plan))?;

    // 7. The steps.
    let ended = run.steps(stop, trackers, &folder, watch.as_ref()).map_err(|error| run.explain(error, &folder));
    let noted = run.note_end(&ended, &mut info, &folder);
    // On a full disk the note fails too; what ended the run is what is told.
    let stopped_early = ended?;
    noted?;

    // 8. The result.
    run.save_result(stopped_early, &folder)?;

    // 9. What it cost the base's abilities.
    let forgetting = match &watch {
        Some(watch) => Some(run.forgetting(watch, &folder, stop, trackers)?),
        None => None,
    };
    let energy = run.note_energy(Stage::Evaluate, &mut info, &folder)?;
    Ok(Outcome { folder, waits: run.pace.waits(), progress: run.progress, stopped_early, energy, forgetting })
}

/// Warns of a plan that does not fit, and keeps packed weights where the plan has room for them.
fn use_memory(checkpointing: &Checkpointing, decoder: &Decoder) {
    if let Some(warning) = checkpointing.warning() {
        tracing::warn!("{warning}");
    }
    if checkpointing.keeps_packed() {
        decoder.keep_packed();
    }
}

/// The base, and the facts of the run that is resumed.
fn open_base(
    recipe: &Recipe,
    start: Start,
    hub: &Hub,
    collective: &dyn Collective,
) -> Result<(BaseModel, Option<RunInfo>), TrainError> {
    let mut base = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), hub)?;
    let earlier = match start {
        Start::Resume => Some(RunFolder::open(recipe.output.clone())?.info()?),
        Start::New | Start::Force => None,
    };
    // A template that prints the date must print the day on which the run started, on all ranks.
    let clock = from_first(collective, || match &earlier {
        Some(info) => Ok(info.template_clock.clone()),
        None => Ok(base.tokenizer.template().ok().and_then(ChatTemplate::clock)),
    })?;
    if let Some(clock) = clock {
        base.tokenizer = base.tokenizer.with_clock(&clock)?;
    }
    Ok((base, earlier))
}

/// The run folder, made and locked by rank 0, with the base's answers and the choice of examples where there are such.
fn open_folder(
    recipe: &Recipe,
    start: Start,
    answered: Option<&Answered>,
    selection: Option<&Selection>,
    collective: &dyn Collective,
) -> Result<(RunFolder, Option<Arc<Lock>>), TrainError> {
    let mut lock = None;
    from_first(collective, || {
        lock = Some(match start {
            Start::Resume => Lock::take(RunFolder::open(recipe.output.clone())?.path())?,
            Start::New | Start::Force => RunFolder::create(recipe.output.clone(), recipe, start == Start::Force)?.1,
        });
        answered.map_or(Ok(()), |answered| answered.save(&recipe.output.join(REPLAY)))?;
        selection.map_or(Ok(()), |selection| selection.save(&recipe.output.join(SELECTED)))
    })?;
    Ok((RunFolder::open(recipe.output.clone())?, lock.map(Arc::new)))
}

/// The optimizer of what is trained.
fn optimizer(recipe: &Recipe, decoder: &Decoder, device: &Device) -> AdamW {
    let ratio = recipe.lora.loraplus_lr_ratio;
    AdamW::new(recipe.train.adamw(), decoder.kernels, parameters::count(decoder), device)
        .with_rates(parameters::learning_rates(decoder, ratio, device))
        .with_spared(parameters::spared(decoder, ratio, device))
}

/// The steps of the whole run, at least one.
fn total_steps(recipe: &Recipe, data: &Prepared) -> Result<u64, TrainError> {
    let steps = recipe.train.total_steps(data.order.len_per_epoch() as u64);
    if data.train.is_empty() || steps == 0 {
        return Err(TrainError::Run("there is nothing to train on: no example is left after preparation".to_owned()));
    }
    let batch = recipe.train.global_batch_size;
    if batch > data.train.len() {
        tracing::warn!("train.global_batch_size is {batch}, more than the {} training examples", data.train.len());
    }
    Ok(steps)
}

/// The data, with a part of its examples where the recipe asks for one: those of the run that is resumed, or chosen now.
fn select(
    recipe: &Recipe,
    start: Start,
    data: Prepared,
    base: &Subject<'_>,
    stop: &AtomicBool,
    trackers: &mut [Box<dyn Tracker>],
) -> Result<(Prepared, Option<Selection>), TrainError> {
    // Without an example there is nothing to choose from, which is told where the steps are counted.
    let Some(config) = recipe.data.select.filter(|_| !data.train.is_empty()) else { return Ok((data, None)) };
    let path = recipe.output.join(SELECTED);
    let kept: Option<Selection> = match start {
        Start::Resume => RunFolder::open(recipe.output.clone())?.json(&path)?,
        Start::New | Start::Force => None,
    };
    let mut progress = |done, all| {
        for tracker in &mut *trackers {
            tracker.getting_ready("examples to choose from", done, all);
        }
    };
    let selection = if let Some(kept) = kept {
        kept.check(&data).map_err(|reason| TrainError::Run(format!("{}: {reason}", path.display())))?
    } else {
        // It is read to train by, so as it is trained.
        let decoder = &base.decoder.clone().with_kernels(recipe.kernels);
        Selection::make(recipe, config, &data, &Subject { decoder, ..*base }, stop, &mut progress)?
    };
    Ok((selection.apply(data), Some(selection)))
}

/// The conversations that are replayed, and the base's answers in them where they were made now: they are to be kept
/// in the run folder.
fn prepare_replay(
    recipe: &Recipe,
    start: Start,
    steps: u64,
    base: &Subject<'_>,
    hub: &Hub,
    stop: &AtomicBool,
    trackers: &mut [Box<dyn Tracker>],
) -> Result<(Option<Replay>, Option<Answered>), TrainError> {
    let Some(config) = &recipe.forgetting.replay else { return Ok((None, None)) };
    let prepare = |sources, trackers: &mut [Box<dyn Tracker>]| {
        let mut preparing = |progress| trackers.iter_mut().for_each(|tracker| tracker.preparing(&progress));
        Replay::prepare(recipe, config, sources, base.tokenizer, hub, &mut preparing).map(Some)
    };
    if config.answers == Answers::Own {
        return Ok((prepare(None, trackers)?, None));
    }
    let kept = recipe.output.join(REPLAY);
    if start == Start::Resume && kept.is_file() {
        return Ok((prepare(Some(vec![answers::source(&kept)]), trackers)?, None));
    }
    let most = steps.saturating_mul(replay::per_step(recipe, config) as u64);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut progress = |done, all| {
        for tracker in &mut *trackers {
            tracker.getting_ready("questions to replay", done, all);
        }
    };
    let answered = answers::answer(recipe, config, most, base, hub, stop, &mut progress)?;
    let replay = answered.in_a_file(|source| prepare(Some(vec![source]), trackers))?;
    Ok((replay, Some(answered)))
}

/// A digest of all that a resumed run must find as it was.
fn fingerprint(data: &Prepared, replay: Option<&Replay>, penalties: &Penalties) -> String {
    let replay = replay.map(|replay| replay.data.fingerprint.clone());
    let further: Vec<String> = replay.into_iter().chain(penalties.fingerprint()).collect();
    if further.is_empty() {
        return data.fingerprint.clone();
    }
    datasets::hex(&Sha256::digest([std::slice::from_ref(&data.fingerprint), &further].concat().join("+")))
}

/// Puts the adapter that is trained onto the decoder, a fresh one or that which the recipe names, and returns the
/// configuration of its files.
fn put_adapter(
    recipe: &Recipe,
    base: &BaseModel,
    decoder: &mut Decoder,
    device: &Device,
) -> Result<AdapterConfig, TrainError> {
    let lora = &recipe.lora;
    if let Some(folder) = &recipe.model.adapter {
        let config = adapter::load(decoder, folder, device)?;
        adapter::require_grad(decoder);
        return Ok(config);
    }
    parameters::attach_adapter(decoder, lora, recipe.train.seed, device)?;
    if parameters::count(decoder) == 0 {
        return Err(TrainError::Run(format!("lora.targets: there are no {} in {}", lora.targets, base.name)));
    }
    let mut config = AdapterConfig::of_files(lora, base.name.clone(), base.revision.clone());
    config.modules_to_save = lora.train_norms.then(|| adapter::norm_names(decoder));
    Ok(config)
}
