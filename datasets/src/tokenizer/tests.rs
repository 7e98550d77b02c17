//! Against transformers and sentencepiece; `scripts/make_token_fixtures.py` wrote the expectations.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn tiny() -> ChatTokenizer {
    ChatTokenizer::from_folder(&fixture("tiny-llama"), None).unwrap()
}

/// The tiny model's vocabulary as a GGUF file lists it.
fn tiny_vocabulary(pre: &str) -> GgufVocabulary {
    let file: Value = json("tiny-llama/tokenizer.json");
    let vocabulary: BTreeMap<String, u32> = serde_json::from_value(file["model"]["vocab"].clone()).unwrap();
    let mut tokens = vec![String::new(); vocabulary.len()];
    for (token, id) in vocabulary {
        tokens[id as usize] = token;
    }
    let merges: Vec<(String, String)> = serde_json::from_value(file["model"]["merges"].clone()).unwrap();
    GgufVocabulary {
        model: "gpt2".into(),
        pre: pre.into(),
        token_types: (0..tokens.len()).map(|id| if id < 3 { 3 } else { 1 }).collect(),
        tokens,
        merges: merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect(),
        bos: Some(1),
        eos: Some(2),
        unknown: Some(0),
        padding: Some(2),
        chat_template: Some("{{ messages[0].content }}<|im_end|>".into()),
        ..GgufVocabulary::default()
    }
}

fn rebuild(vocabulary: GgufVocabulary) -> Result<ChatTokenizer, DataError> {
    ChatTokenizer::from_gguf(vocabulary, Path::new("model.gguf"), None)
}

#[test]
fn a_rebuilt_byte_level_vocabulary_gives_transformers_ids() {
    let mut expected: BTreeMap<String, Value> = json("vocabularies/byte_level.json");
    let texts: Vec<String> = serde_json::from_value(expected.remove("texts").unwrap()).unwrap();
    assert!(expected.len() >= 7);
    for (pre, ids) in expected {
        let ids: Vec<Vec<u32>> = serde_json::from_value(ids).unwrap();
        let tokenizer = rebuild(tiny_vocabulary(&pre)).unwrap();
        for (text, ids) in texts.iter().zip(ids) {
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{pre}: {text:?}");
            assert_eq!(&tokenizer.decode(&ids, false).unwrap(), text, "{pre}");
        }
    }
}

#[test]
fn a_byte_level_vocabulary_goes_into_gguf_and_back() {
    for pre in ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken"] {
        let vocabulary = GgufVocabulary { add_bos: Some(true), eot: Some(1), ..tiny_vocabulary(pre) };
        // The bos token of the tiny model, <|im_start|>, ends no turn; the file's word for it is taken all the same.
        let again = rebuild(vocabulary.clone()).unwrap().gguf_vocabulary(vocabulary.tokens.len()).unwrap();
        assert_eq!(again, GgufVocabulary { eot: None, ..vocabulary }, "{pre}");
    }
    // From a folder: the rule by its steps, unused ids filled up, bos only where the tokenizer puts it.
    let vocabulary = tiny().gguf_vocabulary(384).unwrap();
    assert_eq!((vocabulary.pre.as_str(), vocabulary.add_bos), ("smollm", Some(false)));
    assert_eq!(vocabulary.tokens[380..], ["[PAD380]", "[PAD381]", "[PAD382]", "[PAD383]"]);
    assert_eq!(vocabulary.token_types[379..], [1, 5, 5, 5, 5]);
    assert_eq!(vocabulary.token_types[..4], [3, 3, 3, 1]);
    assert_eq!((vocabulary.bos, vocabulary.eos, vocabulary.padding), (Some(1), Some(2), Some(2)));
    assert_eq!(vocabulary.chat_template.as_deref(), Some(tiny().template().unwrap().source()));
}

