//! `greffon frugal`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use anstream::{eprintln, println};
use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use sha2::{Digest as _, Sha256};

use super::plan::planned_rates;
use super::subject::Comparing;
use super::verify::REFUSED;
use super::{output, plan, progress, training};
use crate::cli::FrugalArgs;
use crate::cluster::{Collective, Single};
use crate::device;
use crate::energy::Stage;
use crate::error::TrainError;
use crate::eval::evaluation::EXACT_MATCH;
use crate::eval::{Probe as _, Subject, probes::Answers};
use crate::frugal::search::{Found, Goal, Lab, Planned, search};
use crate::frugal::{Arm, Trained, Tried, arms, frontier};
use crate::kernels::{self, Kernels};
use crate::model::{BaseModel, adapter};
use crate::plan::time::Rates;
use crate::recipe::{DeviceConfig, Loaded, MemorySize, Recipe, run_name};
use crate::report::RunReport;

/// In a search's folder: what the machine does in a second.
const RATES: &str = "rates.json";

pub(super) fn frugal(args: &FrugalArgs) -> anyhow::Result<ExitCode> {
    let goal = goal(args)?;
    let folder = args.to.clone().unwrap_or_else(|| Path::new("frugal").join(run_name(&args.recipe)));
    fs::create_dir_all(&folder).map_err(|source| TrainError::Write { path: folder.clone(), source })?;
    let folder = absolute(&folder).context("finding the current folder")?;
    let mut bench = Bench::new(args, folder.clone());
    let recipe = bench.load(&[])?.recipe;
    if recipe.data.validation.is_empty() {
        let reason = "recipes are compared by the answers to validation questions, and this one names none; list some \
                      under data.validation";
        return Err(TrainError::Run(reason.to_owned()).into());
    }
    let blocks = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), &progress::hub())?
        .config
        .num_hidden_layers;
    let given = args.arm.iter().map(|text| given_arm(text)).collect::<Result<Vec<Arm>, _>>()?;
    let arms: Vec<Arm> = given.into_iter().chain(arms::arms(&recipe, blocks)).collect();
    for arm in &arms {
        // Every recipe is checked before the first is trained.
        let steps = ["train.max_steps=1".to_owned()];
        bench.load(&[arm.set.as_slice(), &steps].concat())?.check().map_err(TrainError::from)?;
    }
    let always = arms::same_numbers(&recipe, kernels::multiplies_bf16());
    let found = search(&mut bench, &always, &arms, &goal).map_err(|error| {
        let is_stopped = error.is_stop();
        let error = anyhow::Error::new(error);
        if is_stopped { error.context("the search goes on when the same command is given again") } else { error }
    })?;

    let write = |name: &str, text: &str| {
        adapters::write_atomic(&folder.join(name), true, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)
    };
    write("frugal.json", &serde_json::to_string_pretty(&found)?)?;
    write("frontier.svg", &frontier::svg(&found)?)?;
    let recommended = found.recommended.map(|place| &found.tried[place]);
    if let Some(best) = recommended {
        let steps = format!("train.max_steps={}", best.trained.steps);
        let set = [args.set.as_slice(), &best.arm.set, &[steps]].concat();
        write("recommended.yaml", &Recipe::load(&args.recipe, &set).map_err(TrainError::from)?.recipe.resolved_yaml())?;
    }
    if args.json {
        output::json(&found)?;
    } else {
        println!("{}", table(&found));
        tell(&found, recommended, &folder, args.tolerance);
    }
    Ok(if recommended.is_some() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn goal(args: &FrugalArgs) -> Result<Goal, TrainError> {
    let is_part = |part: &f64| *part > 0.0 && *part < 1.0;
    if args.parts.is_empty() || !args.parts.iter().all(is_part) || !args.parts.is_sorted_by(|a, b| a < b) {
        let reason =
            format!("--parts: got {:?}, expected numbers between 0 and 1, each larger than the one before", args.parts);
        return Err(TrainError::Run(reason));
    }
    if !(0.0..=100.0).contains(&args.tolerance) {
        return Err(TrainError::Run(format!("--tolerance: got {}, expected points from 0 to 100", args.tolerance)));
    }
    Ok(Goal { tolerance: args.tolerance / 100.0, parts: args.parts.clone(), max_kwh: args.max_kwh })
}

/// `NAME: KEY=VALUE; KEY=VALUE`.
fn given_arm(text: &str) -> Result<Arm, TrainError> {
    let wrong =
        || TrainError::Run(format!("--arm: got {text:?}, expected NAME: KEY=VALUE, several separated by semicolons"));
    let (name, values) = text.split_once(':').ok_or_else(wrong)?;
    let set: Vec<String> = values.split(';').map(|value| value.trim().to_owned()).collect();
    if name.trim().is_empty() || set.iter().any(|value| !value.contains('=')) {
        return Err(wrong());
    }
    Ok(Arm { name: name.trim().to_owned(), set })
}

/// Makes runs of the recipe on this machine, one after the other.
struct Bench<'a> {
    args: &'a FrugalArgs,
    folder: PathBuf,
    /// What this machine does in a second with each kind of kernels, so that plans are compared and not measurements.
    rates: BTreeMap<Kernels, Rates>,
}

