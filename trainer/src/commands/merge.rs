//! `greffon merge`.

use std::path::Path;

use adapters::export::merged::MergedForm;
use adapters::export::safetensors::FloatType;
use adapters::merge::Part;
use adapters::{AdapterConfig, GgmlType};
use anstream::println;
use clap::ValueEnum as _;
use serde_json::json;

use super::output;
use super::{combine, progress};
use crate::cli::{MergeArgs, MergedAs, MergedType};
use crate::error::TrainError;
use crate::model::BaseModel;
use crate::model::family::FAMILIES;
use crate::model::merged::Merged;
use crate::prove::Export;
use crate::provenance::Place;
use crate::recipe::{ModelConfig, without_folder};
use crate::trust::{BaseFacts, Facts, Statement};

pub(super) fn merge(args: &MergeArgs) -> anyhow::Result<()> {
    let target = target(args)?;
    let part = combine::adapter(args)?;
    let mut sources = args.adapters.iter().map(|path| place(path)).collect::<Result<Vec<_>, _>>()?;
    // Before a model is written that would stand there without a record.
    sources.iter().try_for_each(Place::check)?;
    let Some((form, name)) = target else {
        combine::write(args, &part.adapter)?;
        Place::carry(&sources, &place(&args.to)?)?;
        let to = Export::open(&args.to)?;
        return Ok(write_manifest(args, &to, BaseFacts::named_by(&to)?)?);
    };
    let Part { path, adapter } = &part;
    let revision = revision(args, name, &part)?;
    let model = ModelConfig { revision, ..ModelConfig::new(name) };
    let base = BaseModel::open(&model, args.chat_template.as_deref(), &progress::hub())?;
    refuse_own_base(&args.to, base.path())?;
    check_belongs(path, &adapter.config, &base)?;
    if base.tokenizer.template().is_err() {
        tracing::warn!(
            "{}: has no chat template, so the merged model has none and servers refuse chats with it; give it one with \
             --chat-template",
            name
        );
    }

    let base_place = place(base.path())?;
    base_place.check()?;
    sources.push(base_place);
    let merged = Merged::new(&base)?.with_adapter(path, adapter)?;
    let what = match form {
        Form::Safetensors(form) => {
            merged.write_folder(&args.to, form, args.force)?;
            format!("Hugging Face folder, {}", form.float.torch_name())
        }
        Form::Gguf(ggml_type) => {
            merged.write_gguf(&args.to, ggml_type, args.force)?;
            format!("GGUF file, {ggml_type}")
        }
    };
    Place::carry(&sources, &place(&args.to)?)?;
    let facts =
        BaseFacts { name: Some(without_folder(name)), revision: base.revision.clone(), sha256: Some(base.digest()?) };
    write_manifest(args, &Export::open(&args.to)?, facts)?;
    if args.json {
        let report = json!({ "model": args.to, "form": what, "base": name, "adapters": args.adapters });
        output::json(&report)?;
        return Ok(());
    }
    let folded = if args.adapters.len() == 1 { "the adapter" } else { "the combined adapters" };
    println!("wrote {}: {what}, {name} with {folded} folded in", args.to.display());
    Ok(())
}

/// Writes what is known of what was merged.
fn write_manifest(args: &MergeArgs, to: &Export, base: BaseFacts) -> Result<(), TrainError> {
    let sources = args.adapters.iter().map(|path| Export::open(path)).collect::<Result<Vec<_>, _>>()?;
    Statement::write_new(to, Facts::of_others(to, base, &sources)?, None)
}

/// Where the record of what a model or an adapter learned from lies.
fn place(path: &Path) -> Result<Place, TrainError> {
    Ok(Place::of_export(&Export::open(path)?))
}

/// The form and the base of a merged model; nothing when the adapters become an adapter.
fn target(args: &MergeArgs) -> Result<Option<(Form, &str)>, TrainError> {
    let refuse = |reason: String| Err(TrainError::Run(reason));
    let form = args.form.unwrap_or(if args.model.is_some() { MergedAs::Safetensors } else { MergedAs::Peft });
    match (form, &args.model) {
        (MergedAs::Peft, Some(_)) => refuse(
            "--as peft writes an adapter and takes no --model; fold it into the base with --as safetensors or gguf"
                .to_owned(),
        ),
        (MergedAs::Peft, None) if args.number_type != MergedType::F32 => refuse(format!(
            "--type is {}, but an adapter's numbers are f32; leave it out, or fold the adapter into a base with --model",
            args.number_type.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
        )),
        (MergedAs::Peft, None) => Ok(None),
        (_, None) => refuse("--as safetensors or gguf folds into a base; name it with --model".to_owned()),
        (form, Some(model)) => Ok(Some((Form::from_args(args, form)?, model))),
    }
}

