//! Prompts have the same token ids as in Python's transformers; tokens.py generated those.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde::Deserialize;
use serde_json::json;
use support::{SmallModel, models};
use warmq_diffusion::Request;

#[derive(Deserialize)]
struct Row {
    pad: String,
    prompt: String,
    ids: Vec<i64>,
}

#[test]
fn any_prompt_has_the_ids_that_python_gives_it() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("tokens.json")).unwrap();
    for pad in ["<|endoftext|>", "!"] {
        let model = SmallModel::with(|manifest| {
            manifest["tokenizer"] = json!({"kind": "clip-bpe", "context": 16, "pad": pad});
        });
        model.use_tokenizer(&models().join("shapes/tokenizer"));
        let pipeline = model.load().unwrap();
        let rows: Vec<&Row> = rows.iter().filter(|row| row.pad == pad).collect();
        assert!(rows.len() > 10);
        for row in rows {
            assert_eq!(
                pipeline.tokens(&row.prompt).unwrap(),
                row.ids,
                "{:?} padded with {pad}",
                row.prompt
            );
        }
    }
}

#[test]
fn the_part_of_a_prompt_beyond_the_context_is_reported() {
    let model = SmallModel::with(|manifest| {
        manifest["tokenizer"] = json!({"kind": "clip-bpe", "context": 8, "pad": "!"});
    });
    model.use_tokenizer(&models().join("shapes/tokenizer"));
    let pipeline = model.load().unwrap();
    let cut = |prompt: &str, negative: &str, guidance: f64| {
        let truncations = pipeline.truncations(&Request {
            prompt: prompt.to_owned(),
            negative_prompt: Some(negative.to_owned()),
            guidance: Some(guidance),
            ..Request::default()
        });
        let truncations = truncations.unwrap().into_iter();
        let parts = truncations.map(|cut| (cut.field, cut.context, cut.rest));
        parts.collect::<Vec<_>>()
    };
    let six = "red red red red red red";
    assert!(cut(six, "", 2.0).is_empty());
    let rest = |field, rest: &str| (field, 8, rest.to_owned());
    let longer = format!("{six}, a  GREEN circle");
    let first = rest("prompt", ", a  GREEN circle");
    assert_eq!(cut(&longer, six, 2.0), std::slice::from_ref(&first));
    let second = rest("negative_prompt", "blue");
    let negative = format!("{six} blue");
    assert_eq!(cut(&longer, &negative, 2.0), [first.clone(), second]);
    assert_eq!(cut(&longer, &negative, 1.0), [first]);
}

#[test]
fn the_layout_of_transformers_5_gives_the_same_ids() {
    let model = SmallModel::new();
    let prompts = ["", "a cat", "猫"];
    let ids = |model: &SmallModel| {
        let pipeline = model.load().unwrap();
        prompts.map(|prompt| pipeline.tokens(prompt).unwrap())
    };
    let before = ids(&model);
    let vocabulary: serde_json::Value =
        serde_json::from_slice(&fs::read(model.path("tokenizer/vocab.json")).unwrap()).unwrap();
    let combined = json!({"model": {"vocab": vocabulary, "merges": []}});
    fs::write(model.path("tokenizer/tokenizer.json"), combined.to_string()).unwrap();
    fs::remove_file(model.path("tokenizer/vocab.json")).unwrap();
    fs::remove_file(model.path("tokenizer/merges.txt")).unwrap();
    assert_eq!(before, ids(&model));
}
