//! stub
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("{0}")]
    X(String),
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub model: ModelConfig,
    pub data: datasets::DataConfig,
    #[serde(default)]
    pub lora: adapters::LoraConfig,
    pub train: TrainConfig,
    #[serde(default)]
    pub eval: EvalConfig,
    pub output: PathBuf,
    #[serde(default = "flex")]
    pub device: String,
}
fn flex() -> String {
    "flex".into()
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelConfig {
    pub base: String,
    pub revision: Option<String>,
    pub adapter: Option<PathBuf>,
}
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrainConfig {
    pub seed: u64,
    pub epochs: f64,
    pub max_steps: Option<u64>,
    pub global_batch_size: usize,
    pub micro_batch_size: usize,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub warmup_ratio: f64,
    pub warmup_steps: Option<u64>,
    pub weight_decay: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub max_grad_norm: f64,
    pub eval_every: Option<u64>,
    pub save_every: Option<u64>,
    pub keep_checkpoints: usize,
    pub early_stopping: Option<u64>,
}
impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 1.0,
            max_steps: None,
            global_batch_size: 16,
            micro_batch_size: 4,
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.03,
            warmup_steps: None,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            max_grad_norm: 1.0,
            eval_every: None,
            save_every: None,
            keep_checkpoints: 2,
            early_stopping: None,
        }
    }
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EvalConfig {
    pub test: Vec<datasets::SourceConfig>,
    pub max_new_tokens: usize,
    pub batch_size: usize,
    pub temperature: f64,
    pub limit: Option<usize>,
}
impl Default for EvalConfig {
    fn default() -> Self {
        Self { test: vec![], max_new_tokens: 64, batch_size: 8, temperature: 0.0, limit: None }
    }
}
pub struct Loaded {
    pub recipe: Recipe,
    pub path: PathBuf,
}
pub struct Report {
    pub warnings: Vec<String>,
}
impl Loaded {
    pub fn check(&self) -> Result<Report, RecipeError> {
        Ok(Report { warnings: vec![] })
    }
}
impl Recipe {
    pub fn load(path: &Path, _o: &[String]) -> Result<Loaded, RecipeError> {
        let t = std::fs::read_to_string(path).map_err(|e| RecipeError::X(e.to_string()))?;
        let mut recipe: Recipe = serde_saphyr::from_str(&t).map_err(|e| RecipeError::X(e.to_string()))?;
        let root = path.parent().unwrap_or(Path::new("."));
        for s in recipe.data.train.iter_mut().chain(&mut recipe.data.validation).chain(&mut recipe.eval.test) {
            if let Some(p) = &mut s.path {
                *p = std::path::absolute(root.join(&*p)).unwrap();
            }
        }
        Ok(Loaded { recipe, path: path.to_owned() })
    }
    pub fn resolved_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap()
    }
}
impl TrainConfig {
    pub fn adamw(&self) -> crate::train::optimizer::AdamWConfig {
        crate::train::optimizer::AdamWConfig { betas: self.betas, eps: self.eps, weight_decay: self.weight_decay }
    }
    pub fn total_steps(&self, per_epoch: u64) -> u64 {
        self.max_steps.unwrap_or(((self.epochs * per_epoch as f64) / self.global_batch_size as f64).ceil() as u64)
    }
    pub fn warmup(&self, total: u64) -> u64 {
        self.warmup_steps.unwrap_or((self.warmup_ratio * total as f64).ceil() as u64)
    }
}
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Recipe)
}
pub fn init_recipe(_m: &str, _d: &Path) -> Result<String, RecipeError> {
    Err(RecipeError::X("no".into()))
}
