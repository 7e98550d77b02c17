//! **Read this first.** A fine-tuning run from recipe to adapter, in numbered phases.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use adapters::AdapterConfig;
use burn::tensor::Device;
use datasets::{Cache, ExampleRef, Hub, Prepared};
use sha2::{Digest as _, Sha256};

use crate::device;
use crate::error::TrainError;
use crate::forgetting::{Forgetting, Progress as Asked, Watch};
use crate::model::{BaseModel, Decoder, adapter};
use crate::plan::workload::Workload;
use crate::plan::{self, Checkpointing};
use crate::recipe::{Answers, Loaded};
use crate::track::{self, Plan, REPLAY, RunFolder, RunInfo, RunStatus, StepRecord, Tracker, ValidationRecord};
use crate::train::answers::Answered;
use crate::train::batch::{Layout, micro_batches};
use crate::train::checkpoint::{Checkpoints, Progress};
use crate::train::optimizer::{self, AdamW};
use crate::train::penalty::Penalties;
use crate::train::replay::{self, Replay};
use crate::train::schedule::learning_rate_factor;
use crate::train::step::{self, StepSettings};
use crate::train::{answers, parameters, validation};

/// How a run is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What the result lost of the base; `None` where the recipe does not ask.
    pub forgetting: Option<Forgetting>,
}

/// Why training ends before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStop {
    /// Validation no longer gains.
    Validation,
    /// More was forgotten than the recipe allows.
    Forgetting,
}

/// A run under way.
struct Run<'a> {
    recipe: &'a crate::recipe::Recipe,
    device: Device,
    decoder: Decoder,
    peft: AdapterConfig,
    data: Prepared,
    replay: Option<Replay>,
    penalties: Penalties,
    layout: Layout,
    optimizer: AdamW,
    checkpoints: Checkpoints,
    progress: Progress,
    total_examples: u64,
    total_steps: u64,
    warmup_steps: u64,
    recomputed_blocks: usize,
}