impl<'a> Bench<'a> {
    fn new(args: &'a FrugalArgs, folder: PathBuf) -> Self {
        // Damaged or not there: it is measured anew.
        let rates = fs::read(folder.join(RATES)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { args, folder, rates: rates.unwrap_or_default() }
    }

    /// Measured once for a search: one that goes on must come to the same numbers of steps, or it would train anew what
    /// is there.
    fn rates(&mut self, recipe: &Recipe) -> Result<Rates, TrainError> {
        if let Some(&rates) = self.rates.get(&recipe.kernels) {
            return Ok(rates);
        }
        let rates = planned_rates(recipe)?;
        self.rates.insert(recipe.kernels, rates);
        let text = serde_json::to_vec(&self.rates).map_err(std::io::Error::other);
        adapters::write_atomic(&self.folder.join(RATES), true, |out| out.write_all(&text?))?;
        Ok(rates)
    }

    /// The recipe with some values; what is forgotten is asked of the one that is trained in the end.
    fn load(&self, set: &[String]) -> Result<Loaded, TrainError> {
        let own = ["forgetting.suite=none".to_owned()];
        Ok(Recipe::load(&self.args.recipe, &[self.args.set.as_slice(), set, &own].concat())?)
    }
}

impl Lab for Bench<'_> {
    fn planned(&mut self, set: &[String], steps: u64) -> Result<Planned, TrainError> {
        let mut recipe = self.load(&[set, &[format!("train.max_steps={steps}")]].concat())?.recipe;
        let memory: MemorySize = "1 TiB".parse().expect("it is a size");
        let Rates { flops, bytes } = self.rates(&recipe)?;
        recipe.plan.device = Some(DeviceConfig { tflops: flops / 1e12, bandwidth: bytes / 1e9, memory, watts: None });
        plan::of_run(&recipe)
    }

    fn train(&mut self, set: &[String], steps: Option<u64>) -> Result<Trained, TrainError> {
        let steps: Vec<String> = steps.iter().map(|steps| format!("train.max_steps={steps}")).collect();
        let values = [set, &steps].concat();
        let digest = datasets::hex(&Sha256::digest(values.join("\n")));
        let name = if values.is_empty() { "full".to_owned() } else { format!("trial-{}", &digest[..12]) };
        let run = self.folder.join(name);
        let loaded = self.load(&[values, vec![format!("output={}", run.display())]].concat())?;
        training::run_or_take(&loaded, &Single).map_err(|error| match error.downcast::<TrainError>() {
            Ok(error) => error,
            Err(error) => TrainError::Run(error.to_string()),
        })?;
        trained(&run)
    }

