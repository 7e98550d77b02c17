//! `greffon export`.

use adapters::export::gguf_lora::write_gguf_lora;
use adapters::export::peft::fold_patterns;
use adapters::{GgmlType, PeftAdapter};
use anstream::println;

use super::progress;
use super::sign;
use super::subject::run_recipe;
use crate::cli::{ExportArgs, Form, NumberType, Which};
use crate::document::{DATA_CARD, Known};
use crate::error::TrainError;
use crate::model::BaseModel;
use crate::prove::{Export, Manifest};
use crate::provenance::Place;
use crate::recipe::Recipe;
use crate::track::{RunFolder, card};
use crate::train::checkpoint::Checkpoints;
use crate::trust::{Checkpoint, Facts, Statement};

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let key = sign::key(&args.signing)?;
    let folder = RunFolder::open(args.run.clone())?;
    let source = match args.checkpoint {
        Which::Best => folder.adapter(),
        Which::Last => Checkpoints::new(folder.checkpoints(), 1).last_adapter().unwrap_or_else(|| folder.adapter()),
    };
    if !source.is_dir() {
        let reason =
            format!("the run has no adapter yet; finish it with `greffon train --resume {}`", args.run.display());
        return Err(TrainError::Checkpoint { path: source, reason }.into());
    }
    // Whatever checkpoint is taken, the verdict on the run's result stands for it.
    let judged = Export::open(&folder.adapter()).and_then(|result| Manifest::read(&result))?.forgetting;
    if judged.is_none() && run_recipe(&folder, &[])?.recipe.forgetting.is_measured() {
        let run = args.run.display();
        tracing::warn!("what the adapter forgot was not measured; `greffon forgetting measure {run}` does");
    }
    let note = judged.map(|note| note.let_out(&folder.adapter(), args.accept_forgetting.as_deref())).transpose()?;
    let made_of = Place::of_export(&Export::open(&source)?);
    // What the whole run learned from covers a checkpoint of which nothing was recorded.
    let made_of = if made_of.data()?.is_some() { made_of } else { Place::open(folder.path())? };
    made_of.check()?;
    let mut adapter = PeftAdapter::read(&source).map_err(TrainError::from)?;
    if args.fold_patterns {
        (adapter.config, adapter.pairs) = fold_patterns(&adapter.config, &adapter.pairs).map_err(TrainError::from)?;
    }
    let card = if args.no_card { None } else { Some(args.card.fill(card::of_run(&folder)?)) };
    let form = match args.form {
        Form::Peft => {
            adapter.write(&args.to, args.force).map_err(TrainError::from)?;
            if let Some(card) = card {
                card::write(card, &args.to)?;
                let data_card = Known::of_run(&folder)?.data_card()?;
                if let Some(text) = data_card {
                    let path = args.to.join(DATA_CARD);
                    adapters::write_atomic(&path, true, |out| out.write_all(text.as_bytes()))
                        .map_err(TrainError::from)?;
                }
            }
            "PEFT adapter"
        }
        Form::GgufLora => {
            let Recipe { model, data, .. } = run_recipe(&folder, &[])?.recipe;
            let base = BaseModel::open(&model, data.chat_template.as_deref(), &progress::hub())?.gguf();
            let ggml_type = match args.number_type {
                NumberType::F32 => GgmlType::F32,
                NumberType::F16 => GgmlType::F16,
                NumberType::Q8_0 => GgmlType::Q8_0,
            };
            let (config, pairs) = adapter.without_norms(&source).map_err(TrainError::from)?;
            write_gguf_lora(&args.to, config, pairs, &base, ggml_type, args.force).map_err(TrainError::from)?;
            "GGUF adapter"
        }
    };
    let to = Export::open(&args.to)?;
    if let Some(note) = note {
        Manifest::note_forgetting(&to, note)?;
    }
    Place::carry(&[made_of], &Place::of_export(&to))?;
    let checkpoint = match args.checkpoint {
        Which::Best => Checkpoint::Best,
        Which::Last => Checkpoint::Last,
    };
    Statement::write_new(&to, Facts::of_run(&to, &folder, &source, checkpoint)?, key.as_ref())?;
    println!(
        "wrote {}: {form}, rank {}, {} modules, base {}",
        args.to.display(),
        adapter.config.r,
        adapter.pairs.len(),
        adapter.config.base_model_name_or_path.as_deref().unwrap_or("unnamed")
    );
    Ok(())
}