/// Runs a recipe. `stop` ends the run after the micro-batch under way, with its state saved.
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
) -> Result<Outcome, TrainError> {
    let recipe = &loaded.recipe;

    // 1. The base model and its tokenizer, and the memory that is left for them.
    let allowed_memory = plan::allowed_memory(recipe);
    let device = device::open(&recipe.device)?;
    let mut base = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), hub)?;
    let earlier = match start {
        Start::Resume => Some(RunFolder::open(recipe.output.clone())?.info()?),
        Start::New | Start::Force => None,
    };
    if let Some(clock) = earlier.as_ref().and_then(|info| info.template_clock.as_deref()) {
        // A template that prints the date must print the day on which the run started.
        base.tokenizer = base.tokenizer.with_clock(clock)?;
    }

    // 2. The data: tokens with their loss masks.
    let mut preparing = |progress| trackers.iter_mut().for_each(|tracker| tracker.preparing(&progress));
    let cache = Cache::from_env();
    let data = datasets::prepare(&recipe.data, &base.tokenizer, recipe.train.seed, hub, &cache, &mut preparing)?;

    // 3. The weights, the adapter and its optimizer.
    let plain = base.decoder(&device)?.with_kernels(recipe.kernels);
    let mut decoder = plain.clone();
    let peft = put_adapter(recipe, &base, &mut decoder, &device)?;
    let penalties = Penalties::new(&recipe.forgetting, &decoder, &device)?;
    let trainable_parameters = parameters::count(&decoder);
    let adapted_modules = decoder.adapters().count();
    let ratio = recipe.lora.loraplus_lr_ratio;
    let rates = parameters::learning_rates(&decoder, ratio, &device);
    let spared = parameters::spared(&decoder, ratio, &device);
    let optimizer = AdamW::new(recipe.train.adamw(), decoder.kernels, trainable_parameters, &device)
        .with_rates(rates)
        .with_spared(spared);

    // 4. The plan: how many steps, and what the forward pass keeps.
    let examples_per_epoch = data.order.len_per_epoch() as u64;
    let total_steps = recipe.train.total_steps(examples_per_epoch);
    if data.train.is_empty() || total_steps == 0 {
        return Err(TrainError::Run("there is nothing to train on: no example is left after preparation".to_owned()));
    }
    let batch = recipe.train.global_batch_size;
    if batch > data.train.len() {
        tracing::warn!("train.global_batch_size is {batch}, more than the {} training examples", data.train.len());
    }
    let asked = answers::Base { decoder: &plain, tokenizer: &base.tokenizer, device: &device };
    let (replay, answered) = prepare_replay(recipe, start, total_steps, asked, hub, stop, trackers)?;
    let layout = Layout::of(recipe);
    let workload = Workload::new(&data, &recipe.train, layout);
    let workload = replay.iter().fold(workload, |workload, replay| workload.with_replay(replay, layout));
    let checkpointing = Checkpointing::choose(recipe, &plan::model_sizes(recipe, &base)?, &workload, allowed_memory);
    if let Some(warning) = checkpointing.warning() {
        tracing::warn!("{warning}");
    }

    // 5. The questions by which forgetting is measured.
    let watch = match &recipe.forgetting {
        config if config.is_measured() => Some(Watch::open(recipe, config, &base, plain, &device, hub)?),
        _ => None,
    };

    // 6. The run folder, and the state of an earlier run in it.
    // Digesting the base takes a while: before the folder is made, so that a kill meanwhile leaves nothing behind.
    let mut info = match earlier {
        Some(info) => info,
        None => RunInfo::new(loaded, &base)?,
    };
    let folder = match start {
        Start::Resume => RunFolder::open(recipe.output.clone())?,
        Start::New | Start::Force => RunFolder::create(recipe.output.clone(), recipe, start == Start::Force)?,
    };
    if let Some(answered) = answered {
        answered.save(&folder.replay())?;
    }
    let checkpoints = Checkpoints::new(folder.checkpoints(), recipe.train.keep_checkpoints);
    let fingerprint = fingerprint(&data, replay.as_ref(), &penalties);
    let mut run = Run {
        recipe,
        progress: Progress { fingerprint: fingerprint.clone(), ..Progress::default() },
        warmup_steps: recipe.train.warmup(total_steps),
        device: device.clone(),
        decoder,
        peft,
        data,
        replay,
        penalties,
        layout,
        optimizer,
        checkpoints,
        total_examples: recipe.train.total_examples(examples_per_epoch),
        total_steps,
        recomputed_blocks: checkpointing.recomputed_blocks,
    };
    if start == Start::Resume {
        run.resume(&base, &fingerprint)?;
    }
    info.update(RunStatus::Running, run.progress.step, run.best(), None);
    folder.save_info(&info)?;
    trackers.extend(track::open(folder.path(), run.progress.step)?);
    let plan = Plan {
        total_steps,
        first_step: run.progress.step,
        train_examples: run.data.train.len(),
        validation_examples: run.data.validation.len(),
        trainable_parameters,
        adapted_modules,
        checkpointing,
    };
    trackers.iter_mut().try_for_each(|t| t.started(&plan))?;

    // 7. The steps.
    let ended = run.steps(stop, trackers, &folder, watch.as_ref()).map_err(|error| run.explain(error, &folder));
    let (status, reason) = match &ended {
        Ok(_) => (RunStatus::Finished, None),
        Err(TrainError::Interrupted { .. }) => (RunStatus::Interrupted, None),
        Err(error) => (RunStatus::Failed, Some(error.with_causes())),
    };
    info.update(status, run.progress.step, run.best(), reason);
    let noted = folder.save_info(&info);
    // On a full disk the note fails too; what ended the run is what is told.
    let stopped_early = ended?;
    noted?;

    // 8. The result: the best adapter where there was a validation, else the last; after a stop by the forgetting gate
    // the last that it let pass.
    let within = run.checkpoints.within_limits();
    if stopped_early == Some(EarlyStop::Forgetting) && within.is_dir() {
        adapter::load(&mut run.decoder, &within, &run.device)?;
    } else if run.progress.best_loss.is_some() {
        adapter::load(&mut run.decoder, &run.checkpoints.best(), &run.device)?;
    }
    adapter::save(&run.decoder, &run.peft, &folder.adapter(), true).map_err(|error| run.explain(error, &folder))?;

    // 9. What it cost the base's abilities.
    let forgetting = match &watch {
        Some(watch) => Some(run.forgetting(watch, &folder, stop, trackers)?),
        None => None,
    };
    Ok(Outcome { folder, progress: run.progress, stopped_early, forgetting })
}

/// Tells of the questioning, or ends it.
fn told(
    at: Asked,
    step: u64,
    stop: &AtomicBool,
    trackers: &mut [Box<dyn Tracker>],
    folder: &RunFolder,
) -> Result<(), TrainError> {
    if stop.load(Ordering::Relaxed) {
        return Err(TrainError::Interrupted { step, run: folder.path().to_owned() });
    }
    trackers.iter_mut().for_each(|tracker| tracker.questioning(&at));
    Ok(())
}

