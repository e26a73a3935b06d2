//! `warmq-worker generate` draws a picture, and `warmq-worker models check` examines a folder,
//! without RabbitMQ and Redis.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use warmq_tests::Program;
use warmq_tests::program::Output;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// Runs `generate` for the model `shapes` with these options, files being in `folder`.
async fn generate(folder: &TempDir, options: &[&str]) -> Output {
    let models = models();
    let mut args = vec!["generate", "--models", models.to_str().unwrap()];
    args.extend([
        "--model",
        "shapes",
        "--prompt",
        "a red circle on a blue background",
    ]);
    args.extend(["--device", "cpu"]);
    let paths: Vec<String> = options
        .iter()
        .map(|option| match option.strip_prefix('@') {
            Some(file) => folder.path().join(file).display().to_string(),
            None => (*option).to_owned(),
        })
        .collect();
    args.extend(paths.iter().map(String::as_str));
    Program::new("warmq-worker", &args).run().await
}

/// Writes a safetensors file of zeros with the tensor `latents` of this shape.
fn write_zeros(path: &Path, shape: [usize; 4]) {
    let bytes = 4 * shape.iter().product::<usize>();
    let header =
        format!(r#"{{"latents":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#);
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header.as_bytes(), &vec![0; bytes]].concat();
    std::fs::write(path, file).unwrap();
}

#[tokio::test]
async fn generate_draws_one_picture_in_the_format_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = generate(
        &folder,
        &["--seed", "7", "--steps", "10", "--out", "@a.png"],
    )
    .await;
    assert_eq!(out.code, Some(0), "{}", out.err);
    assert!(
        out.out
            .contains("a.png: 64 x 64 pixels, seed 7, loaded in "),
        "{}",
        out.out
    );
    assert_eq!(out.err, "loading shapes\ndrawing in 10 steps\n");
    let picture = image::open(folder.path().join("a.png"))
        .unwrap()
        .into_rgb8();
    let [red, _, blue] = picture.get_pixel(32, 32).0;
    assert!(red > blue, "the circle in the middle is red");

    let redraw = [
        "--image",
        "@a.png",
        "--strength",
        "0.5",
        "--steps",
        "4",
        "--out",
        "@b.jpg",
    ];
    let out = generate(&folder, &redraw).await;
    assert_eq!(out.code, Some(0), "{}", out.err);
    let jpeg = std::fs::read(folder.path().join("b.jpg")).unwrap();
    assert!(jpeg.starts_with(b"\xff\xd8\xff"));
}

#[tokio::test]
async fn generate_starts_from_given_noise_and_writes_the_final_latents() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "--seed",
        "1",
        "--steps",
        "2",
        "--dump",
        "@noise.safetensors",
        "--out",
        "@0.png",
    ];
    assert_eq!(generate(&folder, &options).await.code, Some(0));
    for (seed, out) in [("1", "@1.png"), ("2", "@2.png")] {
        let options = [
            "--seed",
            seed,
            "--steps",
            "2",
            "--latents",
            "@noise.safetensors",
        ];
        let output = generate(&folder, &[&options[..], &["--out", out]].concat()).await;
        assert_eq!(output.code, Some(0), "{}", output.err);
    }
    let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(
        file("1.png"),
        file("2.png"),
        "the noise is not that of the seed"
    );
    assert_ne!(file("0.png"), file("1.png"));

    write_zeros(&folder.path().join("small.safetensors"), [1, 4, 4, 8]);
    let options = [
        "--latents",
        "@small.safetensors",
        "--width",
        "64",
        "--height",
        "64",
    ];
    let output = generate(&folder, &[&options[..], &["--out", "@3.png"]].concat()).await;
    assert_eq!(output.code, Some(1));
    let shapes = "their shape is [1, 4, 4, 8], but 64 x 64 pixels need [1, 4, 8, 8]";
    assert!(output.err.contains(shapes), "{}", output.err);
}

#[tokio::test]
async fn generate_names_the_option_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.png"), "text").unwrap();
    for (options, part) in [
        (&["--out", "@a.gif"][..], "ends in none of .png"),
        (
            &["--model", "nope", "--out", "@a.png"],
            "cannot be used multiple times",
        ),
        (&["--steps", "0", "--out", "@a.png"], "steps: 0 is not in"),
        (
            &["--image", "@none.png", "--out", "@a.png"],
            "none.png cannot be read",
        ),
        (
            &["--image", "@text.png", "--out", "@a.png"],
            "not a PNG, JPEG or WebP",
        ),
        (
            &["--latents", "@text.png", "--out", "@a.png"],
            "not a safetensors file",
        ),
        (
            &["--lora", "a:0.5", "--out", "@a.png"],
            "--lora: a cannot be read",
        ),
        (&["--mask", "@text.png", "--out", "@a.png"], "--image"),
        (&["--out", "@no/folder/a.png"], "a.png cannot be written"),
    ] {
        let output = generate(&folder, options).await;
        assert_ne!(output.code, Some(0), "{options:?}");
        assert!(output.err.contains(part), "{options:?}: {}", output.err);
    }
}

async fn check(folder: &Path, json: bool) -> Output {
    let mut args = vec!["models", "check", folder.to_str().unwrap()];
    args.extend(json.then_some("--json"));
    Program::new("warmq-worker", &args).run().await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[tokio::test]
async fn models_are_listed_with_their_memory_or_with_what_is_wrong() {
    let sound = check(&models(), false).await;
    assert_eq!(sound.code, Some(0), "{}", sound.err);
    let shapes = sound.out.lines().find(|line| line.starts_with("shapes"));
    for part in ["sd", "64", "f16", "MiB", "text-to-image", "ddim"] {
        assert!(shapes.unwrap().contains(part), "{}", sound.out);
    }

    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file);
    for model in ["sound", "pointer", "pickled"] {
        copy(&models().join("shapes"), &path(model));
    }
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    std::fs::write(path("pointer").join(weights), pointer).unwrap();
    std::fs::remove_file(path("pickled/manifest.json")).unwrap();
    let unet = path("pickled").join("unet");
    std::fs::rename(
        path("pickled").join(weights),
        unet.join("diffusion_pytorch_model.bin"),
    )
    .unwrap();
    std::fs::write(path("flux-Q4.gguf"), "GGUF").unwrap();

    let broken = check(folder.path(), false).await;
    assert_eq!(broken.code, Some(1), "{}", broken.err);
    for part in [
        "git lfs pull",
        "GGUF is not supported",
        "save_pretrained",
        "replace the files",
    ] {
        assert!(broken.out.contains(part), "{part}: {}", broken.out);
    }
    let json = check(folder.path(), true).await;
    assert_eq!(json.code, Some(1));
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let errors: Vec<(&str, bool)> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|model| (model["model"].as_str().unwrap(), model["error"].is_string()))
        .collect();
    let expected = [
        ("flux-Q4", true),
        ("pickled", true),
        ("pointer", true),
        ("sound", false),
    ];
    assert_eq!(errors, expected);
    assert!(json[3]["gpu_bytes"].as_u64() < json[3]["cpu_bytes"].as_u64());

    let missing = check(&path("none"), false).await;
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.err.contains("cannot read the models folder"),
        "{}",
        missing.err
    );
}

#[tokio::test]
async fn help_lists_the_commands_beside_the_settings() {
    let help = Program::new("warmq-worker", &["--help"]).run().await.out;
    for part in ["Commands:", "generate", "models", "--memory-budget"] {
        assert!(help.contains(part), "{help}");
    }
}
