//! Runs under a real Slurm on this machine: two nodes, two ranks on each, submitted with `greffon submit --slurm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cluster::{assert_same_run, recipe};
use super::processes::processes;
use super::variable;
use crate::resume::metrics;
use crate::support::{greffon, greffon_command, signal};

/// What a local Slurm needs that a cluster does not: Open MPI over the loopback device, `PMIx` without shared memory, and
/// ranks that wait without taking the core of one that computes.
pub(super) const LOCAL: [&str; 8] = [
    "--env",
    "OMPI_MCA_btl=self,tcp",
    "--env",
    "PMIX_MCA_gds=hash",
    "--env",
    "OMPI_MCA_mpi_yield_when_idle=1",
    "--env",
    "OMPI_MCA_btl_tcp_if_include=lo",
];

/// The most that a job takes here, waiting and starting again included.
const PATIENCE: Duration = Duration::from_mins(20);

/// A Slurm that ends with its value; the tests have it one after the other.
pub(super) struct Slurm {
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Slurm {
    pub(super) fn start() -> Self {
        static TURN: LazyLock<Mutex<()>> = LazyLock::new(|| Mutex::new(()));
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("greffon-slurm-{}", std::process::id()));
        let slurm = Self { folder, _turn: turn };
        let up = slurm.script("up");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        slurm
    }

    fn script(&self, verb: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/slurm.sh");
        // The daemons keep what they inherit open, so it is a file and not a pipe that somebody waits for.
        let said = self.folder.with_extension("said");
        let file = fs::File::create(&said).expect("a file");
        let mut command = Command::new(script);
        // Each process of tests has ports of its own, below those that the system hands out.
        let port = 17_600 + 200 * (std::process::id() % 50);
        command.arg(verb).env("DIR", &self.folder).env("PORT", port.to_string());
        let status =
            command.stdout(file.try_clone().expect("a file")).stderr(file).status().expect("the script starts");
        let stderr = fs::read(&said).expect("what it said");
        fs::remove_file(said).ok();
        Output { status, stdout: Vec::new(), stderr }
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("slurm.conf")
    }