/// What is written.
#[derive(Clone, Copy)]
enum Form {
    Safetensors(MergedForm),
    Gguf(GgmlType),
}

impl Form {
    fn from_args(args: &MergeArgs, form: MergedAs) -> Result<Self, TrainError> {
        let float = match args.number_type {
            MergedType::F32 => FloatType::F32,
            MergedType::F16 => FloatType::F16,
            MergedType::Bf16 => FloatType::Bf16,
            blocks => {
                let (name, ggml_type) = match blocks {
                    MergedType::Q8_0 => ("q8_0", GgmlType::Q8_0),
                    MergedType::Q4_0 => ("q4_0", GgmlType::Q4_0),
                    _ => ("q4_k", GgmlType::Q4K),
                };
                return match form {
                    MergedAs::Gguf => Ok(Self::Gguf(ggml_type)),
                    MergedAs::Safetensors | MergedAs::Peft => Err(TrainError::Run(format!(
                        "--type is {name}, which only GGUF files have; expected f32, f16 or bf16, or write one with \
                         --as gguf"
                    ))),
                };
            }
        };
        Ok(match form {
            MergedAs::Gguf => Self::Gguf(float.ggml_type()),
            MergedAs::Safetensors | MergedAs::Peft => {
                Self::Safetensors(MergedForm { float, max_shard_size: args.max_shard_size.bytes() })
            }
        })
    }
}

/// The base's revision: the one asked for, or where the adapter names this very base the one that it was trained on.
fn revision(args: &MergeArgs, name: &str, part: &Part) -> Result<Option<String>, TrainError> {
    let Part { path, adapter } = part;
    let names_this = adapter.config.base_model_name_or_path.as_deref() == Some(name);
    let trained_on = adapter.config.revision.as_ref().filter(|_| names_this);
    match (&args.revision, trained_on) {
        (Some(given), Some(trained_on)) if given != trained_on => Err(mismatch(
            path,
            format!(
                "was trained on revision {trained_on} of {name}, got --revision {given}; leave --revision out, or merge \
                 an adapter that was trained on it"
            ),
        )),
        (given, trained_on) => Ok(given.as_ref().or(trained_on).cloned()),
    }
}

/// Refuses an adapter that says it is for another class of models; warns when it names another base.
fn check_belongs(folder: &Path, adapter: &AdapterConfig, base: &BaseModel) -> Result<(), TrainError> {
    let class = adapter.other.get("auto_mapping").and_then(|mapping| mapping.get("base_model_class")?.as_str());
    let named = class.and_then(|class| FAMILIES.iter().find(|family| family.architecture == class));
    let own = base.config.family;
    // A GGUF file does not tell Mistral from Llama.
    if let Some(other) = named.filter(|other| other.gguf_architecture != own.gguf_architecture) {
        return Err(mismatch(
            folder,
            format!(
                "is for a base of class {}, got {}, a {}; it belongs to another base",
                other.architecture, base.name, own.architecture
            ),
        ));
    }
    let is_this = |named: &str| {
        let (named, own) = (Path::new(named), Path::new(&base.name));
        own.ends_with(named) || named.ends_with(own) || same_path(named, base.path())
    };
    if let Some(named) = adapter.base_model_name_or_path.as_deref().filter(|named| !is_this(named)) {
        tracing::warn!(
            "adapter {}: names {named} as its base and is folded into {}; an adapter fits no other weights than those \
             it was trained on",
            folder.display(),
            base.name
        );
    }
    Ok(())
}

fn mismatch(folder: &Path, reason: String) -> TrainError {
    TrainError::AdapterMismatch { path: folder.to_owned(), reason }
}

/// A merged model never takes the place of the base that it is made from, even with `--force`.
fn refuse_own_base(to: &Path, base: &Path) -> Result<(), TrainError> {
    if !base.ancestors().any(|folder| same_path(to, folder)) {
        return Ok(());
    }
    Err(TrainError::Run(format!(
        "{} is or holds the base itself, which is not replaced; write elsewhere",
        to.display()
    )))
}

/// Whether two paths lead to one file or folder that exists.
fn same_path(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
