//! What a manifest says of an export: the predicate of its statement. What nobody knows is `null`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Statement;
use crate::energy::EnergyRecord;
use crate::error::TrainError;
use crate::prove::{Export, ForgettingNote, Form, Manifest, Proof};
use crate::provenance::Data;
use crate::recipe::{Recipe, without_folder};
use crate::track::{RunFolder, RunInfo, RunStatus};

/// The facts. No folder of this machine is among them, so that they can be shown to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The export's form.
    pub form: Form,
    /// The version of greffon that wrote the export.
    pub written_by: String,
    /// The base.
    pub base: BaseFacts,
    /// The adapters that the export was made of.
    pub made_of: Vec<AdapterFacts>,
    /// The run that trained the adapter; `null` for what is of several runs, or of none that is known.
    pub run: Option<RunFacts>,
    /// The samples that were learned from.
    pub data: Option<Data>,
    /// What was lost of the base.
    pub forgetting: Option<ForgettingNote>,
    /// What servers were found to compute.
    pub proofs: Vec<Proof>,
}

/// The base of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFacts {
    /// Its name on the hub, or that of its folder or file.
    pub name: Option<String>,
    /// The revision on the hub.
    pub revision: Option<String>,
    /// SHA-256 over its weight files.
    pub sha256: Option<String>,
}

/// An adapter that an export was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterFacts {
    /// The name of its folder or file; of a run's adapter that of the run.
    pub name: String,
    /// Which of a run's adapters it is.
    pub checkpoint: Option<Checkpoint>,
    /// SHA-256 of its files, by name.
    pub files: BTreeMap<String, String>,
}

/// One of the adapters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoint {
    /// The result.
    Best,
    /// The one of the last checkpoint.
    Last,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The name of its folder.
    pub name: String,
    /// How it stands.
    pub status: RunStatus,
    /// When it first started, UTC.
    pub started: String,
    /// When its record was last written, UTC.
    pub updated: String,
    /// The recipe as it ran, every default written out. Files in the recipe's folder are named from there, others by their
    /// own name.
    pub recipe: Value,
    /// What computed it.
    pub code: Code,
    /// Where.
    pub environment: Environment,
    /// By how many.
    pub topology: Option<Topology>,
    /// What came of it.
    pub metrics: Metrics,
    /// The time that a chat template which prints the date was given.
    pub template_clock: Option<String>,
    /// What it took.
    pub energy: Option<EnergyRecord>,
}

/// The code of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Version of greffon.
    pub greffon: String,
    /// Version of burn.
    pub burn: String,
    /// The git commit of the recipe's folder, with `-dirty` when it has changes.
    pub git: Option<String>,
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The machine's name.
    pub host: String,
    /// Logical CPUs that the run might use.
    pub cpus: usize,
    /// The instruction set that the kernels computed with.
    pub instructions: Option<String>,
}

/// The processes of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// How many.
    pub ranks: usize,
}

/// The figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Optimizer steps made.
    pub steps: u64,
    /// Optimizer steps that the recipe asks for.
    pub planned_steps: Option<u64>,
    /// Examples to train on.
    pub train_examples: Option<usize>,
    /// Examples held out.
    pub validation_examples: Option<usize>,
    /// Numbers that were trained.
    pub trained_numbers: Option<usize>,
    /// The lowest validation loss, in nats per token.
    pub best_validation_loss: Option<f64>,
    /// The step that it was found after.
    pub best_step: Option<u64>,
    /// What `greffon eval` found, a metric each; `null` where it was not asked.
    pub evaluation: Option<Value>,
}

impl Facts {
    /// Of an export that `greffon export` made of a run's adapter, which lies in the folder `source`.
    ///
    /// # Errors
    /// When the run's files cannot be read.
    pub fn of_run(export: &Export, run: &RunFolder, source: &Path, checkpoint: Checkpoint) -> Result<Self, TrainError> {
        let (info, recipe) = (run.info()?, Recipe::load(&run.recipe(), &[])?.recipe);
        let base = BaseFacts::of_run(&recipe, &info);
        let run = RunFacts::new(run, info, recipe)?;
        let files = Export::open(source)?.digests()?;
        let made_of = vec![AdapterFacts { name: run.name.clone(), checkpoint: Some(checkpoint), files }];
        Ok(Self { run: Some(run), made_of, ..Self::new(export, base) }.with(Manifest::read(export)?))
    }

