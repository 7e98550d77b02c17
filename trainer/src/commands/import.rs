//! `greffon import`.

use std::collections::BTreeMap;

use adapters::export::gguf_lora::read_gguf_lora;
use adapters::export::peft::clean;
use adapters::{AdapterConfig, LoraPair};
use anstream::println;
use serde_json::json;

use super::output;
use super::progress;
use crate::cli::ImportArgs;
use crate::error::TrainError;
use crate::model::{BaseModel, adapter};
use crate::prove::Export;
use crate::provenance::Place;
use crate::recipe::ModelConfig;
use crate::trust::{BaseFacts, Facts, Statement};

pub(super) fn import(args: &ImportArgs) -> anyhow::Result<()> {
    if !args.source.exists() {
        let source = args.source.display();
        let reason = format!("there is no {source}; expected a PEFT folder or a GGUF adapter");
        return Err(TrainError::Run(reason).into());
    }
    let base = match &args.model {
        Some(name) => {
            let model = ModelConfig { revision: args.revision.clone(), ..ModelConfig::new(name) };
            Some(BaseModel::open(&model, None, &progress::hub())?)
        }
        None => None,
    };
    let is_gguf = args.source.is_file();
    let (config, pairs) = if is_gguf { read_gguf(args, base.as_ref())? } else { read_folder(args, base.as_ref())? };
    if let Some(base) = &base {
        adapter::check_fits(&base.config, &pairs, &args.source)?;
    } else if config.base_model_name_or_path.is_none() {
        tracing::warn!("{}: names no base model; name it with --model", args.source.display());
    }
    adapters::write_peft(&args.to, &config, &pairs, args.force).map_err(TrainError::from)?;
    let (from, to) = (Export::open(&args.source)?, Export::open(&args.to)?);
    Place::carry(&[Place::of_export(&from)], &Place::of_export(&to))?;
    let named = BaseFacts::named_by(&to)?;
    let sha256 = base.as_ref().map(BaseModel::digest).transpose()?;
    Statement::write_new(&to, Facts::of_others(&to, BaseFacts { sha256, ..named }, &[from])?, None)?;
    let base_name = config.base_model_name_or_path.as_deref();
    if args.json {
        let imported = json!({
            "adapter": args.to,
            "source": args.source,
            "form": if is_gguf { "gguf-lora" } else { "peft" },
            "base": base_name,
            "revision": config.revision,
            "rank": config.r,
            "alpha": config.lora_alpha,
            "modules": pairs.len(),
        });
        output::json(&imported)?;
    } else {
        let (to, rank, modules) = (args.to.display(), config.r, pairs.len());
        println!("wrote {to}: PEFT adapter, rank {rank}, {modules} modules, base {}", base_name.unwrap_or("unnamed"));
    }
    Ok(())
}

type Adapter = (AdapterConfig, BTreeMap<String, LoraPair>);

/// A GGUF file has llama.cpp's names and order of rows, which only the base explains.
fn read_gguf(args: &ImportArgs, base: Option<&BaseModel>) -> Result<Adapter, TrainError> {
    let Some(base) = base else {
        return Err(TrainError::Run(format!(
            "{} is a file, and a GGUF adapter is only read with its base, which tells the order of its rows; name the \
             base with --model",
            args.source.display()
        )));
    };
    let (mut config, pairs) = read_gguf_lora(&args.source, &base.gguf(), &base.name)?;
    config.revision.clone_from(&base.revision);
    Ok((config, pairs))
}

fn read_folder(args: &ImportArgs, base: Option<&BaseModel>) -> Result<Adapter, TrainError> {
    let (config, pairs) = adapters::read_peft(&args.source)?;
    let mut config = clean(&config, &pairs);
    if let Some(base) = base {
        config.base_model_name_or_path = Some(base.name.clone());
        config.revision.clone_from(&base.revision);
    }
    Ok((config, pairs))
}
