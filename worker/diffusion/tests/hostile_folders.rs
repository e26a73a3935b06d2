//! Loading any damaged folder ends in an error that names the file and the tensor.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{NAME, SmallModel, TEXT, UNET, VAE};
use warmq_diffusion::{Device, Error, Pipeline, Request};

/// The file, tensor and message of the error that a load ends in.
fn refusal(model: &SmallModel) -> (String, Option<String>, String) {
    match model.load() {
        Ok(_) => panic!("it was loaded"),
        Err(Error::BadCheckpoint {
            model,
            file,
            tensor,
            message,
            ..
        }) => {
            assert_eq!(model, NAME);
            (file, tensor, message)
        }
        Err(other) => panic!("not a BadCheckpoint: {other}"),
    }
}

fn names(model: &SmallModel, file: &str, tensor: &str) -> String {
    let (at_file, at_tensor, message) = refusal(model);
    assert_eq!(
        (at_file.as_str(), at_tensor.as_deref()),
        (file, Some(tensor)),
        "{message}"
    );
    message
}

#[test]
fn an_unharmed_folder_loads_and_draws() {
    let model = SmallModel::new();
    let pipeline = model.load().unwrap();
    let pictures = pipeline.generate(&Request::default(), &mut ()).unwrap();
    assert_eq!(
        (pictures[0].width, pictures[0].height, pictures[0].rgb.len()),
        (16, 16, 3 * 16 * 16)
    );
}

#[test]
fn a_truncated_file_names_the_first_tensor_that_is_not_whole() {
    let model = SmallModel::new();
    model.edit_file(UNET, |bytes| bytes.truncate(bytes.len() - 1));
    let (file, tensor, message) = refusal(&model);
    assert_eq!(file, UNET);
    assert!(
        tensor.is_some() && message.contains("truncated"),
        "{message}"
    );
}

#[test]
fn a_file_that_is_truncated_during_the_load_names_a_tensor_that_cannot_be_read() {
    let model = SmallModel::new();
    // The text encoder is read first, when all files are open and were checked.
    let mut truncate = |_| {
        let file = fs::OpenOptions::new().write(true).open(model.path(VAE));
        file.unwrap().set_len(5000).unwrap();
    };
    let manifest = model.manifest().unwrap();
    let loaded = Pipeline::load(&manifest, &Device::Cpu, &mut truncate);
    let Err(Error::BadCheckpoint {
        file,
        tensor,
        message,
        ..
    }) = loaded
    else {
        panic!("not a BadCheckpoint");
    };
    assert_eq!(file, VAE);
    assert!(tensor.is_some(), "{message}");
    assert!(message.contains("cannot be read"), "{message}");
}

#[test]
fn a_file_cut_within_its_header_names_the_file() {
    let model = SmallModel::new();
    for length in [0, 1, 7, 8, 9, 100] {
        model.edit_file(VAE, |bytes| bytes.truncate(length));
        assert_eq!(refusal(&model).0, VAE, "{length} bytes");
        let model = SmallModel::new();
        assert!(model.load().is_ok());
    }
}

#[test]
fn a_header_longer_than_the_file_is_not_allocated() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 99_999_999] {
        let model = SmallModel::new();
        model.edit_file(TEXT, |bytes| {
            bytes[..8].copy_from_slice(&length.to_le_bytes())
        });
        let (file, _, message) = refusal(&model);
        assert_eq!(file, TEXT);
        assert!(message.contains(&length.to_string()), "{message}");
    }
}

#[test]
fn garbage_in_the_header_names_the_file() {
    for garbage in [b'{', b'\0', b'"', 0xff] {
        let model = SmallModel::new();
        model.edit_file(UNET, |bytes| bytes[8..64].fill(garbage));
        assert_eq!(refusal(&model).0, UNET);
    }
}

#[test]
fn offsets_that_overlap_leave_gaps_or_overflow_are_refused() {
    let tensor = "conv_norm_out.bias";
    for offsets in [
        [0, 128],
        [1, 129],
        [u64::MAX - 128, u64::MAX],
        [u64::MAX, 0],
    ] {
        let model = SmallModel::new();
        model.edit_header(UNET, |header| {
            header[tensor]["data_offsets"] = json!(offsets)
        });
        assert_eq!(refusal(&model).0, UNET, "{offsets:?}");
    }
    let model = SmallModel::new();
    model.edit_header(UNET, |header| {
        header[tensor]["shape"] = json!([u64::MAX, u64::MAX])
    });
    assert_eq!(refusal(&model).0, UNET);
}

#[test]
fn a_missing_tensor_is_named() {
    let model = SmallModel::new();
    let tensor = "down_blocks.0.resnets.0.norm1.weight";
    model.edit_header(UNET, |header| {
        let header = header.as_object_mut().unwrap();
        let entry = header.remove(tensor).unwrap();
        header.insert("a tensor that no model has".to_owned(), entry);
    });
    assert_eq!(names(&model, UNET, tensor), "missing");
}

#[test]
fn a_tensor_without_use_is_named() {
    let model = SmallModel::new();
    let tensor = "down_blocks.0.attentions.0.processor.to_q_lora.down.weight";
    model.edit_header(UNET, |header| {
        let entry = header["conv_norm_out.bias"].clone();
        header.as_object_mut().unwrap().insert(
            tensor.to_owned(),
            json!({"dtype": entry["dtype"], "shape": [0], "data_offsets": [0, 0]}),
        );
    });
    assert!(names(&model, UNET, tensor).contains("no use"));
}

#[test]
fn a_tensor_of_another_shape_is_named_and_not_broadcast() {
    let model = SmallModel::new();
    let tensor = "up_blocks.1.resnets.0.norm2.weight";
    model.edit_header(UNET, |header| header[tensor]["shape"] = json!([1, 32]));
    assert!(names(&model, UNET, tensor).contains("[1, 32]"));
}