#[test]
fn a_tokenizer_that_gguf_has_no_form_for_is_refused_with_the_known_rules() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let folder = tempfile::tempdir().unwrap();
        let mut file: Value = json("tiny-llama/tokenizer.json");
        change(&mut file);
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        let tokenizer = ChatTokenizer::from_folder(folder.path(), None).unwrap();
        let error = tokenizer.gguf_vocabulary(384).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: the tokenizer has no form in a GGUF file: "), "{error}");
        error
    };
    let error = refused(&|file| file["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false.into());
    assert!(
        error.contains("none of the rules that llama.cpp has; known are those of gpt-2, smollm, llama-bpe"),
        "{error}"
    );
    assert!(error.ends_with("merge into a folder instead (--as safetensors)"), "{error}");
    let error = refused(&|file| file["normalizer"] = serde_json::json!({ "type": "Lowercase" }));
    assert!(error.contains("normalizer: is {\"type\":\"Lowercase\"}"), "{error}");
    let error = refused(&|file| file["model"]["ignore_merges"] = true.into());
    assert!(error.contains("with ignore_merges, which is none of"), "{error}");
    let error = refused(&|file| {
        file["model"] = serde_json::json!({ "type": "WordLevel", "unk_token": "a", "vocab": { "a": 3 } });
    });
    assert!(error.contains("model: is of type \"WordLevel\""), "{error}");
}

#[derive(Deserialize)]
struct SentencePiece {
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    texts: Vec<String>,
    ids_with_prefix: Vec<Vec<u32>>,
    ids_without_prefix: Vec<Vec<u32>>,
}

#[test]
fn a_rebuilt_sentencepiece_vocabulary_gives_sentencepiece_s_ids() {
    let SentencePiece { tokens, scores, token_types, texts, ids_with_prefix, ids_without_prefix } =
        json("vocabularies/sentencepiece.json");
    for (prefix, expected) in [(true, ids_with_prefix), (false, ids_without_prefix)] {
        let tokenizer = rebuild(GgufVocabulary {
            model: "llama".into(),
            tokens: tokens.clone(),
            scores: scores.clone(),
            token_types: token_types.clone(),
            bos: Some(1),
            eos: Some(2),
            unknown: Some(0),
            add_space_prefix: Some(prefix),
            ..GgufVocabulary::default()
        })
        .unwrap();
        assert!(expected.len() >= 8);
        for (text, ids) in texts.iter().zip(expected) {
            // The newline is a token of its own here, and GGUF runtimes add the prefix after each such token.
            if prefix && text.contains('\n') {
                continue;
            }
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "prefix {prefix}: {text:?}");
            assert_eq!(&tokenizer.decode(&ids, false).unwrap(), text, "prefix {prefix}");
        }
        // Other scores, of the same order.
        let vocabulary = tokenizer.gguf_vocabulary(tokens.len()).unwrap();
        assert_eq!((&vocabulary.tokens, &vocabulary.token_types), (&tokens, &token_types));
        assert_eq!((vocabulary.add_space_prefix, vocabulary.add_bos), (Some(prefix), Some(true)));
        let again = rebuild(vocabulary).unwrap();
        for text in &texts {
            assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap(), "prefix {prefix}: {text:?}");
        }
        // `<end_of_turn>` is user-defined here, so it is matched but not special, and not an end.
        assert_eq!(tokenizer.eos_token_ids(), [2]);
    }
}

#[test]
fn text_streams_out_whole_whatever_the_cut() {
    let tokenizer = tiny();
    let text = "L’été 🌹👩🏽‍🚀 e\u{301} 你好\n\n  x <|im_end|> y";
    let ids = tokenizer.encode(text).unwrap();
    let mut stream = TextStream::new(&tokenizer, false);
    let mut got = String::new();
    for id in &ids {
        let piece = stream.push(*id).unwrap().unwrap_or_default();
        assert!(!piece.contains('\u{fffd}'), "{piece:?}");
        got.push_str(&piece);
    }
    assert_eq!(got + &stream.finish().unwrap(), text);

    // Without special tokens, and cut within the rose.
    let mut stream = tokenizer.stream();
    let ids = tokenizer.encode("<|im_start|>a🌹").unwrap();
    let pieces: Vec<_> = ids[..ids.len() - 1].iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces.into_iter().flatten().collect::<String>(), "a");
    assert!(stream.finish().unwrap().starts_with('\u{fffd}'));
}

