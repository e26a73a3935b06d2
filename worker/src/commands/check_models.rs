//! `warmq-worker models check`: what a worker would serve from a folder, and why it refuses the
//! rest. Reads no weights: sizes come from the headers of the files.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use warmq_config::ByteSize;
use warmq_diffusion::{Catalog, Error, Pipeline, SchedulerKind, WeightSizes};
use warmq_types::table::Table;
use warmq_types::text::with_causes;

/// Exit status if any model is broken.
const EXIT_BROKEN: u8 = 1;

/// Exit status if the folder cannot be read.
const EXIT_UNREADABLE: u8 = 2;

/// Options of `models check`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder with one folder per model
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// A model and the result of its check.
#[derive(Debug, Serialize)]
struct CheckedModel {
    model: String,
    #[serde(flatten)]
    result: CheckResult,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum CheckResult {
    Servable(Box<ModelSummary>),
    Broken { error: String },
}

/// What a worker needs for a model, and what the model can do.
#[derive(Debug, Serialize)]
struct ModelSummary {
    family: String,
    /// Default width and height, pixels.
    resolution: u32,
    /// Types of the stored weights.
    types: Vec<String>,
    /// The weights in the files.
    disk_bytes: u64,
    /// The weights in memory on a CPU.
    cpu_bytes: u64,
    /// The weights in memory on a GPU.
    gpu_bytes: u64,
    tasks: Vec<&'static str>,
    schedulers: Vec<SchedulerKind>,
}

/// Checks the models of a folder, prints the result and returns the exit status.
pub fn run(args: &Args) -> ExitCode {
    let catalog = match Catalog::open(&args.folder) {
        Ok(catalog) => catalog,
        Err(error) => {
            eprintln!("warmq-worker: {}", with_causes(&error));
            return EXIT_UNREADABLE.into();
        }
    };
    let models = check(&catalog);
    match args.json {
        true => println!("{}", serde_json::json!(models)),
        false => print!("{}", text(&models)),
    }
    let is_broken = |model: &CheckedModel| matches!(model.result, CheckResult::Broken { .. });
    match models.iter().any(is_broken) {
        true => EXIT_BROKEN.into(),
        false => ExitCode::SUCCESS,
    }
}

/// Checks each model of the catalog, and what looks like one, sorted by name.
fn check(catalog: &Catalog) -> Vec<CheckedModel> {
    let broken = |error: &Error| CheckResult::Broken {
        error: with_causes(error),
    };
    let models = catalog.names().into_iter().map(|model| CheckedModel {
        result: match summary(catalog, &model) {
            Ok(summary) => CheckResult::Servable(Box::new(summary)),
            Err(error) => broken(&error),
        },
        model,
    });
    let unsupported = catalog.unsupported();
    let unsupported = unsupported.iter().map(|error| CheckedModel {
        model: match error {
            Error::BadCheckpoint { model, .. } => model.clone(),
            _ => String::new(),
        },
        result: broken(error),
    });
    let unreadable = catalog.unreadable().into_iter().map(|model| CheckedModel {
        model,
        result: CheckResult::Broken {
            error: "the folder cannot be read: allow it, e.g. with chmod".to_owned(),
        },
    });
    let mut checked: Vec<CheckedModel> = models.chain(unsupported).chain(unreadable).collect();
    checked.sort_by(|one, other| one.model.cmp(&other.model));
    checked
}

fn summary(catalog: &Catalog, model: &str) -> Result<ModelSummary, Error> {
    let manifest = catalog.manifest(model)?;
    let WeightSizes {
        stored_bytes,
        cpu_bytes,
        gpu_bytes,
        types,
    } = Pipeline::weight_sizes(&manifest)?;
    Ok(ModelSummary {
        family: manifest.networks.family().to_owned(),
        resolution: manifest.image.default,
        types,
        disk_bytes: stored_bytes,
        cpu_bytes,
        gpu_bytes,
        tasks: match manifest.networks.takes_mask() {
            true => vec!["inpainting"],
            false => vec!["text-to-image", "image-to-image", "inpainting"],
        },
        schedulers: manifest.scheduler.allowed,
    })
}

/// Formats the result for people.
fn text(models: &[CheckedModel]) -> String {
    if models.is_empty() {
        return "no models: each is a folder with a model_index.json or a manifest.json\n"
            .to_owned();
    }
    let header = [
        "model",
        "family",
        "pixels",
        "type",
        "disk",
        "cpu",
        "gpu",
        "tasks",
        "schedulers",
    ];
    let mut table = Table::new(header).right([2, 4, 5, 6]);
    let mut errors = String::new();
    for CheckedModel { model, result } in models {
        match result {
            CheckResult::Servable(summary) => table.row(cells(model, summary)),
            CheckResult::Broken { error } => {
                table.row([model.as_str(), "broken"]);
                errors.push_str(&format!("\n{error}\n"));
            }
        }
    }
    if !errors.is_empty() {
        errors
            .push_str("\nbroken models are not served: replace the files, or remove the models\n");
    }
    format!("{table}\n{errors}")
}

fn cells(model: &str, summary: &ModelSummary) -> [String; 9] {
    let schedulers = summary.schedulers.iter().map(|kind| kind.name());
    [
        model.to_owned(),
        summary.family.clone(),
        summary.resolution.to_string(),
        summary.types.join("+"),
        ByteSize(summary.disk_bytes).to_string(),
        ByteSize(summary.cpu_bytes).to_string(),
        ByteSize(summary.gpu_bytes).to_string(),
        summary.tasks.join(","),
        schedulers.collect::<Vec<_>>().join(","),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn shipped_models_are_servable_and_larger_in_memory_than_in_half_precision_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let models = check(&Catalog::open(&folder).unwrap());
        let names: Vec<&str> = models.iter().map(|model| model.model.as_str()).collect();
        assert_eq!(names, ["digits", "landscapes", "shapes"]);
        for model in &models {
            let CheckResult::Servable(summary) = &model.result else {
                panic!("{model:?}");
            };
            assert_eq!((summary.resolution, summary.family.as_str()), (64, "sd"));
            assert_eq!(summary.types, ["f16"]);
            assert_eq!(summary.cpu_bytes, 2 * summary.disk_bytes);
            assert!(summary.gpu_bytes < summary.cpu_bytes);
        }
        let text = text(&models);
        assert_eq!(text.lines().count(), 4, "{text}");
        let json = serde_json::json!(models);
        assert_eq!(json[2]["model"], "shapes");
        assert_eq!(json[2]["schedulers"][0], "ddim");
    }

    #[test]
    fn the_full_sentence_about_a_broken_model_follows_the_table() {
        let models = [CheckedModel {
            model: "flux".to_owned(),
            result: CheckResult::Broken {
                error: "GGUF is not supported".to_owned(),
            },
        }];
        let text = text(&models);
        assert!(
            text.contains("flux   broken\n\nGGUF is not supported\n"),
            "{text}"
        );
        let json = serde_json::json!(models);
        assert_eq!(json[0]["error"], "GGUF is not supported");
    }
}