    /// Of an export that was made of others. What is known of the run of a single one stays known.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn of_others(export: &Export, base: BaseFacts, sources: &[Export]) -> Result<Self, TrainError> {
        let earlier = match sources {
            [source] => earlier(source),
            _ => None,
        };
        let checkpoint = earlier.as_ref().and_then(|facts| facts.made_of.first()?.checkpoint);
        let adapter = |source: &Export| {
            Ok::<_, TrainError>(AdapterFacts { name: source.name(), checkpoint, files: source.digests()? })
        };
        let made_of = sources.iter().map(adapter).collect::<Result<_, _>>()?;
        let run = earlier.and_then(|facts| facts.run);
        Ok(Self { made_of, run, ..Self::new(export, base) }.with(Manifest::read(export)?))
    }

    /// Of an export of which nothing is known but what lies in it.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn of_files(export: &Export) -> Result<Self, TrainError> {
        Ok(Self::new(export, BaseFacts::named_by(export)?).with(Manifest::read(export)?))
    }

    fn new(export: &Export, base: BaseFacts) -> Self {
        Self {
            form: export.form(),
            written_by: concat!("greffon ", env!("CARGO_PKG_VERSION")).to_owned(),
            base,
            made_of: Vec::new(),
            run: None,
            data: None,
            forgetting: None,
            proofs: Vec::new(),
        }
    }

    /// The same with what the working record says of data, forgetting and proofs, which it alone owns.
    #[must_use]
    pub(super) fn with(self, record: Manifest) -> Self {
        let record = record.without_folders();
        Self { data: record.data, forgetting: record.forgetting, proofs: record.proofs, ..self }
    }
}

impl BaseFacts {
    /// That of a run.
    pub fn of_run(recipe: &Recipe, info: &RunInfo) -> Self {
        Self {
            name: Some(without_folder(&recipe.model.base)),
            revision: recipe.model.revision.clone(),
            sha256: Some(info.base_digest.clone()),
        }
    }

    /// As an export's own files name it.
    ///
    /// # Errors
    /// When a PEFT folder's configuration cannot be read.
    pub fn named_by(export: &Export) -> Result<Self, TrainError> {
        if export.form() != Form::Peft {
            return Ok(Self::default());
        }
        let path = export.path().join(adapters::export::peft::CONFIG_FILE);
        let text = fs::read(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
        let config: Value = serde_json::from_slice(&text)
            .map_err(|error| TrainError::Run(format!("{}: not the JSON that was expected: {error}", path.display())))?;
        let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
        let name = text("base_model_name_or_path").map(|name| without_folder(&name));
        Ok(Self { name, revision: text("revision"), sha256: None })
    }
}

impl RunFacts {
    /// What a run folder knows.
    ///
    /// # Errors
    /// When its evaluation cannot be read.
    pub fn new(run: &RunFolder, info: RunInfo, recipe: Recipe) -> Result<Self, TrainError> {
        let evaluation = read_evaluation(run)?;
        let RunInfo { plan, best, .. } = info;
        Ok(Self {
            name: name_of(run.path()),
            status: info.status,
            started: info.started,
            updated: info.updated,
            recipe: public_recipe(recipe, &info.recipe)?,
            code: Code { greffon: info.greffon_version, burn: info.burn_version, git: info.git },
            environment: Environment { host: info.host, cpus: info.cpus, instructions: info.instructions },
            topology: plan.as_ref().map(|plan| Topology { ranks: plan.ranks }),
            metrics: Metrics {
                steps: info.step,
                planned_steps: plan.as_ref().map(|plan| plan.total_steps),
                train_examples: plan.as_ref().map(|plan| plan.train_examples),
                validation_examples: plan.as_ref().map(|plan| plan.validation_examples),
                trained_numbers: plan.as_ref().map(|plan| plan.trainable_parameters),
                best_validation_loss: best.map(|(loss, _)| loss),
                best_step: best.map(|(_, step)| step),
                evaluation,
            },
            template_clock: info.template_clock,
            energy: info.energy,
        })
    }
}

/// What is known of an export that another is made of. What is no manifest of ours tells nothing.
fn earlier(source: &Export) -> Option<Facts> {
    let statement = Statement::of(source).unwrap_or_else(|error| {
        tracing::warn!("what is known of the run is left out: {}", error.with_causes());
        None
    });
    statement.map(|statement| statement.predicate)
}

/// The figures of an evaluation that the run folder keeps, without the answers.
pub(crate) fn read_evaluation(run: &RunFolder) -> Result<Option<Value>, TrainError> {
    let path = run.path().join("eval.json");
    match fs::read(&path) {
        Ok(bytes) => {
            let evaluation: Value = serde_json::from_slice(&bytes)
                .map_err(|error| TrainError::Run(format!("{}: not an evaluation: {error}", path.display())))?;
            Ok(evaluation.get("metrics").cloned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TrainError::Read { path, source }),
    }
}

/// A recipe as others may see it, by the folder of its file.
fn public_recipe(recipe: Recipe, file: &Path) -> Result<Value, TrainError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().ok();
    let public = |key: &str, path: &Path| {
        let inside = folder.as_ref().and_then(|folder| path.strip_prefix(folder).ok());
        let own = || path.file_name().map(PathBuf::from).unwrap_or_default();
        let path = inside.map_or_else(own, Path::to_owned);
        // A folder in a folder would pass for a name on the hub.
        Ok::<_, TrainError>(if key == "model.base" { Path::new(".").join(path) } else { path })
    };
    let mut recipe = recipe.with_paths(public)?;
    recipe.output = recipe.output.file_name().map(PathBuf::from).unwrap_or_default();
    serde_json::to_value(recipe).map_err(|error| TrainError::Run(format!("the recipe cannot be written: {error}")))
}

/// The own name of a folder or file, also of `.`.
pub(super) fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