    /// A program of Slurm's; what it prints.
    pub(super) fn tell(&self, program: &str, arguments: &[&str]) -> String {
        let out = Command::new(program).args(arguments).env("SLURM_CONF", self.configuration()).output();
        let out = out.expect("Slurm's programs are installed");
        assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Submits the recipe for a run folder, on two nodes with two ranks each, and follows it.
    pub(super) fn submit(&self, recipe: &str, run: &Path, more: &[&str]) -> Child {
        let output = format!("output={}", run.display());
        let always = ["submit", recipe, "--set", &output, "--slurm", "--nodes", "2", "--ranks-per-node", "2"];
        let arguments = [&always, &LOCAL[..], &["--time", "30", "--grace", "15"], more].concat();
        greffon_command(&arguments).env("SLURM_CONF", self.configuration()).spawn().expect("greffon starts")
    }

    /// The process of Slurm's daemon for a node.
    pub(super) fn daemon(&self, node: &str) -> String {
        let file = self.folder.join(format!("run/slurmd.{node}.pid"));
        fs::read_to_string(file).expect("the daemon runs").trim().to_owned()
    }

    /// The processes of Slurm's daemon for a node, with all that it has started: what is gone with the machine.
    pub(super) fn machine(&self, node: &str) -> Vec<String> {
        let of_node = format!("SLURMD_NODENAME={node}\0");
        let own = lossy(self.folder.as_os_str().as_encoded_bytes());
        let tasks = processes(|folder| {
            let environment = fs::read(folder.join("environ")).map_or_else(|_| String::new(), |bytes| lossy(&bytes));
            environment.contains(&of_node) && environment.contains(&own)
        });
        // What started them is no child of the daemon.
        let read =
            |pid: &str, file: &str| fs::read_to_string(Path::new("/proc").join(pid).join(file)).unwrap_or_default();
        let parent = |pid: &String| {
            let parent =
                read(pid, "status").lines().find_map(|line| Some(line.strip_prefix("PPid:")?.trim().to_owned()))?;
            read(&parent, "comm").starts_with("slurmstepd").then_some(parent)
        };
        let steps: Vec<String> = tasks.iter().filter_map(parent).collect();
        let mut all = [vec![self.daemon(node)], tasks, steps].concat();
        all.sort();
        all.dedup();
        all
    }

    /// Starts a machine that died: its daemon, without what a machine forgets.
    pub(super) fn start_machine(&self, node: &str) {
        for kind in ["spool", "tmp"] {
            let folder = self.folder.join(format!("{kind}.{node}"));
            fs::remove_dir_all(&folder).expect("a folder");
            fs::create_dir(&folder).expect("a folder");
        }
        self.start_daemon(node);
    }

    pub(super) fn start_daemon(&self, node: &str) {
        let conf = self.configuration();
        let status = Command::new("slurmd").args(["-N", node, "-f"]).arg(conf).status().expect("slurmd starts");
        assert!(status.success());
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.script("down");
    }
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something is so.
#[track_caller]
pub(super) fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many times the run was started.
pub(super) fn starts(run: &Path) -> usize {
    fs::read_to_string(run.join("log.txt")).unwrap_or_default().matches(" started: ").count()
}

pub(super) fn steps(run: &Path) -> usize {
    metrics(run).matches("\"loss\"").count()
}

/// What a followed job said, once it has ended.
#[track_caller]
pub(super) fn end(mut job: Child) -> Output {
    let started = Instant::now();
    while job.try_wait().expect("a child").is_none() {
        if started.elapsed() > PATIENCE {
            job.kill().expect("SIGKILL");
            let out = job.wait_with_output().expect("it ends");
            panic!("not over after {PATIENCE:?}: {}{}", lossy(&out.stdout), lossy(&out.stderr));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    job.wait_with_output().expect("it ends")
}

/// What a followed job said, which must have ended well.
#[track_caller]
pub(super) fn succeed(job: Child) -> String {
    let out = end(job);
    let said = format!("{}{}", lossy(&out.stdout), lossy(&out.stderr));
    assert!(out.status.success(), "{:?}: {said}", out.status);
    said
}

/// Trains a recipe as one process and on two nodes with two ranks each, and holds the one against the other.
#[expect(clippy::print_stdout, reason = "the figures, for whoever runs it with --nocapture")]
fn equals_one_process(slurm: &Slurm, folder: &Path, recipe: &str, set: &[&str]) {
    let (alone, together) = (folder.join("alone"), folder.join("together"));
    let output = format!("output={}", alone.display());
    let values: Vec<&str> = set.iter().flat_map(|value| ["--set", value]).collect();
    let done = greffon(&[&["train", recipe, "--set", &output], &values[..]].concat());
    assert!(done.status.success(), "{}", lossy(&done.stderr));

    let said = succeed(slurm.submit(recipe, &together, &[&["--follow"], &values[..]].concat()));
    for words in ["job ", "trained 50 steps", "completed on n[1-2]"] {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
    let (of_losses, of_adapter) = assert_same_run("2 nodes with 2 ranks", &together, &alone);
    println!("2 nodes with 2 ranks, 50 steps: losses within {of_losses:.1e}, adapter within {of_adapter:.1e}");
}

#[test]
fn two_nodes_with_two_ranks_give_the_numbers_of_one_process() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &["train.max_steps=50"]);
    equals_one_process(&slurm, folder.path(), &recipe, &[]);
}

#[test]
fn the_quick_start_on_two_nodes_gives_the_numbers_of_one_process() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/quickstart/recipe.yaml");
    let base = format!("model.base={}", variable("GREFFON_SMOLLM2").display());
    // Shortened: 50 of 75 steps, no long texts, no validation, and nothing asked about forgetting. The steps are as large
    // as the recipe's: with half the examples the same rounding errors grow beyond the limit.
    let set = [
        &base,
        "model.revision=null",
        "train.max_steps=50",
        "data.max_length=256",
        "data.validation=[]",
        "train.save_every=10",
        "forgetting.suite=none",
    ];
    equals_one_process(&slurm, folder.path(), recipe.to_str().expect("plain path"), &set);
}

#[test]
fn what_slurm_refuses_is_told_in_its_words() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &["train.max_steps=2"]);
    let run = folder.path().join("run");
    for (more, words) in [
        (["--partition", "gpu"], ["invalid partition specified: gpu", "partitions: low, high"]),
        (["--begin", "someday"], ["Slurm refuses the job: ", "someday"]),
    ] {
        let out = end(slurm.submit(&recipe, &run, &more));
        let said = lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{more:?}: {said}");
        for words in words {
            assert!(said.contains(words), "{more:?}: no `{words}` in: {said}");
        }
    }
    // A run that fails hands its exit code on and is not started again.
    fs::create_dir(&run).expect("a folder");
    fs::write(run.join("notes.txt"), "mine").expect("a file");
    let out = end(slurm.submit(&recipe, &run, &[]));
    let said = format!("{}{}", lossy(&out.stdout), lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("is not empty and holds no run") && !said.contains("restart"), "{said}");
}

#[test]
fn ctrl_c_leaves_the_job_alone() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &["train.max_steps=20"]);
    let run = folder.path().join("run");
    let job = slurm.submit(&recipe, &run, &["--json"]);
    wait("steps", || steps(&run) >= 2);
    signal("INT", [job.id()]);
    let out = end(job);
    let said = lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    assert!(said.contains("no longer followed; the job goes on. its log: tail -F "), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert!(Path::new(json["script"].as_str().expect("a path")).is_file());
    wait("the job ends", || run.join("adapter/adapter_model.safetensors").is_file());
}
