//! Several processes that ask together, as threads.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::*;
use crate::peers::tests::together;

/// Answers with all that it was asked at the same time, as a model's rounding would.
struct Neighbours {
    identity: Identity,
    asked: Mutex<Vec<String>>,
    hands: Hands,
}

impl Neighbours {
    fn new(threads: usize, batch: usize) -> Self {
        let identity = Identity { model: "m".to_owned(), revision: None, at: "here".to_owned() };
        Self { identity, asked: Mutex::default(), hands: Hands { threads, batch, first_alone: false } }
    }
}

impl Teacher for Neighbours {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn hands(&self) -> Hands {
        self.hands
    }

    fn complete(&self, requests: &[&Request]) -> Vec<Result<Completion, Failure>> {
        assert!((1..=self.hands.batch).contains(&requests.len()));
        let prompt = |request: &Request| match &request.prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Chat(_) => unreachable!("only texts are asked"),
        };
        let prompts: Vec<String> = requests.iter().map(|request| prompt(request)).collect();
        self.asked.lock().unwrap().extend(prompts.clone());
        let answer = |own: &String| match own.as_str() {
            _ if own.starts_with("too long") => Err(Failure::Request("it is too long".to_owned())),
            "gone" => Err(Failure::Teacher("it is gone".to_owned())),
            _ => {
                let text = format!("{own} beside {}", prompts.join(", "));
                Ok(Completion { text, finished: true, prompt_tokens: 6, completion_tokens: 3 })
            }
        };
        prompts.iter().map(answer).collect()
    }
}

/// What each process has in the end, and the keys in the journal.
type Told = (Result<(Vec<Answered>, Option<Early>, Spent), String>, BTreeSet<String>);

/// Asks with so many processes in a folder; no request twice. All have the same in the end.
fn ask_by(ranks: usize, teacher: &Neighbours, folder: &Path, requests: &[Request], budget: Budget) -> Told {
    let path = folder.join("answers.jsonl");
    let mut all = together(ranks, |peers| {
        let journal = Mutex::new(Journal::open_together(&path, peers).unwrap());
        let stop = AtomicBool::new(false);
        let asking = Asking { teacher, journal: &journal, budget, price: Price::default(), stop: &stop, peers };
        let asked = ask(asking, requests, &mut |_| ());
        let spent = journal.lock().unwrap().spent();
        asked.map(|(answers, early)| (answers, early, spent)).map_err(|error| error.to_string())
    });
    assert!(all.iter().all(|told| *told == all[0]), "{all:?}");
    let mut asked = std::mem::take(&mut *teacher.asked.lock().unwrap());
    let count = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), count, "nothing is asked twice");
    let lines = std::fs::read_to_string(path).unwrap();
    let key = |line: &str| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned();
    let keys: BTreeSet<String> = lines.lines().map(key).collect();
    assert_eq!(keys.len(), lines.lines().count(), "no answer is kept twice");
    (all.swap_remove(0), keys)
}

/// That any number of processes gives what one gives, which is returned.
fn the_same(requests: &[Request], budget: Budget) -> Told {
    let run = |ranks| {
        let folder = tempfile::tempdir().unwrap();
        ask_by(ranks, &Neighbours::new(1, 3), folder.path(), requests, budget)
    };
    let alone = run(1);
    for ranks in [2, 3, 7] {
        assert_eq!(run(ranks), alone, "{ranks} processes");
    }
    alone
}

#[test]
fn any_number_of_processes_asks_the_same_batches() {
    let mut asked = requests(50);
    asked.insert(20, request("prompt 003"));
    asked.push(request("too long"));
    let (told, keys) = the_same(&asked, Budget::default());
    let (answers, early, spent) = told.unwrap();
    assert_eq!((keys.len(), early, spent.requests), (50, None, 50));
    assert_eq!(texts(&answers)[4], "prompt 004 beside prompt 003, prompt 004, prompt 005");
    assert_eq!(answers[20], answers[3]);
    assert_eq!(answers[51].answer, Answer::Failed("it is too long".to_owned()));
    for few in [requests(2), Vec::new()] {
        assert_eq!(the_same(&few, Budget::default()).1.len(), few.len());
    }
}

#[test]
fn a_budget_ends_all_at_the_same_request() {
    for budget in [
        Budget { requests: Some(10), ..Budget::default() },
        Budget { requests: Some(1), ..Budget::default() },
        // A request is taken to need 18 tokens, and needs 9.
        Budget { tokens: Some(200), ..Budget::default() },
        Budget { tokens: Some(17), ..Budget::default() },
    ] {
        let (told, keys) = the_same(&requests(40), budget);
        let (answers, early, spent) = told.unwrap();
        assert!(matches!(early, Some(Early::Budget(_))), "{early:?}");
        assert_eq!(keys.len() as u64, spent.requests);
        // In order, until what the next one may take is too much.
        let most = budget.requests.unwrap_or_else(|| budget.tokens.map_or(0, |tokens| (tokens.max(9) - 9) / 9));
        let written = texts(&answers).iter().take_while(|text| **text != "not asked").count() as u64;
        assert_eq!((written, spent.requests), (most, most), "{budget:?}");
    }
}