    fn exact_match(&mut self, trained: &Trained) -> Result<f64, TrainError> {
        let comparing = Comparing::open(&trained.folder, None, &[])?;
        let recipe = &comparing.recipe;
        let hub = progress::hub();
        let base = comparing.base(&hub)?;
        let device = device::open_for(&recipe.device, &Single)?;
        let mut decoder = base.decoder(&device)?.with_kernels(recipe.kernels.for_questions());
        adapter::load(&mut decoder, &comparing.adapter, &device)?;
        let (data, screen) = (&recipe.data, recipe.data.screen.as_ref());
        let asked = datasets::load_conversations(&data.validation, data.system_prompt.as_deref(), screen, &hub)?;
        let collective: &dyn Collective = &Single;
        let subject = Subject { decoder: &decoder, tokenizer: &base.tokenizer, device: &device, collective };
        let bar = progress::bar(asked.len(), "validation questions");
        let found = Answers::new(&recipe.eval).run(&subject, &asked, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let score = found.scores.iter().find(|score| score.metric == EXACT_MATCH);
        Ok(score.map_or(0.0, crate::eval::Score::mean))
    }

    fn left_out(&mut self, arm: &Arm, error: &TrainError) {
        eprintln!("{}: left out, {error}", arm.name);
    }

    fn tell(&mut self, tried: &Tried) {
        let Trained { steps, seconds, loss, .. } = &tried.trained;
        let exact_match =
            tried.exact_match.map_or_else(String::new, |share| format!(", exact match {:.1} %", 100.0 * share));
        eprintln!("{}: {steps} steps, {seconds:.0} s, loss {loss:.4}{exact_match}", tried.arm.name);
    }
}

/// What a finished run took and reached.
fn trained(run: &Path) -> Result<Trained, TrainError> {
    let report = RunReport::read(run)?;
    let figures = report.figures();
    let energy = report.info.as_ref().and_then(|info| info.energy.as_ref());
    let of = |stage| energy.and_then(|energy| energy.stages.get(&stage)).map_or(0.0, |used| used.kwh());
    let kwh = (of(Stage::Data) + of(Stage::Train)) * energy.map_or(1.0, |energy| energy.pue);
    let loss = figures
        .validation_loss
        .ok_or_else(|| TrainError::Run(format!("{}: the run has no validation loss to compare", run.display())))?;
    let selection = report.info.as_ref().and_then(|info| info.data.as_ref()?.selection);
    let seconds = figures.seconds + selection.map_or(0.0, |selection| selection.seconds);
    Ok(Trained { folder: run.to_owned(), steps: figures.steps, seconds, kwh, loss })
}

fn table(found: &Found) -> Table {
    let mut table = Table::new();
    let head = ["", "of the time", "steps", "seconds", "Wh", "loss", "exact match"];
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(head);
    for (place, tried) in [&found.full].into_iter().chain(&found.tried).enumerate() {
        let Trained { steps, seconds, kwh, loss, .. } = &tried.trained;
        let mark = if found.recommended.is_some_and(|best| best + 1 == place) { "* " } else { "" };
        table.add_row([
            format!("{mark}{}", tried.arm.name),
            format!("{:.1} %", 100.0 * seconds / found.full.trained.seconds),
            steps.to_string(),
            format!("{seconds:.0}"),
            format!("{:.3}", 1e3 * kwh),
            format!("{loss:.4}"),
            tried.exact_match.map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn tell(found: &Found, recommended: Option<&Tried>, folder: &Path, tolerance: f64) {
    if found.is_out_of_budget {
        println!("the search ended with its budget");
    }
    match recommended {
        Some(best) => {
            let full = &found.full.trained;
            let (seconds, kwh) = (best.trained.seconds / full.seconds, full.kwh - best.trained.kwh);
            println!(
                "as good within {tolerance} points for {:.0} % less time: {}",
                100.0 * (1.0 - seconds),
                folder.join("recommended.yaml").display()
            );
            println!(
                "the search took {:.3} Wh; a training with the new recipe takes {:.3} Wh less, so it is paid back after {:.0}",
                1e3 * found.kwh,
                1e3 * kwh,
                (found.kwh / kwh).ceil()
            );
        }
        None => {
            println!(
                "nothing cheaper was as good within {tolerance} points; allow more with --tolerance, or try --arm"
            );
        }
    }
    println!("written: {}", folder.join("frontier.svg").display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_arm_has_a_name_and_values() {
        let arm = given_arm("short rows: data.max_length=256; train.epochs=2").unwrap();
        assert_eq!(
            (arm.name.as_str(), arm.set.as_slice()),
            ("short rows", &["data.max_length=256".to_owned(), "train.epochs=2".to_owned()][..])
        );
        for wrong in ["data.max_length=256", ": a=1", "name: a", "name:"] {
            assert!(given_arm(wrong).unwrap_err().to_string().contains("expected NAME: KEY=VALUE"), "{wrong}");
        }
    }
}
