//! A single file of FLUX.1, which has the transformer only: the other parts are folders in
//! diffusers' layout.

use crate::error::Error;
use crate::folder::bad;
use crate::hugging_face::{self, Folder};
use crate::manifest::{FluxTransformerSpec, Manifest};

use super::folders::{PartFolders, SHARED};
use super::header::{Part, Tensors};
use super::{CONVERT, SingleFile};

/// Latent cells in a token of the picture.
const CELLS: i64 = 4;

/// Derives the manifest of a file. `folder`: the models folder; `prefix`: how the names of the
/// transformer's tensors begin.
pub(super) fn derive(
    tensors: &Tensors,
    prefix: &'static str,
    folder: Folder<'_>,
    file: &str,
) -> Result<Manifest, Error> {
    let refused = |message: String| bad(folder.model, file, message);
    let part = Part::new(tensors, prefix);
    if let Some(name) = tensors.keys().find(|name| !name.starts_with(prefix)) {
        return Err(refused(format!(
            "{name}: a file of FLUX.1 with other parts than the transformer is not supported: \
             {CONVERT}"
        )));
    }
    let transformer = transformer(part).map_err(refused)?;
    let folders = PartFolders::find(folder.path, folder.model);
    check_parts(&folders, folder.model).map_err(refused)?;
    let parts = Some(&folders);
    let manifest = hugging_face::derive_flux(Folder { parts, ..folder }, transformer)?;
    Ok(Manifest {
        dtype: part.dtype("img_in.weight"),
        single_file: Some(SingleFile {
            name: file.to_owned(),
            folders,
            prefix,
        }),
        ..manifest
    })
}

/// # Errors
/// A sentence that names the folders that are missing.
fn check_parts(folders: &PartFolders, model: &str) -> Result<(), String> {
    let missing: Vec<&str> = (SHARED.into_iter())
        .filter(|part| !folders.have(part))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "it has the transformer only, and these folders are missing: {}; copy or link them \
             from FLUX.1 in diffusers' layout into the models folder, or into {model}/",
            missing.join(", ")
        )),
    }
}

/// Returns the transformer's shape.
///
/// # Errors
/// A sentence that names the tensor that is missing.
fn transformer(part: Part<'_>) -> Result<FluxTransformerSpec, String> {
    let width = part.size("img_in.weight", 0)?;
    let head_size = part.size("double_blocks.0.img_attn.norm.query_norm.scale", 0)?;
    let blocks = |kind: &str, layer: &str| {
        part.count(|index| format!("{kind}_blocks.{index}.{layer}.weight"))
    };
    Ok(FluxTransformerSpec {
        double_blocks: blocks("double", "img_attn.proj"),
        single_blocks: blocks("single", "linear2"),
        heads: width / head_size.max(1),
        head_size,
        latent_channels: part.size("img_in.weight", 1)? / CELLS,
        text_width: part.size("txt_in.weight", 1)?,
        pooled_width: part.size("vector_in.in_layer.weight", 1)?,
        guidance: part.has("guidance_in.in_layer.weight"),
        rope_axes: rope_axes(head_size),
    })
}

/// Returns the axes of the published model: an eighth of a head for the page, or more if that
/// leaves no even numbers for rows and columns.
fn rope_axes(head_size: i64) -> [i64; 3] {
    let page = (head_size / 8..head_size)
        .find(|page| page % 2 == 0 && (head_size - page) % 4 == 0)
        .unwrap_or(0);
    let side = (head_size - page) / 2;
    [page, side, side]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axes_of_a_head_are_even_and_those_of_the_published_model() {
        assert_eq!(rope_axes(128), [16, 56, 56]);
        assert_eq!(rope_axes(16), [4, 6, 6]);
        assert_eq!(rope_axes(0), [0, 0, 0]);
    }
}