#[test]
fn a_tensor_of_a_type_that_is_no_weight_is_named() {
    let model = SmallModel::new();
    let tensor = "decoder.conv_in.bias";
    model.edit_header(VAE, |header| header[tensor]["dtype"] = json!("I32"));
    assert!(names(&model, VAE, tensor).contains("I32"));
}

#[test]
fn a_manifest_larger_than_its_weights_is_refused_before_anything_is_allocated() {
    let model = SmallModel::new();
    model.edit_manifest(|manifest| manifest["unet"]["block_out_channels"] = json!([8192, 8192]));
    assert_eq!(
        names(&model, UNET, "conv_in.weight"),
        "its shape is [32, 4, 3, 3], the model's is [8192, 4, 3, 3]"
    );
    let model = SmallModel::new();
    model.edit_manifest(|manifest| manifest["text"]["layers"] = json!(128));
    assert_eq!(
        names(&model, TEXT, "encoder.layers.1.layer_norm1.weight"),
        "missing"
    );
    let model = SmallModel::new();
    model.edit_manifest(|manifest| manifest["vae"]["layers_per_block"] = json!(8));
    assert_eq!(
        names(&model, VAE, "encoder.down_blocks.0.resnets.1.norm1.weight"),
        "missing"
    );
}

#[test]
fn numbers_in_a_manifest_that_do_not_fit_each_other_are_named() {
    let cases: [(&str, Value); 14] = [
        ("/schema", json!(2)),
        ("/tokenizer/context", json!(0)),
        ("/text/heads", json!(0)),
        ("/text/heads", json!(3)),
        ("/unet/block_out_channels", json!([])),
        ("/unet/block_out_channels", json!([32, 33])),
        ("/unet/attention_blocks", json!([true])),
        ("/unet/heads", json!([2])),
        ("/unet/layers_per_block", json!(1_000_000_000)),
        ("/unet/cross_attention_dim", json!(9)),
        ("/vae/norm_groups", json!(0)),
        ("/vae/scaling_factor", json!(0)),
        ("/image/multiple_of", json!(0)),
        ("/scheduler/beta_end", json!(2)),
    ];
    for (pointer, value) in cases {
        let model = SmallModel::new();
        model.edit_manifest(|manifest| *manifest.pointer_mut(pointer).unwrap() = value.clone());
        let (file, _, message) = refusal(&model);
        assert_eq!(file, "manifest.json", "{pointer} = {value}: {message}");
        let field = pointer.split('/').next_back().unwrap();
        assert!(message.contains(field), "{pointer} = {value}: {message}");
    }
}

#[test]
fn nonsense_in_the_tokenizer_names_its_file() {
    for (file, content) in [
        ("tokenizer/vocab.json", ""),
        ("tokenizer/vocab.json", "{}"),
        ("tokenizer/vocab.json", r#"{"<|startoftext|>": -1}"#),
        (
            "tokenizer/vocab.json",
            r#"{"<|startoftext|>": 0, "<|endoftext|>": 1024}"#,
        ),
        ("tokenizer/merges.txt", "one\n"),
        ("tokenizer/merges.txt", "no such\n"),
    ] {
        let model = SmallModel::new();
        fs::write(model.path(file), content).unwrap();
        assert_eq!(refusal(&model).0, file, "{content}");
    }
}

#[test]
fn a_folder_with_files_missing_names_the_first() {
    for file in [
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        TEXT,
        UNET,
        VAE,
    ] {
        let model = SmallModel::new();
        fs::remove_file(model.path(file)).unwrap();
        assert_eq!(refusal(&model).0, file);
    }
    let model = SmallModel::new();
    fs::rename(
        model.path(VAE),
        model.path("vae/diffusion_pytorch_model.bin"),
    )
    .unwrap();
    assert!(
        refusal(&model).2.contains(".bin"),
        "it says what is there instead"
    );
}

#[test]
fn an_empty_folder_is_no_model() {
    let models = tempfile::tempdir().unwrap();
    fs::create_dir(models.path().join("empty")).unwrap();
    let catalog = warmq_diffusion::Catalog::open(models.path()).unwrap();
    assert!(matches!(
        catalog.manifest("empty"),
        Err(Error::UnknownModel { .. })
    ));
}

#[test]
fn a_file_that_is_not_the_listed_one_is_named() {
    let model = SmallModel::new();
    let bytes = fs::read(model.path(UNET)).unwrap();
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    let list = |path: &str, bytes: usize| {
        model.edit_manifest(|manifest| {
            manifest["files"] = json!([{"path": path, "sha256": sha256, "bytes": bytes}]);
        });
    };
    list(UNET, bytes.len());
    assert!(model.load().is_ok());
    list(UNET, bytes.len() + 1);
    assert_eq!(refusal(&model).0, UNET);
    list("../../etc/passwd", bytes.len());
    assert_eq!(refusal(&model).0, "manifest.json");
    list(UNET, bytes.len());
    model.edit_file(UNET, |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(refusal(&model).2.contains("SHA-256"));
}

#[test]
fn a_damaged_model_leaves_the_device_usable() {
    let damaged = SmallModel::new();
    damaged.edit_file(UNET, |bytes| bytes.truncate(1000));
    let whole = SmallModel::new();
    for _ in 0..3 {
        assert!(damaged.load().is_err());
        let pipeline =
            Pipeline::load(&whole.manifest().unwrap(), &Device::Cpu, &mut |_| {}).unwrap();
        assert!(pipeline.generate(&Request::default(), &mut ()).is_ok());
    }
}
