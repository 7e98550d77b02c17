//! The recipe's `tracking` section: where a run reports to beside its own folder. Nowhere by default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use super::ranges::Ranges;

/// Where a run reports to beside its own folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackingConfig {
    /// An MLflow tracking server. The run never waits for it: what it could not be given, `greffon track sync` gives it
    /// later.
    pub mlflow: Option<MlflowConfig>,
    /// A file for Prometheus.
    pub prometheus: Option<PrometheusConfig>,
}

/// An MLflow tracking server. Who we are it is told by the environment, as MLflow's own client does:
/// `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// Its address, such as `https://mlflow.example:5000`, without a user's name or password.
    pub url: String,
    /// The experiment's name; the experiment is made when it is not there.
    pub experiment: String,
    /// The run's name. Without it: that of the run's folder.
    #[serde(default)]
    pub run_name: Option<String>,
    /// Tags of the run.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The id of the MLflow run that this one is shown below.
    #[serde(default)]
    pub parent_run: Option<String>,
    /// The registered model that the adapter becomes a version of, when the run is finished and the forgetting gate lets it
    /// pass; made when it is not there.
    #[serde(default)]
    pub registered_model: Option<String>,
    /// The alias that the new version gets, such as `champion`.
    #[serde(default)]
    pub alias: Option<String>,
    /// Whether the adapter, the recipe and the reports are uploaded at the end.
    #[serde(default = "yes")]
    pub artifacts: bool,
}

/// A file for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusConfig {
    /// The file, whose name ends in `.prom`, in the folder that the textfile collector of `node_exporter` reads;
    /// relative to the recipe.
    pub textfile: PathBuf,
}

fn yes() -> bool {
    true
}

/// The characters of MLflow's names, beside letters and digits.
const NAME_SIGNS: &str = "_-. /:";

impl MlflowConfig {
    /// What a run reports by when only the server and the experiment are known.
    pub fn new(url: String, experiment: String) -> Self {
        Self {
            url,
            experiment,
            run_name: None,
            tags: BTreeMap::new(),
            parent_run: None,
            registered_model: None,
            alias: None,
            artifacts: true,
        }
    }

    /// What is wrong with an address: how it may be shown, and what is expected.
    ///
    /// # Errors
    /// When it is no address of a server, or carries a user's name or password.
    pub fn check_url(url: &str) -> Result<(), (String, &'static str)> {
        let without_user = "an address without a user's name or password; they go into the environment variables \
                            MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN";
        if let Some((before, host)) = url.rsplit_once('@') {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            return Err((format!("{scheme}://…@{host}"), without_user));
        }
        let uri = url.parse::<Uri>().ok();
        let is_server = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if uri.is_some_and(|uri| is_server(&uri) && uri.query().is_none()) && !url.contains('#') {
            return Ok(());
        }
        Err((url.to_owned(), "the address of an MLflow server, such as https://mlflow.example:5000"))
    }

    fn validate(&self, ranges: &mut Ranges) {
        if let Err((got, expected)) = Self::check_url(&self.url) {
            ranges.note("mlflow.url", &format!("{got:?}"), expected.to_owned());
        }
        let is_line = |text: &str| !text.trim().is_empty() && text.len() <= 250 && !text.chars().any(char::is_control);
        let line = "a name of at most 250 bytes";
        ranges.check("mlflow.experiment", &self.experiment, line, is_line(&self.experiment));
        let name = self.run_name.as_deref();
        ranges.check_some("mlflow.run_name", name, line, is_line);
        for (key, value) in &self.tags {
            let is_key = key.len() <= 250
                && !key.is_empty()
                && !key.starts_with("greffon.")
                && key.chars().all(|c| c.is_ascii_alphanumeric() || NAME_SIGNS.contains(c));
            let expected = "keys of letters, digits, spaces and any of _-./: that do not begin with greffon., which are \
                            the run's own";
            ranges.check("mlflow.tags", key, expected, is_key);
            let key = format!("mlflow.tags.{key}");
            let bytes = value.len();
            ranges.check(&key, format!("{bytes} bytes"), "a text of at most 5000 bytes", bytes <= 5000);
        }
        let is_id = |text: &str| {
            (1..=256).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        ranges.check_some("mlflow.parent_run", self.parent_run.as_deref(), "the id of an MLflow run", is_id);
        let is_model = |text: &str| is_line(text) && text.chars().all(|c| c.is_alphanumeric() || "_-. ".contains(c));
        let expected = "letters, digits, spaces and any of _-.";
        ranges.check_some("mlflow.registered_model", self.registered_model.as_deref(), expected, is_model);
        let is_version =
            |text: &str| text.strip_prefix('v').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
        let is_alias = |text: &str| is_id(text) && text != "latest" && !is_version(text);
        let expected = "letters, digits, _ and -, neither latest nor a version such as v2";
        ranges.check_some("mlflow.alias", self.alias.as_deref(), expected, is_alias);
        if self.registered_model.is_none() {
            let expected = "null, since there is no tracking.mlflow.registered_model whose version would have it";
            ranges.check_some("mlflow.alias", self.alias.as_deref(), expected, |_| false);
        } else {
            let expected = "true, since a registered model needs the adapter's files";
            ranges.check("mlflow.artifacts", self.artifacts, expected, self.artifacts);
        }
    }
}

impl TrackingConfig {
    pub(super) fn validate(&self, ranges: &mut Ranges) {
        if let Some(mlflow) = &self.mlflow {
            mlflow.validate(ranges);
        }
        if let Some(PrometheusConfig { textfile }) = &self.prometheus {
            let expected = "a file whose name ends in .prom: the collector reads no other";
            ranges.check("prometheus.textfile", textfile, expected, is_prom(textfile));
        }
    }
}

fn is_prom(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "prom")
}