/// The conversations that are replayed, and the base's answers in them where they were made now: they are to be kept
/// in the run folder.
fn prepare_replay(
    recipe: &crate::recipe::Recipe,
    start: Start,
    steps: u64,
    base: answers::Base<'_>,
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
        let text = format!("the base answers the questions to replay: {done} of {all}");
        for tracker in &mut *trackers {
            tracker.note(&text);
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
    recipe: &crate::recipe::Recipe,
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

impl Run<'_> {
    /// Makes the steps that are left. Returns why they ended early, if they did.
    fn steps(
        &mut self,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
        folder: &RunFolder,
        watch: Option<&Watch<'_>>,
    ) -> Result<Option<EarlyStop>, TrainError> {
        let eval_every = self.eval_every();
        let save_every = self.recipe.train.save_every.unwrap_or(eval_every);
        let mut saved = self.progress.step;
        while self.progress.step < self.total_steps {
            if let Some(watch) = watch.filter(|watch| self.is_measured_now(watch.config.every)) {
                let passed = match self.measure(watch, stop, trackers, folder) {
                    Err(error @ TrainError::Interrupted { .. }) if saved != self.progress.step => {
                        self.save(trackers)?;
                        return Err(error);
                    }
                    passed => passed?,
                };
                if !passed && watch.config.early_stop {
                    return Ok(Some(EarlyStop::Forgetting));
                }
            }
            let Some(record) = self.step(stop)? else {
                if saved != self.progress.step {
                    self.save(trackers)?;
                }
                return Err(TrainError::Interrupted { step: self.progress.step, run: folder.path().to_owned() });
            };
            trackers.iter_mut().try_for_each(|t| t.step(&record))?;
            let last = self.progress.step == self.total_steps;
            let mut patience_over = false;
            if !self.data.validation.is_empty() && (last || self.progress.step.is_multiple_of(eval_every)) {
                self.validate(trackers)?;
                let patience = self.recipe.train.early_stopping;
                patience_over = patience.is_some_and(|p| self.progress.evaluations_without_gain >= p);
            }
            if last || patience_over || self.progress.step.is_multiple_of(save_every) {
                self.save(trackers)?;
                saved = self.progress.step;
            }
            if patience_over && !last {
                return Ok(Some(EarlyStop::Validation));
            }
        }
        Ok(None)
    }

    /// Makes one optimizer step; `None` when stopped before its end, with nothing changed.
    fn step(&mut self, stop: &AtomicBool) -> Result<Option<StepRecord>, TrainError> {
        let started = Instant::now();
        let index = self.progress.step;
        let train = &self.recipe.train;
        let position = index * train.global_batch_size as u64;
        let left = usize::try_from(self.total_examples - position).unwrap_or(usize::MAX);
        let examples = self.data.examples_at(position, train.global_batch_size.min(left));
        let mut batches = micro_batches(&examples, self.layout);
        batches.extend(self.replay.iter().flat_map(|replay| replay.micro_batches(index, self.layout)));
        let settings = StepSettings {
            seed: train.seed,
            step: index,
            dropout: self.recipe.lora.dropout,
            recomputed_blocks: self.recomputed_blocks,
        };
        let stopped = || stop.load(Ordering::Relaxed);
        let Some(result) = step::gradient(&self.decoder, &batches, settings, &self.device, &stopped) else {
            return Ok(None);
        };
        let learning_rate = self.learning_rate(index);
        let flat = parameters::flatten(&self.decoder);
        let (penalty, gradient) = self.penalties.add(&flat, result.gradient);
        let norm = optimizer::norm(&gradient);
        let of_replay = [("replay loss", result.replay_loss), ("divergence from the base", result.kl)];
        let of_replay = of_replay.into_iter().chain([("penalty", penalty)]).filter_map(|(what, v)| Some((what, v?)));
        for (what, value) in [("loss", result.loss)].into_iter().chain(of_replay).chain([("gradient norm", norm)]) {
            self.check_finite(what, value, index, examples.iter().cloned())?;
        }
        let scale = optimizer::clip_scale(norm, train.max_grad_norm);
        let updated = self.optimizer.step(flat, gradient, scale, learning_rate);
        parameters::assign(&mut self.decoder, &updated);
        let seconds = started.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.tokens += result.tokens as u64;
        self.progress.seconds += seconds;
        Ok(Some(StepRecord {
            step: self.progress.step,
            loss: result.loss,
            replay_loss: result.replay_loss,
            kl: result.kl,
            penalty,
            gradient_norm: norm,
            learning_rate,
            tokens: result.tokens,
            supervised_tokens: result.supervised,
            seconds,
        }))
    }

    /// Of a step, counted from 0.
    fn learning_rate(&self, step: u64) -> f64 {
        let train = &self.recipe.train;
        train.learning_rate * learning_rate_factor(train.schedule, step, self.warmup_steps, self.total_steps)
    }

    /// Refuses a figure that is not a number; `step` is counted from 0.
    fn check_finite<'e>(
        &self,
        what: &'static str,
        value: f64,
        step: u64,
        examples: impl IntoIterator<Item = ExampleRef<'e>>,
    ) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        let places: Vec<String> = examples.into_iter().take(4).map(|e| e.origin.to_string()).collect();
        let (learning_rate, examples) = (self.learning_rate(step), places.join(", "));
        Err(TrainError::NotFinite { what, value, step: step + 1, learning_rate, examples })
    }

    /// Says of a failed write what is left and how to go on.
    fn explain(&self, error: TrainError, folder: &RunFolder) -> TrainError {
        if !error.is_write() {
            return error;
        }
        let (reason, run) = (error.with_causes(), folder.path().to_owned());
        TrainError::NotSaved { step: self.progress.step, reason, run }
    }

    /// Measures the validation loss and keeps the adapter when it is the lowest so far.
    fn validate(&mut self, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let started = Instant::now();
        let loss = validation::loss(&self.decoder.inner(), &self.data.validation, self.layout, &self.device);
        self.check_finite("validation loss", loss, self.progress.step - 1, self.data.validation.iter())?;
        let best = self.progress.best_loss.is_none_or(|lowest| loss < lowest);
        if best {
            self.progress.best_loss = Some(loss);
            self.progress.best_step = self.progress.step;
            self.progress.evaluations_without_gain = 0;
            self.checkpoints.save_best(&self.decoder, &self.peft)?;
        } else {
            self.progress.evaluations_without_gain += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        let record = ValidationRecord { step: self.progress.step, validation_loss: loss, best, seconds };
        trackers.iter_mut().try_for_each(|t| t.validation(&record))
    }

    /// Whether forgetting is to be measured before the next step.
    fn is_measured_now(&self, every: Option<u64>) -> bool {
        let step = self.progress.step;
        step > self.progress.measured_step && every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Measures forgetting between two steps, and keeps an adapter that the gate lets pass. Returns whether it does.
    fn measure(
        &mut self,
        watch: &Watch<'_>,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
        folder: &RunFolder,
    ) -> Result<bool, TrainError> {
        let step = self.progress.step;
        let adapted = self.decoder.inner();
        let found = watch.measure(&adapted, None, &mut |at| told(at, step, stop, trackers, folder))?;
        trackers.iter_mut().try_for_each(|t| t.forgetting(&found.record(step)))?;
        self.progress.measured_step = step;
        if found.verdict.passed {
            adapter::save(&self.decoder, &self.peft, &self.checkpoints.within_limits(), true)?;
        }
        Ok(found.verdict.passed)
    }

    /// Measures what the result lost, and keeps the figures in the run folder.
    fn forgetting(
        &self,
        watch: &Watch<'_>,
        folder: &RunFolder,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
    ) -> Result<Forgetting, TrainError> {
        // As it was written, so that it is the model that others load.
        let mut adapted = watch.base().clone();
        adapter::load(&mut adapted, &folder.adapter(), &self.device)?;
        let digest = adapter::digest(&folder.adapter())?;
        let step = self.progress.step;
        let found = watch.measure(&adapted, Some(&digest), &mut |at| told(at, step, stop, trackers, folder))?;
        trackers.iter_mut().try_for_each(|t| t.forgetting(&found.record(step)))?;
        found.save(folder).map_err(|error| self.explain(error, folder))?;
        Ok(found)
    }

    /// The lowest validation loss and its step.
    fn best(&self) -> Option<(f64, u64)> {
        self.progress.best_loss.map(|loss| (loss, self.progress.best_step))
    }

    fn save(&self, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let path = self.checkpoints.save(&self.decoder, &self.peft, &self.optimizer, &self.progress)?;
        for tracker in trackers {
            tracker.note(&format!("saved {}", path.display()));
        }
        Ok(())
    }

    /// Takes up the newest checkpoint; a run killed before its first one starts from its beginning.
    fn resume(&mut self, base: &BaseModel, fingerprint: &str) -> Result<(), TrainError> {
        if self.checkpoints.list().is_empty() {
            return Ok(());
        }
        // The adapter belongs to the base as it is, of which a start may have taken parts out.
        self.decoder = base.decoder(&self.device)?.with_kernels(self.recipe.kernels);
        let progress = self.checkpoints.resume(&mut self.decoder, &mut self.optimizer, &self.device)?;
        if self.recipe.model.adapter.is_none() {
            parameters::resume_adapter(&mut self.decoder, &self.recipe.lora)?;
        }
        adapter::require_grad(&mut self.decoder);
        if progress.fingerprint != fingerprint {
            return Err(TrainError::Run(
                "the training data is not what the run started with, or its replayed conversations or the adapters of \
                 earlier tasks are not, so it cannot be resumed exactly; restore the data, or start a new run in another \
                 output folder"
                    .to_owned(),
            ));
        }
        self.progress = progress;
        Ok(())
    }

    /// Steps between validations: as the recipe says, else an epoch.
    fn eval_every(&self) -> u64 {
        self.recipe.train.eval_every(self.data.order.len_per_epoch() as u64)
    }
}