#[test]
fn ends_of_turns_come_from_all_files_and_known_names() {
    assert_eq!(tiny().eos_token_ids(), [0, 2]);
    assert!(tiny().is_eos(0) && !tiny().is_eos(1));
    let tokenizer = rebuild(GgufVocabulary { eos: Some(0), ..tiny_vocabulary("smollm") }).unwrap();
    assert_eq!(tokenizer.eos_token_ids(), [0, 2], "<|im_end|> ends a turn although the file names another token");
    let tokenizer = rebuild(GgufVocabulary { eot: Some(9), ..tiny_vocabulary("smollm") }).unwrap();
    assert_eq!(tokenizer.eos_token_ids(), [2, 9]);
}

#[test]
fn a_tokenizer_larger_than_the_model_is_refused() {
    let tokenizer = tiny();
    assert_eq!(tokenizer.vocab_size(), 380);
    assert!(tokenizer.check_fits(380).is_ok());
    let error = tokenizer.check_fits(378).unwrap_err().to_string();
    let token = tokenizer.token(378).unwrap();
    assert!(
        error.ends_with(&format!(
            "the tokenizer has token {token:?} with id 378, but the model's vocabulary has 378 entries; \
             use the tokenizer that belongs to this model"
        )),
        "{error}"
    );
}

#[test]
fn what_is_saved_is_read_again_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let text = "Où est 12 ?<|im_end|>\n";
    for tokenizer in [tiny(), rebuild(tiny_vocabulary("smollm")).unwrap()] {
        tokenizer.save(folder.path()).unwrap();
        let again = ChatTokenizer::from_folder(folder.path(), None).unwrap();
        assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        assert_eq!(again.special_tokens().eos, tokenizer.special_tokens().eos);
        assert_eq!(again.template().unwrap().source(), tokenizer.template().unwrap().source());
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]);
    }
    let error = tiny().save(&folder.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().ends_with("tokenizer.json: cannot be written"), "{error}");
}

/// A folder with the tiny tokenizer and other files beside it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("tiny-llama/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn read(files: &[(&str, &str)]) -> Result<ChatTokenizer, DataError> {
    ChatTokenizer::from_folder(folder(files).path(), None)
}