#[test]
fn a_teacher_that_does_not_answer_is_told_alike() {
    let mut asked = requests(9);
    asked.extend((0..20).map(|index| request(format!("too long {index}"))));
    let (told, _) = the_same(&asked, Budget::default());
    let error = told.unwrap_err();
    assert_eq!(error, "teacher m at here: 12 requests in a row had no answer, the last one: it is too long");

    let mut asked = requests(30);
    asked.insert(7, request("gone"));
    for ranks in [1, 2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let (told, keys) = ask_by(ranks, &Neighbours::new(1, 3), folder.path(), &asked, Budget::default());
        assert_eq!(told.unwrap_err(), "teacher m at here: it is gone");
        // What was answered beside it is not lost.
        assert!((8..30).contains(&keys.len()), "{}", keys.len());
    }
}

#[test]
fn what_was_answered_before_a_kill_is_not_asked_again_by_other_processes() {
    let teacher = Neighbours::new(1, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let whole = ask_by(2, &teacher, folder.path(), &requests(30), Budget::default());
    let lines = std::fs::read_to_string(&path).unwrap();
    for (ranks, kept) in [(1, 12), (2, 0), (3, 12), (5, 27)] {
        let kept: String = lines.split_inclusive('\n').take(kept).collect();
        std::fs::write(&path, kept + "{\"key\": \"cut o").unwrap();
        assert_eq!(
            ask_by(ranks, &teacher, folder.path(), &requests(30), Budget::default()),
            whole,
            "{ranks} processes"
        );
    }
}

#[test]
fn one_that_is_stopped_stops_all_with_what_was_answered_kept() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Neighbours::new(1, 3);
    let all = together(3, |peers| {
        let journal = Mutex::new(Journal::open_together(&folder.path().join("answers.jsonl"), peers).unwrap());
        let stop = AtomicBool::new(false);
        let asking = Asking {
            teacher: &teacher,
            journal: &journal,
            budget: Budget::default(),
            price: Price::default(),
            stop: &stop,
            peers,
        };
        ask(asking, &requests(90), &mut |at| stop.store(peers.rank() == 2 && at.asked > 0, Ordering::Relaxed)).unwrap()
    });
    assert!(all.iter().all(|told| *told == all[0]));
    let (answers, early) = &all[0];
    let written = texts(answers).iter().filter(|text| **text != "not asked").count();
    assert_eq!(*early, Some(Early::Stopped));
    assert!((18..90).contains(&written) && teacher.asked.lock().unwrap().len() == written, "{written}");
}

#[test]
fn processes_with_other_requests_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = Neighbours::new(1, 3);
    let all = together(2, |peers| {
        let journal = Mutex::new(Journal::open_together(&folder.path().join("answers.jsonl"), peers).unwrap());
        let stop = AtomicBool::new(false);
        let (budget, price) = (Budget::default(), Price::default());
        let asking = Asking { teacher: &teacher, journal: &journal, budget, price, stop: &stop, peers };
        ask(asking, &requests(5 + peers.rank()), &mut |_| ()).unwrap_err().to_string()
    });
    assert!(
        all.iter().all(|error| error.starts_with("rank 1 of 2: it would ask the teacher something else")),
        "{all:?}"
    );
}

#[test]
fn processes_share_the_threads_and_the_rate_of_a_server() {
    let whole = EndpointConfig { concurrency: 7, requests_per_minute: Some(70.0), ..config("http://127.0.0.1:1") };
    let own = |ranks| (0..ranks).map(|rank| whole.shared(rank, ranks).concurrency).collect::<Vec<_>>();
    assert_eq!(own(1), [7]);
    assert_eq!(own(3), [2, 2, 3]);
    assert_eq!(own(9).iter().sum::<usize>(), 7);
    assert_eq!(whole.shared(2, 3).requests_per_minute, Some(30.0));

    // And one without any has its answers from the others.
    let server = serve(|_, prompt| good(prompt));
    let folder = tempfile::tempdir().unwrap();
    let whole = EndpointConfig { concurrency: 2, ..config(&server.url) };
    let all = together(3, |peers| {
        let teacher = Endpoint::new(&whole.shared(peers.rank(), peers.ranks()), None);
        let journal = Mutex::new(Journal::open_together(&folder.path().join("answers.jsonl"), peers).unwrap());
        let stop = AtomicBool::new(false);
        ask(Asking { peers, ..asking(&teacher, &journal, &stop) }, &requests(20), &mut |_| ()).unwrap().0
    });
    assert!(all.iter().all(|answers| texts(answers)[19] == "prompt 019"));
    assert_eq!(server.asked.lock().unwrap().len(), 20);
}
