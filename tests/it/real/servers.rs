//! Real servers on free ports of this machine; each ends with its value.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::variable;

/// A server with a model.
pub(super) struct Server {
    process: Child,
    pub(super) address: String,
}

impl Server {
    /// llama.cpp's, with a GGUF model and any number of GGUF adapters.
    pub(super) fn llama_cpp(model: &Path, adapters: &[&Path]) -> Self {
        let mut command = python("llama_server.py");
        command.arg(model).arg("0").args(adapters);
        Self::start(command)
    }

    /// transformers, with a Hugging Face folder and any number of PEFT folders under names.
    pub(super) fn transformers(model: &Path, adapters: &[(&str, &Path)]) -> Self {
        let mut command = python("transformers_server.py");
        command.arg(model).args(["--port", "0"]);
        for (name, folder) in adapters {
            command.arg("--adapter").arg(format!("{name}={}", folder.display()));
        }
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the server starts");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = said.find_map(|line| Some(line.strip_prefix("listening ")?.to_owned()));
        Self { process, address: address.unwrap_or_else(|| panic!("it does not listen: {command:?}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn python(script: &str) -> Command {
    let mut command = Command::new(variable("GREFFON_PEER_PYTHON"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real").join(script));
    command
}