#[test]
fn the_template_is_found_where_models_keep_it() {
    const CONFIG: &str = "tokenizer_config.json";
    let source = |files: &[(&str, &str)]| read(files).unwrap().template().unwrap().source().to_owned();
    assert_eq!(source(&[(CONFIG, r#"{"chat_template": "a"}"#)]), "a");
    let named = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    assert_eq!(source(&[(CONFIG, named)]), "d");
    assert_eq!(source(&[(CONFIG, named), ("chat_template.jinja", "j")]), "j");
    let with_file = folder(&[(CONFIG, named), ("chat_template.jinja", "j"), ("other.jinja", "o")]);
    let path = with_file.path().join("other.jinja");
    assert_eq!(ChatTokenizer::from_folder(with_file.path(), Some(&path)).unwrap().template().unwrap().source(), "o");

    let without = read(&[]).unwrap();
    let error = without.render_prompt(&[]).unwrap_err().to_string();
    assert!(error.contains("the model has no chat template") && error.contains("set `data.chat_template`"), "{error}");
}

#[test]
fn a_wrong_file_gives_an_error_with_its_name_and_place() {
    const CONFIG: &str = "tokenizer_config.json";
    const GENERATION: &str = "generation_config.json";
    #[track_caller]
    fn check(files: &[(&str, &str)], file: &str, expected: &str) {
        let error = read(files).err().expect("a wrong file is refused").to_string();
        assert!(error.contains(file) && error.contains(expected), "{error}");
    }
    check(&[("tokenizer.json", "{")], "tokenizer.json", "expected a tokenizer in JSON: EOF while parsing");
    check(&[("tokenizer.json", "{}")], "tokenizer.json", "expected a tokenizer in JSON: ");
    check(&[(CONFIG, "[]")], CONFIG, "expected a JSON object, got []");
    check(&[(CONFIG, "{\"a\": 1,}")], CONFIG, "expected a JSON object: ");
    check(
        &[(CONFIG, r#"{"eos_token": 3}"#)],
        CONFIG,
        "eos_token: expected a string or an object with `content`, got 3",
    );
    check(
        &[(CONFIG, r#"{"eos_token": "</s>"}"#)],
        "tokenizer.json",
        "eos_token is \"</s>\", which is not in the vocabulary",
    );
    check(
        &[(CONFIG, r#"{"chat_template": {}}"#)],
        CONFIG,
        "chat_template: expected a string or a list of named templates",
    );
    check(
        &[(CONFIG, r#"{"chat_template": [{"name": "a"}]}"#)],
        CONFIG,
        "expected templates with `name` and `template`",
    );
    check(
        &[(CONFIG, r#"{"chat_template": [{"name": "rag", "template": ""}]}"#)],
        CONFIG,
        "expected a template named \"default\", got [\"rag\"]",
    );
    check(
        &[(GENERATION, r#"{"eos_token_id": [-1]}"#)],
        GENERATION,
        "eos_token_id: expected a token id or a list of them",
    );
    check(
        &[(GENERATION, r#"{"eos_token_id": 4000}"#)],
        "tokenizer.json",
        "eos_token_id is 4000, which is not in the voc",
    );
    check(&[("chat_template.jinja", "\n{{")], "chat_template.jinja", "line 2 of the chat template does not parse");

    let empty = tempfile::tempdir().unwrap();
    let error = ChatTokenizer::from_folder(empty.path(), None).err().unwrap().to_string();
    assert!(error.contains("there is no tokenizer.json here; give the folder of a model"), "{error}");

    // Merges longer than any token make the tokenizers crate panic.
    let lying = r#"{"model": {"type": "BPE", "vocab": {"aa": 0, "bb": 1}, "merges": [["aa", "bb"]]}}"#;
    check(
        &[("tokenizer.json", lying)],
        "tokenizer.json",
        "expected a tokenizer in JSON: it contradicts itself or is too complex (",
    );
}

#[test]
fn a_wrong_gguf_vocabulary_gives_an_error_with_its_key() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut GgufVocabulary), expected: &str) {
        let mut vocabulary = tiny_vocabulary("smollm");
        change(&mut vocabulary);
        let error = rebuild(vocabulary).err().expect("a wrong vocabulary is refused").to_string();
        assert!(error.starts_with(&format!("model.gguf: tokenizer.ggml.{expected}")), "{error}");
    }
    check(|v| v.model = "bert".into(), "model: expected gpt2 or llama, got \"bert\"");
    check(|v| v.pre = "new".into(), "pre: expected a known pre-tokenizer, got \"new\"; known are a.x-4.0, ");
    check(|v| v.tokens.clear(), "tokens: expected a list of tokens, got 0 entries");
    check(|v| v.tokens[7] = v.tokens[5].clone(), "tokens: token \"#\" stands twice, with the ids 5 and 7");
    check(|v| v.token_types.truncate(3), "token_type: expected 380 entries, one for each token, got 3");
    check(|v| v.eos = Some(380), "eos_token_id: expected an id below 380, the number of tokens, got 380");
    check(|v| v.merges.clear(), "merges: expected a list of merges, got none");
    check(|v| v.merges[4] = "x".into(), "merges: entry 4: expected two tokens with a space between, got \"x\"");
    check(|v| v.merges[4] = "z \u{416}".into(), "merges: entry 4: \"z \u{416}\" needs the token \"\u{416}\"");
    check(|v| v.merges[4] = "z Z".into(), "merges: entry 4: \"z Z\" needs the token \"zZ\"");
    check(|v| v.model = "llama".into(), "scores: expected 380 entries, one for each token, got 0");
    check(
        |v| (v.model, v.scores) = ("llama".into(), vec![f32::NAN; 380]),
        "scores: expected a number for token 0, got NaN",
    );
}
